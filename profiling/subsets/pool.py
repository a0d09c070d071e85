"""Do jobs with several workers at once.

A worker that fails is replaced by a new one: some CUDA errors last as long as their process.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Generic

from profiling.subsets.crew import Crew, Failure, W
from profiling.subsets.job import Job, Outcome
from profiling.subsets.retry import FailureLog, Retries


class WorkerPool(Generic[W]):
    """Shares jobs out among workers. They start with the first jobs, and keep their model.

    Args:
        crew: Has the workers.
        retries: What to do after a CUDA error, or when a worker ends by itself.
        failures: Where failures are written down.
    """

    def __init__(self, crew: Crew[W], *, retries: Retries, failures: FailureLog) -> None:
        self._crew = crew
        self._retries = retries
        self._failures = failures
        self._idle: list[W] = []
        self._busy: dict[W, Job] = {}

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """See ``Runner``."""
        waiting = deque(jobs)
        failed: Counter[Job] = Counter()
        while waiting or self._busy:
            self._give_out(waiting)
            for worker in self._crew.ready(list(self._busy)):
                job, answer = self._busy.pop(worker), worker.heard()
                if isinstance(answer, Outcome):
                    self._idle.append(worker)
                    yield job, answer
                    continue
                worker.stop()
                failed[job] += 1
                self._failures.add(job, attempt=failed[job], device=worker.device, reason=answer.reason)
                self._check(job, answer, failed[job])
                self._idle.append(self._crew.start(worker.rank, wait_s=self._retries.wait_s))
                waiting.append(job)

    def close(self) -> None:
        """End the workers."""
        for worker in (*self._idle, *self._busy):
            worker.stop()
        self._idle.clear()
        self._busy.clear()
        self._crew.close()

    def _check(self, job: Job, failure: Failure, attempts: int) -> None:
        """End the run if there is no sense in another try."""
        if failure.mistake is not None:
            raise ValueError(failure.mistake)
        if not failure.may_retry or attempts > self._retries.most:
            raise RuntimeError(f"{job}: {failure.reason}; what was measured is kept, the same command goes on")

    def _give_out(self, waiting: deque[Job]) -> None:
        """Give each idle worker a job; start as many as there are jobs and places for."""
        used = {worker.rank for worker in (*self._idle, *self._busy)}
        free = [rank for rank in range(self._crew.size) if rank not in used]
        for rank in free[: max(0, len(waiting) - len(self._idle))]:
            self._idle.append(self._crew.start(rank, wait_s=0.0))
        while waiting and self._idle:
            worker = self._idle.pop(0)
            self._busy[worker] = waiting.popleft()
            worker.give(self._busy[worker])
