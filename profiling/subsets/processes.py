"""Workers that are processes of this machine, one a device."""

import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from profiling.subsets.crew import Attempts, Failure
from profiling.subsets.job import EvaluatorSource, Job, Outcome

_JOIN_S = 5.0


class ProcessWorker:
    """A process and the way to it.

    Args:
        rank: Its place in the crew.
        device: Where it works.
        process: The process, started.
        pipe: Our end of the pipe to it.
    """

    def __init__(self, rank: int, device: str, process: BaseProcess, pipe: Connection) -> None:
        self.rank = rank
        self.device = device
        self.process = process
        self.pipe = pipe

    def give(self, job: Job) -> None:
        """See ``Worker``."""
        try:
            self.pipe.send(job)
        except OSError:  # it has ended by itself, which is heard next
            return

    def heard(self) -> Outcome | Failure:
        """See ``Worker``."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):  # of a process that was killed before it read its job the pipe is reset
            self.process.join(_JOIN_S)
            return Failure(reason=f"the process ended by itself with {self.process.exitcode}", fault="device")
        assert isinstance(answer, Outcome | Failure)
        return answer

    def stop(self) -> None:
        """See ``Worker``."""
        self.process.terminate()
        self.process.join(_JOIN_S)
        if self.process.exitcode is None:  # it does not listen, in a driver's call say
            self.process.kill()
            self.process.join()
        self.pipe.close()


class ProcessCrew:
    """Processes on the devices of this machine.

    Args:
        source: Makes the evaluators; sent to the processes.
        devices: Where they work, a process for each.
        num_threads: CPU threads of each process; PyTorch's choice if ``None``.
    """

    def __init__(self, source: EvaluatorSource, devices: Sequence[str], *, num_threads: int | None) -> None:
        self._source = source
        self._devices = devices
        self._num_threads = num_threads
        self._context = multiprocessing.get_context("spawn")

    @property
    def size(self) -> int:
        """See ``Crew``."""
        return len(self._devices)

    def start(self, rank: int, *, wait_s: float) -> ProcessWorker:
        """See ``Crew``."""
        device = self._devices[rank]
        pipe, workers_end = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(self._source, device, self._num_threads, wait_s, workers_end), daemon=True
        )
        process.start()
        workers_end.close()  # or the pipe would stay open when the worker is killed
        return ProcessWorker(rank, device, process, pipe)

    def ready(self, busy: Sequence[ProcessWorker]) -> list[ProcessWorker]:
        """See ``Crew``."""
        heard = set(wait([worker.pipe for worker in busy]))
        return [worker for worker in busy if worker.pipe in heard]

    def close(self) -> None:
        """See ``Crew``."""


def _work(source: EvaluatorSource, device: str, num_threads: int | None, wait_s: float, pipe: Connection) -> None:
    """Do jobs until the pipe is closed or one fails."""
    # An interrupt reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(wait_s)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    attempts = Attempts(source, device)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        answer = attempts.attempt(job)
        pipe.send(answer)
        if isinstance(answer, Failure):
            return
