"""Do jobs in this process."""

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from profiling.subsets.job import EvaluatorSource, Job, Outcome, SubsetEvaluator
from profiling.subsets.retry import FailureLog, Retries, clean_memory, fault_of, given_up, reason_of


class Runner(Protocol):
    """Does jobs, in any order."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Do jobs and give each outcome as soon as it is there.

        Raises:
            ValueError: If a job met a user's mistake.
            RuntimeError: If a job failed as often as it may.
        """

    def close(self) -> None:
        """Let go of the model."""


class LocalRunner:
    """Does one job after another, on one device; the model is loaded for the first of them.

    Args:
        source: Makes the evaluator.
        device: Where it works.
        retries: What to do after a CUDA error.
        failures: Where failures are written down.
    """

    def __init__(self, source: EvaluatorSource, *, device: str, retries: Retries, failures: FailureLog) -> None:
        self._source = source
        self._device = device
        self._retries = retries
        self._failures = failures
        self._evaluator: SubsetEvaluator | None = None

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """See ``Runner``."""
        for job in jobs:
            yield job, self._tried(job)

    def close(self) -> None:
        """See ``Runner``."""
        self._evaluator = None

    def _tried(self, job: Job) -> Outcome:
        for attempt in range(1, self._retries.most + 2):
            try:
                return self._done(job)
            except Exception as err:
                fault, reason = fault_of(err), reason_of(err)
                self._failures.add(job, attempt=attempt, device=self._device, reason=reason)
                if fault is None:
                    raise
                if not self._retries.allows(fault, attempts=attempt):
                    raise given_up(job, reason) from err
            # Out of the handler, which still holds what failed.
            self._evaluator = None
            clean_memory()
            time.sleep(self._retries.wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _done(self, job: Job) -> Outcome:
        if self._evaluator is None:
            self._evaluator = self._source.evaluator(self._device)
        return self._evaluator.evaluate(job)
