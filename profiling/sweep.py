"""The ``profile`` command: sweep knob settings over requests, on one device or several, and go on where it stopped."""

import json
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.checkpoint import load_molmo, random_molmo, read_hf_config, snapshot_directory
from models.config import MolmoConfig, released_hf_config
from models.engine import Engine, EngineName, make_engine
from models.knobs import MOLMOE_1B_GRID, KnobGrid, Tier, Tiling, own_grid, spread_blocks
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.released import RELEASED
from models.tokenizer import SpecialTokens, load_tokenizer
from profiling.block_table import read_block_table
from profiling.environment import collect_environment
from profiling.files import written_whole
from profiling.jsonl import JsonlWriter, drop_cut_line, existing_keys
from profiling.profile_plots import plot_components
from profiling.profile_summary import print_summary
from profiling.profiler import KEY_FIELDS, Key, Plan, Profiler
from profiling.questions import Questions
from profiling.records import read_profiles, write_profile
from profiling.schema import Environment, ProfileError, ProfileRecord
from profiling.workload import Request, Workload, make_requests

_log = logging.getLogger(__name__)

DtypeName = Literal["float32", "bfloat16", "float16"]
_SETTINGS_FILE = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The model to measure.

    Args:
        name: A snapshot directory, a hub id in the local cache, or, with random weights, a released model's name.
        random_weights: Build the shape without weights; every record says so.
        router_skew: With random weights: how unevenly the routers choose; 0 is almost even.
        dtype: Type of the weights.
    """

    name: str
    random_weights: bool = False
    router_skew: float = 0.0
    dtype: DtypeName = "bfloat16"

    def load(self, device: str) -> Molmo:
        """Load or build the model on a device."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        if self.random_weights:
            return random_molmo(self.name, device=device, dtype=dtype, router_skew=self.router_skew)
        return load_molmo(self.name, device=device, dtype=dtype)

    def hf_config(self) -> dict[str, Any]:
        """Return the content of the model's ``config.json``."""
        if self.random_weights and self.name in RELEASED:
            return released_hf_config(self.name)
        return read_hf_config(snapshot_directory(self.name))

    def processor(self, model: Molmo, device: str, *, reads_words: bool) -> MolmoProcessor:
        """Make the model's processor on a device, with its tokenizer where it reads words.

        Raises:
            ValueError: If the tokenizer is missing or damaged.
        """
        if not reads_words:
            return MolmoProcessor(model.config, SpecialTokens.of_shape(model.config), device=device)
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(self.name))
        return MolmoProcessor(model.config, special_tokens, tokenizer, device=device)


@dataclass(frozen=True, kw_only=True)
class GridLevels:
    """Levels of the knobs to measure. What is null is as in the grid that the model was trained for, else MolmoE-1B's.

    Args:
        tiers: Image tiers, cheapest first.
        top_k: Experts per token; ``[0]`` for a dense model.
        num_active_blocks: How many blocks run; which ones, unless null, is spread evenly over the model.
        block_table: File of ``prune`` that says which blocks run instead.
    """

    tiers: tuple[Tier, ...] | None = None
    top_k: tuple[int, ...] | None = None
    num_active_blocks: tuple[int, ...] | None = None
    block_table: str | None = None

    def grid(self, config: MolmoConfig, own: KnobGrid | None = None) -> KnobGrid:
        """Build the grid for a model.

        Args:
            config: Shape of the model.
            own: The grid that it was trained for, if any.

        Raises:
            ValueError: If the model has not that many blocks or experts, or the block table is another model's.
        """
        usual = own or MOLMOE_1B_GRID
        grid = KnobGrid(
            tiers=usual.tiers if self.tiers is None else self.tiers,
            top_k=usual.top_k if self.top_k is None else self.top_k,
            blocks_by_count=self._blocks_by_count(config, own),
        )
        for setting in grid.settings():
            setting.check(num_blocks=config.num_blocks, num_experts=config.num_experts)
        return grid

    def _blocks_by_count(self, config: MolmoConfig, own: KnobGrid | None) -> Mapping[int, tuple[int, ...]]:
        if self.block_table is not None:
            return read_block_table(self.block_table).blocks_by_count(config, self.num_active_blocks)
        if own is not None and self.num_active_blocks is None:
            return own.blocks_by_count
        usual = MOLMOE_1B_GRID.blocks_by_count
        counts = tuple(usual) if self.num_active_blocks is None else self.num_active_blocks
        return {count: spread_blocks(config.num_blocks, count) for count in counts}


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
        hf_config, name = self.model.hf_config(), self.model.name
        config = MolmoConfig.from_hf(hf_config, source=name)
        return Plan(
            requests=self._requests(),
            grid=self.levels.grid(config, own_grid(hf_config, source=name)),
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
            sweep=sweep,
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
            _run_workers(workers, lambda: progress.advance(task))
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, the same command goes on with the rest")
        raise
    _finish(output_dir, console)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process's share of a sweep.

    Args:
        sweep: What the whole sweep measures.
        plan: The share of this worker.
        done: Measurements to skip.
        path: Where its records go.
        device: Where it runs.
        num_threads: CPU threads; PyTorch's choice if ``None``.
    """

    sweep: Sweep
    plan: Plan
    done: frozenset[Key]
    path: Path
    device: str
    num_threads: int | None

    def run(self, advance: Callable[[], None]) -> None:
        """Measure the share; ``advance`` is called after each record."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        source = self.sweep.model
        model = source.load(self.device)
        processor = source.processor(model, self.device, reads_words=self.sweep.questions is not None)
        engine = make_engine(self.sweep.engine, model)
        environment = self._environment(source, engine)
        with JsonlWriter(self.path, environment) as writer:

            def write(record: ProfileRecord) -> None:
                writer.write(record)
                advance()

            Profiler(model, processor, self.plan, engine=engine).run(done=self.done, write=write)

    def _environment(self, source: ModelSource, engine: Engine) -> Environment:
        return collect_environment(
            torch.device(self.device),
            engine=engine.name,
            dtype=source.dtype,
            model=source.name,
            model_shape=source.hf_config(),
            random_weights=source.random_weights,
            router_skew=source.router_skew if source.random_weights else None,
        )


def _run_workers(workers: Sequence[Worker], advance: Callable[[], None]) -> None:
    """Run one worker in this process, several in processes of their own.

    Raises:
        ValueError: If a worker met a user's mistake.
        RuntimeError: If a worker's process failed otherwise; its own error stands above.
    """
    if len(workers) == 1:
        workers[0].run(advance)
        return
    context = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    for worker in workers:
        pipe, workers_end = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(worker, workers_end), daemon=True)
        process.start()
        workers_end.close()  # or the pipe would stay open when the worker is killed
        processes.append(process)
        pipes.append(pipe)
    try:
        mistakes = _listen(pipes, advance)
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
    if mistakes:
        raise ValueError(mistakes[0])
    failed = {worker.device: process.exitcode for worker, process in zip(workers, processes, strict=True)}
    if any(failed.values()):
        raise RuntimeError(f"workers ended with {failed}; what was measured is kept, the same command goes on")


def _work(worker: Worker, pipe: Connection) -> None:
    """Run a worker in its process: tells ``None`` for each record, and the sentence of a user's mistake."""
    # An interrupt reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker.run(lambda: pipe.send(None))
    except ValueError as err:
        pipe.send(str(err))
        sys.exit(1)


def _listen(pipes: Sequence[Connection], advance: Callable[[], None]) -> list[str]:
    """Hear workers until the last one's end, and return the mistakes that they met."""
    mistakes: list[str] = []
    working = list(pipes)
    while working:
        for pipe in wait(working):
            assert isinstance(pipe, Connection)
            try:
                mistake: str | None = pipe.recv()
            except EOFError:
                working.remove(pipe)
                continue
            if mistake is None:
                advance()
            else:
                mistakes.append(mistake)
    return mistakes


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
    if claimed != json.loads(settings):
        raise ProfileError(f"output_dir: {file} describes another sweep; give its arguments again or another folder")


def _done(output_dir: Path) -> frozenset[Key]:
    keys: set[Key] = set()
    for path in sorted(output_dir.glob("measurements-*.jsonl")):
        keys |= existing_keys(path, KEY_FIELDS)
    return frozenset(keys)


def progress_bar(console: Console) -> Progress:
    """Return a bar with counts, time passed and time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
