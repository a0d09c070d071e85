"""Who does jobs for a pool: workers, of whatever kind, and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from profiling.subsets.job import EvaluatorSource, Job, Outcome, SubsetEvaluator
from profiling.subsets.retry import Fault, fault_of, reason_of


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a worker could not do its job.

    Args:
        reason: The error.
        mistake: The sentence of a user's mistake, if it was one.
        fault: What failed, if another try may succeed.
    """

    reason: str
    mistake: str | None = None
    fault: Fault | None = None


class Worker(Protocol):
    """Does one job at a time."""

    @property
    def rank(self) -> int:
        """Its place in the crew."""

    @property
    def device(self) -> str:
        """Where it works, as failures call it."""

    def give(self, job: Job) -> None:
        """Give it a job; it must be idle."""

    def heard(self) -> Outcome | Failure:
        """Return what it has to tell about its job."""

    def stop(self) -> None:
        """End it, whatever it is doing."""


W = TypeVar("W", bound=Worker)


class Crew(Protocol[W]):
    """Has workers of one kind."""

    @property
    def size(self) -> int:
        """How many may work at once."""

    def start(self, rank: int, *, wait_s: float) -> W:
        """Start a worker, which waits some seconds before its first job."""

    def ready(self, busy: Sequence[W]) -> list[W]:
        """Wait until some of the workers have something to tell, and return those."""

    def close(self) -> None:
        """Let go of what the workers shared; they have been stopped."""


class Attempts:
    """What a worker does in its own process: make the evaluator with the first job, and tell errors as failures.

    Args:
        source: Makes the evaluator.
        device: Where it works.
    """

    def __init__(self, source: EvaluatorSource, device: str) -> None:
        self._source = source
        self._device = device
        self._evaluator: SubsetEvaluator | None = None

    def attempt(self, job: Job) -> Outcome | Failure:
        """Do a job."""
        try:
            self._evaluator = self._evaluator or self._source.evaluator(self._device)
            return self._evaluator.evaluate(job)
        except Exception as err:  # noqa: BLE001  # told to the process that asked
            mistake = str(err) if isinstance(err, ValueError) else None
            return Failure(reason=reason_of(err), mistake=mistake, fault=fault_of(err))
