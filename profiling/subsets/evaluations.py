"""Ask for outcomes: those on disk are read, the others are measured and kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from models.checkpoint import snapshot_directory
from models.weights_digest import weights_digest
from profiling.environment import cpu_name
from profiling.subsets.cluster import ClusterCrew
from profiling.subsets.data import samples_digest
from profiling.subsets.job import NO_COST, Job, Outcome, Part
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.pool import WorkerPool
from profiling.subsets.processes import ProcessCrew
from profiling.subsets.retry import FailureLog, Retries
from profiling.subsets.runner import LocalRunner, Runner
from profiling.subsets.store import ResultStore, claim

Advance = Callable[[], None]
"""Called whenever one more job is done."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where jobs are done.

    Args:
        device: Kind of device.
        devices: How many of them, a process each.
        num_threads: CPU threads of each process; PyTorch's choice if null.
        retries: What to do after a CUDA error.
        ray_address: Of a Ray cluster whose devices do the jobs instead of this machine's.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    devices: int = 1
    num_threads: int | None = None
    retries: Retries = field(default_factory=Retries)
    ray_address: str | None = None

    def __post_init__(self) -> None:
        for name, count in {"devices": self.devices, "num_threads": self.num_threads}.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}: must be 1 or more, got {count}")

    @property
    def names(self) -> list[str]:
        """Names of the devices."""
        return ["cpu" if self.device == "cpu" else f"cuda:{rank}" for rank in range(self.devices)]

    @property
    def hardware(self) -> str:
        """What the devices are, as captions name it."""
        if self.ray_address is not None:
            return f"{self.devices} workers of a cluster"
        name = cpu_name() if self.device == "cpu" else torch.cuda.get_device_name()
        return name if self.devices == 1 else f"{self.devices} x {name}"

    def check(self) -> None:
        """Look for the devices.

        Raises:
            ValueError: If there are too few.
        """
        if self.ray_address is None and self.device == "cuda" and torch.cuda.device_count() < self.devices:
            raise ValueError(
                f"devices: {self.devices} CUDA devices asked for, this machine has {torch.cuda.device_count()}"
            )


class Evaluations:
    """Outcomes of jobs.

    Args:
        store: Where they are kept.
        runner: Does those that are not there.

    Attributes:
        num_found: Outcomes that were there.
        spent: What those took that were not.
    """

    def __init__(self, store: ResultStore, runner: Runner) -> None:
        self._store = store
        self._runner = runner
        self.num_found = 0
        self.spent = NO_COST

    def outcomes(self, jobs: Sequence[Job], advance: Advance = lambda: None) -> list[Outcome]:
        """Return the outcome of each job; a job that is asked for twice is done once.

        Raises:
            ValueError: If a result file is damaged, or a job met a user's mistake.
            RuntimeError: If a job failed as often as it may.
        """
        found: dict[Job, Outcome] = {}
        left: list[Job] = []
        for job in dict.fromkeys(jobs):
            outcome = self._store.read(job)
            if outcome is None:
                left.append(job)
            else:
                found[job] = outcome
                advance()
        self.num_found += len(found)
        # Whoever does them keeps the encoded samples of one part.
        left.sort(key=lambda job: job.part)
        for job, outcome in self._runner.run(left):
            self._store.write(job, outcome)
            self.spent += outcome.cost
            # As it was written, rounded, so that a run that goes on decides as one that was not stopped.
            kept = self._store.read(job)
            assert kept is not None
            found[job] = kept
            advance()
        return [found[job] for job in jobs]


@contextmanager
def open_evaluations(
    evaluated: EvaluatedModel, output_dir: Path, machine: Machine, *, num_samples: dict[Part, list[int]]
) -> Iterator[Evaluations]:
    """Claim a folder for a model's results, and let go of the devices at the end.

    Args:
        evaluated: The model and the way that it is asked.
        output_dir: The folder.
        machine: Where jobs are done.
        num_samples: Numbers of samples that will be measured, by part.

    Raises:
        ValueError: If there are too few devices or samples, or the folder holds other results.
    """
    machine.check()
    claims = {"evaluated.json": _described(evaluated)}
    for part, numbers in num_samples.items():
        for number in numbers:
            digest = samples_digest(evaluated.data.samples(part, number))
            claims[f"samples-{part}-{number}.json"] = {"samples": digest}
    for file_name, described in claims.items():
        claim(output_dir, described, file_name=file_name)
    store = ResultStore(output_dir / "results", evaluated.data.dataset_names)
    runner = _runner(evaluated, machine, FailureLog(output_dir / "failures.jsonl"))
    try:
        yield Evaluations(store, runner)
    finally:
        runner.close()


def _runner(evaluated: EvaluatedModel, machine: Machine, failures: FailureLog) -> Runner:
    """Choose who does the jobs: a cluster, processes, or this process, which is enough for one CPU."""
    num_threads, retries = machine.num_threads, machine.retries
    if machine.ray_address is not None:
        cluster = ClusterCrew(
            evaluated, machine.ray_address, kind=machine.device, size=machine.devices, num_threads=num_threads
        )
        return WorkerPool(cluster, retries=retries, failures=failures)
    if machine.device == "cpu" and machine.devices == 1:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        return LocalRunner(evaluated, device="cpu", retries=retries, failures=failures)
    processes = ProcessCrew(evaluated, machine.names, num_threads=num_threads)
    return WorkerPool(processes, retries=retries, failures=failures)


def _described(evaluated: EvaluatedModel) -> dict[str, Any]:
    """Name what results depend on, besides the samples."""
    described = asdict(evaluated)
    del described["batch_size"], described["cache_gib"], described["data"]["root"]
    weights = weights_digest(snapshot_directory(evaluated.model.name))
    return {**described, "weights": weights, "shape": evaluated.model.hf_config()}
