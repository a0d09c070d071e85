"""Evaluators without a model, whose outcomes follow a law; they can be sent to a worker process."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from profiling.subsets.job import Blocks, Cost, Job, Outcome

BROKEN = "CUDA error: an illegal memory access was encountered"
OOM = "CUDA out of memory"


@dataclass
class Planted:
    """Says how many blocks run, and writes down what it was asked.

    Args:
        log: File that gets a line for each job.
        failing: How often blocks fail before they are measured.
        errors: What they fail with: ``cuda`` if not named, else ``memory``, ``mistake``, ``bug`` or ``exit``.
    """

    log: Path
    failing: Counter[Blocks] = field(default_factory=Counter)
    errors: dict[Blocks, str] = field(default_factory=dict)

    def evaluator(self, device: str) -> "Planted":
        return self

    def evaluate(self, job: Job) -> Outcome:
        with self.log.open("a") as file:
            file.write(f"{job}\n")
        failed = self.log.read_text().splitlines().count(str(job)) <= self.failing[job.blocks]
        if failed:
            _fail(self.errors.get(job.blocks, "cuda"))
        values = np.full(job.num_samples, float(len(job.blocks)))
        cost = Cost(forward_passes=1, backward_passes=0, seconds=0.5)
        return Outcome(values={"a": {"kl": values, "nll": values}, "b": {"kl": 2 * values, "nll": values}}, cost=cost)


def _fail(error: str) -> None:
    if error == "cuda":
        raise RuntimeError(BROKEN)
    if error == "memory":
        raise torch.OutOfMemoryError(OOM)
    if error == "exit":
        os._exit(7)
    raise ValueError("num_samples: too many") if error == "mistake" else KeyError("bug")
