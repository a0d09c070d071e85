"""Workers on several machines: actors of a Ray cluster, an optional extra."""

import logging
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import torch

from profiling.subsets.crew import Attempts, Failure
from profiling.subsets.job import EvaluatorSource, Job, Outcome
from profiling.subsets.retry import Fault


class ClusterWorker:
    """An actor and the answer that it owes.

    Args:
        ray: The library.
        rank: Its place in the crew.
        actor: The actor.
    """

    def __init__(self, ray: Any, rank: int, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.rank = rank
        self.device = f"cluster worker {rank}"
        self.owed: Any = None

    def give(self, job: Job) -> None:
        """See ``Worker``."""
        self.owed = self._actor.attempt.remote(job)

    def heard(self) -> Outcome | Failure:
        """See ``Worker``."""
        try:
            answer = self._ray.get(self.owed)
        except self._ray.exceptions.RayActorError as err:
            # One that could not even be made, for want of a module say, could not the next time either.
            fault: Fault | None = None if err.actor_init_failed else "device"
            return Failure(reason=f"the actor ended by itself: {' '.join(str(err).split())}", fault=fault)
        assert isinstance(answer, Outcome | Failure)
        return answer

    def stop(self) -> None:
        """See ``Worker``."""
        self._ray.kill(self._actor)


class ClusterCrew:
    """Actors, wherever the cluster has a device free. Every machine has the project, the snapshot and the datasets.

    Args:
        source: Makes the evaluators; sent to the actors.
        address: Of the cluster's head, ``auto`` on one of its machines.
        kind: Kind of device; an actor has one GPU, or as many cores as threads.
        size: How many actors.
        num_threads: CPU threads of each; one if ``None``.

    Raises:
        ValueError: If Ray is not installed, no cluster answers or it has too few devices.
    """

    def __init__(
        self,
        source: EvaluatorSource,
        address: str,
        *,
        kind: Literal["cpu", "cuda"],
        size: int,
        num_threads: int | None,
    ) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as err:
            raise ValueError('ray_address: needs Ray, which `pip install "punctual[ray]"` brings') from err
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as err:
            raise ValueError(f"ray_address: no cluster answers at {address!r}: {err}") from err
        self._source = source
        self._num_threads = num_threads or 1
        self._device = kind
        self.size = size
        resource, each = ("GPU", 1) if kind == "cuda" else ("CPU", self._num_threads)
        there = int(self._ray.cluster_resources().get(resource, 0)) // each
        if there < size:
            self.close()
            raise ValueError(f"devices: {size} asked for, the cluster has room for {there}")
        self._options = {"num_gpus": 1} if kind == "cuda" else {"num_cpus": self._num_threads}

    def start(self, rank: int, *, wait_s: float) -> ClusterWorker:
        """See ``Crew``."""
        actor = self._ray.remote(_Actor).options(**self._options)
        return ClusterWorker(self._ray, rank, actor.remote(self._source, self._device, self._num_threads, wait_s))

    def ready(self, busy: Sequence[ClusterWorker]) -> list[ClusterWorker]:
        """See ``Crew``."""
        heard, _ = self._ray.wait([worker.owed for worker in busy])
        return [worker for worker in busy if worker.owed in heard]

    def close(self) -> None:
        """See ``Crew``."""
        self._ray.shutdown()


class _Actor(Attempts):
    """A worker's process on some machine, which shows it the device that it may use."""

    def __init__(self, source: EvaluatorSource, device: str, num_threads: int, wait_s: float) -> None:
        time.sleep(wait_s)
        torch.set_num_threads(num_threads)
        super().__init__(source, device)
