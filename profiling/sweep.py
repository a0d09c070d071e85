"""The ``profile`` command: sweep knob settings over requests, on one device or several, and go on where it stopped."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from rich.console import Console

from models.engine import EngineName
from models.knobs import Tiling
from profiling.files import switched_on, written_whole
from profiling.jsonl import drop_cut_line, existing_keys
from profiling.model_source import GridLevels, ModelSource
from profiling.profile_plots import plot_components
from profiling.profile_summary import print_summary
from profiling.profiler import KEY_FIELDS, Key, Plan
from profiling.progress import progress_bar
from profiling.questions import Questions
from profiling.records import read_profiles, write_profile
from profiling.schema import ProfileError
from profiling.sweep_workers import Worker, run_workers
from profiling.workload import Request, Workload, make_requests

_SETTINGS_FILE = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep measures; the same for the run that starts it and those that resume it.

    Args:
        model: The model.
        workload: The requests, where only time matters.
        questions: The requests, where answers are scored too; this or a workload.
        levels: The knobs.
        tiling: How tiers are applied to images.
        engine: How the model runs; where it cannot, eagerly, which the log and the records say.
        repeats: Timed runs of each request and setting.
        settings_per_request: Measure only so many settings of each request, drawn at random; all if null.
        seed: Of the order of measurements.

    Raises:
        ValueError: If there would be nothing to measure, or both a workload and questions.
    """

    model: ModelSource
    workload: Workload | None = None
    questions: Questions | None = None
    levels: GridLevels = field(default_factory=GridLevels)
    tiling: Tiling = "target"
    engine: EngineName = "eager"
    repeats: int = 3
    settings_per_request: int | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        if (self.workload is None) == (self.questions is None):
            found = "neither" if self.workload is None else "both"
            raise ValueError(f"workload and questions: give one of them, got {found}")
        for name, count in {"repeats": self.repeats, "settings_per_request": self.settings_per_request}.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}: must be 1 or more, got {count}")

    def plan(self) -> Plan:
        """Lay out the measurements."""
        return Plan(
            requests=self._requests(),
            grid=self.levels.grid_of(self.model),
            repeats=self.repeats,
            tiling=self.tiling,
            settings_per_request=self.settings_per_request,
            seed=self.seed,
        )

    def _requests(self) -> Sequence[Request]:
        if self.questions is not None:
            return self.questions.requests()
        assert self.workload is not None
        return make_requests(self.workload)


def profile(
    sweep: Sweep,
    output_dir: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    num_threads: int | None = None,
) -> None:
    """Measure how long each component takes, for every request and knob setting, and how right the answers are.

    Writes one JSON Lines row a measurement to ``output_dir``; started again with the same arguments it goes on where it
    stopped. At the end it joins the rows to ``profile.parquet``, prints a summary and draws ``components.png``.

    Args:
        sweep: What to measure.
        output_dir: Folder of the results.
        device: Where to run.
        devices: How many devices of that kind; the requests are shared out among them, one process each.
        num_threads: CPU threads of each process; PyTorch's choice if null.

    Raises:
        ValueError: If the model cannot be loaded, has not the levels asked for, or there are too few devices.
        ProfileError: If the folder holds another sweep, or another run is writing to it.
    """
    console = Console()
    plan = sweep.plan()
    _check_devices(device, devices, num_threads)
    _claim(output_dir, sweep)
    done = _done(output_dir)
    left = [request for request in plan.requests if not plan.keys(request) <= done]
    total = sum(len(plan.keys(request)) for request in plan.requests)
    console.print(f"{total} measurements of {len(plan.requests)} requests, {len(done)} done before, into {output_dir}")
    workers = [
        Worker(
            source=sweep.model,
            engine=sweep.engine,
            plan=replace(plan, requests=left[rank::devices]),
            done=done,
            path=output_dir / f"measurements-{rank}.jsonl",
            device=f"{device}:{rank}" if device == "cuda" else device,
            num_threads=num_threads,
        )
        for rank in range(min(devices, len(left)))
    ]
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("measuring", total=total, completed=len(done))
            run_workers(workers, lambda: progress.advance(task))
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, the same command goes on with the rest")
        raise
    _finish(output_dir, console)


def _finish(output_dir: Path, console: Console) -> None:
    """Join the rows of all workers, and show them."""
    paths = sorted(output_dir.glob("measurements-*.jsonl"))
    for path in paths:
        drop_cut_line(path)  # of a worker that this run, with fewer devices, has not
    table = read_profiles([path for path in paths if existing_keys(path, KEY_FIELDS)])
    write_profile(table, output_dir / "profile.parquet")
    print_summary(table, console)
    figure = plot_components(table.to_pandas(), table.environment)
    with written_whole(output_dir / "components.png") as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
    console.print(f"wrote {output_dir / 'profile.parquet'} and {output_dir / 'components.png'}")


def _check_devices(device: str, devices: int, num_threads: int | None) -> None:
    for name, count in {"devices": devices, "num_threads": num_threads}.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}: must be 1 or more, got {count}")
    if device == "cuda" and torch.cuda.device_count() < devices:
        raise ValueError(f"devices: {devices} CUDA devices asked for, this machine has {torch.cuda.device_count()}")


def _claim(output_dir: Path, sweep: Sweep) -> None:
    """Note in the folder what is measured there, or check that a folder in use measures the same."""
    file = output_dir / _SETTINGS_FILE
    settings = json.dumps(asdict(sweep), indent=2)
    if not file.exists():
        output_dir.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as partial:
            partial.write_text(settings + "\n")
        return
    try:
        claimed = json.loads(file.read_text())
    except ValueError as err:
        raise ProfileError(f"output_dir: {file} is not JSON ({err}); remove it or give another folder") from err
    if switched_on(claimed) != switched_on(json.loads(settings)):
        raise ProfileError(f"output_dir: {file} describes another sweep; give its arguments again or another folder")


def _done(output_dir: Path) -> frozenset[Key]:
    keys: set[Key] = set()
    for path in sorted(output_dir.glob("measurements-*.jsonl")):
        keys |= existing_keys(path, KEY_FIELDS)
    return frozenset(keys)
