"""Do jobs in processes of their own, one a device.

A process that fails is replaced by a new one: some CUDA errors last as long as their process.
"""

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from profiling.subsets.job import EvaluatorSource, Job, Outcome
from profiling.subsets.retry import FailureLog, Retries, is_cuda_error, reason_of

_JOIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a worker could not do its job.

    Args:
        reason: The error.
        mistake: The sentence of a user's mistake, if it was one.
        may_retry: Whether it was the device's fault.
    """

    reason: str
    mistake: str | None = None
    may_retry: bool = False


@dataclass(kw_only=True)
class _Worker:
    """A process and what it is doing."""

    rank: int
    device: str
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


class DevicePool:
    """Does jobs on several devices at once. Processes start with the first jobs, and keep their model.

    Args:
        source: Makes the evaluators; sent to the processes.
        devices: Where they work, a process for each.
        num_threads: CPU threads of each process; PyTorch's choice if ``None``.
        retries: What to do after a CUDA error, or when a process ends by itself.
        failures: Where failures are written down.
    """

    def __init__(
        self,
        source: EvaluatorSource,
        devices: Sequence[str],
        *,
        num_threads: int | None,
        retries: Retries,
        failures: FailureLog,
    ) -> None:
        self._source = source
        self._devices = devices
        self._num_threads = num_threads
        self._retries = retries
        self._failures = failures
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("spawn")

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """See ``Runner``."""
        waiting = deque(jobs)
        failed: Counter[Job] = Counter()
        while waiting or any(worker.job for worker in self._workers):
            self._give_out(waiting)
            for worker in self._ready():
                job, answer = worker.job, _heard(worker)
                assert job is not None
                worker.job = None
                if isinstance(answer, Outcome):
                    yield job, answer
                    continue
                failed[job] += 1
                self._failures.add(job, attempt=failed[job], device=worker.device, reason=answer.reason)
                self._stop(worker)
                if answer.mistake is not None:
                    raise ValueError(answer.mistake)
                if not answer.may_retry or failed[job] > self._retries.most:
                    raise RuntimeError(f"{job}: {answer.reason}; what was measured is kept, the same command goes on")
                self._workers.append(self._start(worker.rank, wait_s=self._retries.wait_s))
                waiting.append(job)

    def close(self) -> None:
        """End the processes."""
        for worker in list(self._workers):
            self._stop(worker)

    def _give_out(self, waiting: deque[Job]) -> None:
        """Give each idle process a job; start as many as there are jobs and devices for."""
        used = {worker.rank for worker in self._workers}
        free = [rank for rank in range(len(self._devices)) if rank not in used]
        idle = [worker for worker in self._workers if worker.job is None]
        for rank in free[: max(0, len(waiting) - len(idle))]:
            idle.append(self._start(rank, wait_s=0.0))
            self._workers.append(idle[-1])
        for worker in idle:
            if waiting:
                worker.job = waiting.popleft()
                try:
                    worker.pipe.send(worker.job)
                except BrokenPipeError:  # it has ended by itself, which is heard next
                    continue

    def _ready(self) -> list[_Worker]:
        """Wait until some busy process has something to tell."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        heard = set(wait(list(busy)))
        return [worker for pipe, worker in busy.items() if pipe in heard]

    def _start(self, rank: int, *, wait_s: float) -> _Worker:
        device = self._devices[rank]
        pipe, workers_end = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(self._source, device, self._num_threads, wait_s, workers_end), daemon=True
        )
        process.start()
        workers_end.close()  # or the pipe would stay open when the worker is killed
        return _Worker(rank=rank, device=device, process=process, pipe=pipe)

    def _stop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.terminate()
        worker.process.join(_JOIN_S)
        worker.pipe.close()


def _heard(worker: _Worker) -> Outcome | Failure:
    try:
        answer = worker.pipe.recv()
    except EOFError:
        worker.process.join(_JOIN_S)
        return Failure(reason=f"the process ended by itself with {worker.process.exitcode}", may_retry=True)
    assert isinstance(answer, Outcome | Failure)
    return answer


def _work(source: EvaluatorSource, device: str, num_threads: int | None, wait_s: float, pipe: Connection) -> None:
    """Do jobs until the pipe is closed or one fails."""
    # An interrupt reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(wait_s)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    evaluator = None
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            evaluator = evaluator or source.evaluator(device)
            pipe.send(evaluator.evaluate(job))
        except Exception as err:  # noqa: BLE001  # told to the process that asked
            mistake = str(err) if isinstance(err, ValueError) else None
            pipe.send(Failure(reason=reason_of(err), mistake=mistake, may_retry=is_cuda_error(err)))
            return
