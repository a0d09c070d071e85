"""The processes of a sweep, one for each device."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from models.engine import EngineName, make_engine
from profiling.jsonl import JsonlWriter
from profiling.model_source import ModelSource
from profiling.profiler import Key, Plan, Profiler
from profiling.schema import ProfileRecord


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process's share of a sweep.

    Args:
        source: The model.
        engine: How it runs.
        plan: What this worker measures.
        done: Measurements to skip.
        path: Where its records go.
        device: Where it runs.
        num_threads: CPU threads; PyTorch's choice if ``None``.
    """

    source: ModelSource
    engine: EngineName
    plan: Plan
    done: frozenset[Key]
    path: Path
    device: str
    num_threads: int | None

    def run(self, advance: Callable[[], None]) -> None:
        """Measure the share; ``advance`` is called after each record."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        model = self.source.load(self.device)
        reads_words = any(request.question is not None for request in self.plan.requests)
        processor = self.source.processor(model, self.device, reads_words=reads_words)
        engine = make_engine(self.engine, model)
        environment = self.source.environment(self.device, engine=engine.name, grid=self.plan.grid)
        with JsonlWriter(self.path, environment) as writer:

            def write(record: ProfileRecord) -> None:
                writer.write(record)
                advance()

            Profiler(model, processor, self.plan, engine=engine).run(done=self.done, write=write)


def run_workers(workers: Sequence[Worker], advance: Callable[[], None]) -> None:
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
