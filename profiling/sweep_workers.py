"""The processes of a sweep, one for each device."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from models.engine import Engine, EngineName, make_engine
from profiling.environment import collect_environment
from profiling.jsonl import JsonlWriter
from profiling.model_source import ModelSource
from profiling.profiler import Key, Plan, Profiler
from profiling.schema import Environment, ProfileRecord


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
        with JsonlWriter(self.path, self._environment(engine)) as writer:

            def write(record: ProfileRecord) -> None:
                writer.write(record)
                advance()

            Profiler(model, processor, self.plan, engine=engine).run(done=self.done, write=write)

    def _environment(self, engine: Engine) -> Environment:
        source = self.source
        return collect_environment(
            torch.device(self.device),
            engine=engine.name,
            dtype=source.dtype,
            model=source.name,
            model_shape=source.hf_config(),
            random_weights=source.random_weights,
            router_skew=source.router_skew if source.random_weights else None,
            match_router_mass=source.match_router_mass,
            experts_by_top_k=self.plan.grid.to_json().get("experts_by_top_k"),
        )


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
