"""Do jobs with several workers at once.

A worker that fails is replaced by a new one: some CUDA errors last as long as their process. A job that failed is the
next to be tried, and a device that only fails ends the run, so that no error is waited for longer than one job's tries.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Generic

from profiling.subsets.crew import Crew, Failure, W
from profiling.subsets.job import Job, Outcome
from profiling.subsets.retry import FailureLog, Retries, given_up


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
        self._failures_in_a_row: Counter[int] = Counter()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """See ``Runner``."""
        waiting = deque(jobs)
        failed: Counter[Job] = Counter()
        while waiting or self._busy:
            self._give_out(waiting)
            for worker in self._crew.ready(list(self._busy)):
                job, answer = self._busy.pop(worker), worker.heard()
                if isinstance(answer, Outcome):
                    self._failures_in_a_row[worker.rank] = 0
                    self._idle.append(worker)
                    yield job, answer
                    continue
                failed[job] += 1
                self._replace(worker, job, answer, attempts=failed[job])
                waiting.appendleft(job)

    def close(self) -> None:
        """End the workers."""
        for worker in (*self._idle, *self._busy):
            worker.stop()
        self._idle.clear()
        self._busy.clear()
        self._crew.close()

    def _replace(self, worker: W, job: Job, failure: Failure, *, attempts: int) -> None:
        """Start another worker in a failed one's place, or end the run if there is no sense in another try."""
        worker.stop()
        self._failures.add(job, attempt=attempts, device=worker.device, reason=failure.reason)
        if failure.mistake is not None:
            raise ValueError(failure.mistake)
        if not self._retries.allows(failure.fault, attempts=attempts):
            raise given_up(job, failure.reason)
        self._failures_in_a_row[worker.rank] += 1
        in_a_row = self._failures_in_a_row[worker.rank]
        if in_a_row > self._retries.most:
            raise given_up(job, f"{failure.reason}; {worker.device} failed {in_a_row} times one after another")
        self._idle.append(self._crew.start(worker.rank, wait_s=self._retries.wait_s))

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
