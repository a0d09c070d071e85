import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from profiling.subsets.crew import Failure
from profiling.subsets.evaluations import Evaluations, Machine
from profiling.subsets.job import NO_COST, Blocks, Job, Measure, Outcome
from profiling.subsets.pool import WorkerPool
from profiling.subsets.processes import ProcessCrew, ProcessWorker
from profiling.subsets.retry import FailureLog, Fault, Retries, fault_of
from profiling.subsets.runner import LocalRunner
from profiling.subsets.store import ResultStore
from tests.profiling.subsets.planted import BROKEN, OOM, Planted

LOG = Path("log.txt")
FAILURES = Path("failures.jsonl")
QUICK = Retries(most=3, wait_s=0.0)


def job(*blocks: int) -> Job:
    return Job(blocks=blocks, measure=Measure.LIKELIHOOD, part="train", num_samples=3)


def local(planted: Planted, retries: Retries = QUICK) -> LocalRunner:
    return LocalRunner(planted, device="cpu", retries=retries, failures=FailureLog(FAILURES))


def pool(planted: Planted, retries: Retries = QUICK) -> WorkerPool[ProcessWorker]:
    crew = ProcessCrew(planted, ["cpu", "cpu"], num_threads=1)
    return WorkerPool(crew, retries=retries, failures=FailureLog(FAILURES))


def failures() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FAILURES.read_text().splitlines()]


def asked() -> Counter[str]:
    return Counter(LOG.read_text().splitlines())


def test_jobs_on_disk_are_not_done_again_and_a_job_asked_for_twice_is_done_once() -> None:
    evaluations = Evaluations(ResultStore(Path("results"), ("a", "b")), local(Planted(LOG)))
    ticks: list[None] = []
    first = evaluations.outcomes([job(0, 1), job(0), job(0, 1)], lambda: ticks.append(None))
    assert [float(outcome.values["b"]["kl"][0]) for outcome in first] == [4.0, 2.0, 4.0]
    evaluations.outcomes([job(0), job(1)])
    assert set(asked().values()) == {1}
    assert len(asked()) == 3
    assert len(ticks) == 2


def test_parts_are_measured_one_after_the_other_however_they_are_asked_for() -> None:
    evaluations = Evaluations(ResultStore(Path("results"), ("a", "b")), local(Planted(LOG)))
    jobs = [replace(job(*blocks), part=part) for blocks in ((0,), (0, 1)) for part in ("train", "validation")]
    outcomes = evaluations.outcomes(jobs)
    assert [float(outcome.values["a"]["kl"][0]) for outcome in outcomes] == [1.0, 1.0, 2.0, 2.0]
    assert [line.split()[-5] for line in LOG.read_text().splitlines()] == ["train", "train", "validation", "validation"]


def test_a_cuda_error_is_waited_out_logged_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    runner = local(Planted(LOG, failing=Counter({(0, 1): 2})), Retries())
    assert [done for done, _ in runner.run([job(0, 1), job(0)])] == [job(0, 1), job(0)]
    assert waits == [60.0, 60.0]
    assert [(row["attempt"], row["reason"]) for row in failures()] == [
        (1, f"RuntimeError: {BROKEN}"),
        (2, f"RuntimeError: {BROKEN}"),
    ]


def test_a_cuda_error_that_stays_ends_the_run_after_the_last_try() -> None:
    with pytest.raises(RuntimeError, match=rf"^likelihood of blocks 0 .*: RuntimeError: {BROKEN}; what was measured"):
        list(local(Planted(LOG, failing=Counter({(0,): 9}))).run([job(0)]))
    assert asked().total() == len(failures()) == 4


def test_out_of_memory_is_tried_once_more_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    planted = Planted(LOG, failing=Counter({(0,): 9}), errors={(0,): "memory"})
    with pytest.raises(
        RuntimeError, match=rf"{OOM}; give a smaller evaluated\.batch_size or evaluated\.cache_gib; what"
    ):
        list(local(planted, Retries()).run([job(0)]))
    assert waits == [60.0]
    assert asked().total() == len(failures()) == 2


@pytest.mark.parametrize(("error", "kind"), [("mistake", ValueError), ("bug", KeyError)])
def test_what_is_not_the_devices_fault_is_logged_and_not_tried_again(error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        list(local(Planted(LOG, failing=Counter({(0,): 1}), errors={(0,): error})).run([job(0)]))
    assert len(failures()) == 1


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (torch.OutOfMemoryError("no"), "memory"),
        (torch.AcceleratorError("no"), "device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), "device"),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), "device"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "memory"),
        (RuntimeError("shapes"), None),
        (ValueError("CUDA"), None),
    ],
)
def test_faults_are_told_by_their_kind(error: Exception, fault: Fault | None) -> None:
    assert fault_of(error) == fault


def test_no_retries_means_none_for_any_fault() -> None:
    assert not Retries(most=0).allows("device", attempts=1)
    assert not Retries(most=0).allows("memory", attempts=1)
    assert Retries(most=1).allows("device", attempts=1)


@dataclass
class FakeWorker:
    """Fails as often as its device does, and writes down what it was given."""

    rank: int
    device: str
    failing: Counter[int]
    given: list[tuple[int, Job]]

    def give(self, job: Job) -> None:
        self.given.append((self.rank, job))

    def heard(self) -> Outcome | Failure:
        self.failing[self.rank] -= 1
        if self.failing[self.rank] >= 0:
            return Failure(reason="broken", fault="device")
        return Outcome(values={}, cost=NO_COST)

    def stop(self) -> None: ...

    def __hash__(self) -> int:
        return id(self)


@dataclass
class FakeCrew:
    """Its workers always have something to tell."""

    size: int
    failing: Counter[int]
    given: list[tuple[int, Job]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def start(self, rank: int, *, wait_s: float) -> FakeWorker:
        self.waits.append(wait_s)
        return FakeWorker(rank, f"cuda:{rank}", self.failing, self.given)

    def ready(self, busy: Sequence[FakeWorker]) -> list[FakeWorker]:
        return list(busy)

    def close(self) -> None: ...


def fake_pool(crew: FakeCrew) -> WorkerPool[FakeWorker]:
    return WorkerPool(crew, retries=Retries(), failures=FailureLog(FAILURES))


def test_a_job_that_failed_is_tried_next_so_that_a_broken_device_is_not_waited_for_job_after_job() -> None:
    crew = FakeCrew(1, failing=Counter({0: 1000}))
    jobs = [job(block) for block in range(100)]
    with pytest.raises(RuntimeError, match=r"^likelihood of blocks 0 .*: broken; what was measured is kept"):
        list(fake_pool(crew).run(jobs))
    assert crew.given == [(0, jobs[0])] * 4
    assert sum(crew.waits) == 3 * 60.0


def test_a_device_that_only_fails_ends_the_run_though_others_do_its_jobs() -> None:
    crew = FakeCrew(2, failing=Counter({1: 1000}))
    with pytest.raises(
        RuntimeError, match="broken; cuda:1 failed 4 times one after another; what was measured is kept"
    ):
        list(fake_pool(crew).run([job(block) for block in range(100)]))
    assert sum(crew.waits) == 3 * 60.0


def test_a_device_that_fails_now_and_then_goes_on() -> None:
    crew = FakeCrew(1, failing=Counter({0: 3}))
    devices = fake_pool(crew)
    for blocks in ((0,), (1,)):
        crew.failing[0] = 3
        assert [done for done, _ in devices.run([job(*blocks)])] == [job(*blocks)]
    assert len(failures()) == 6


def test_a_process_that_is_killed_before_it_reads_its_job_is_a_failure_like_any_other() -> None:
    worker = ProcessCrew(Planted(LOG), ["cpu"], num_threads=1).start(0, wait_s=60.0)
    worker.give(job(0))
    worker.process.kill()
    worker.process.join()
    assert worker.heard() == Failure(reason="the process ended by itself with -9", fault="device")
    worker.give(job(1))
    assert worker.heard() == Failure(reason="the process ended by itself with -9", fault="device")
    worker.stop()


@pytest.mark.parametrize(("listens", "ends"), [(True, ["terminate"]), (False, ["terminate", "kill"])])
def test_a_process_that_does_not_listen_is_killed(listens: bool, ends: list[str]) -> None:
    process, pipe = Mock(exitcode=None), Mock()
    process.terminate.side_effect = lambda: setattr(process, "exitcode", -15 if listens else None)
    ProcessWorker(0, "cpu", process, pipe).stop()
    called = [name for name, _, _ in process.method_calls]
    assert [name for name in called if name != "join"] == ends
    assert called[-1] == "join"
    pipe.close.assert_called_once()


def test_a_pool_does_every_job_once_and_replaces_processes_that_fail_or_die() -> None:
    """One process meets a CUDA error, one dies by itself, and a user's mistake is one sentence."""
    failing: Counter[Blocks] = Counter({(1,): 1, (2,): 1, (9,): 1})
    errors: dict[Blocks, str] = {(2,): "exit", (9,): "mistake"}
    devices = pool(Planted(LOG.absolute(), failing=failing, errors=errors))
    jobs = [job(block) for block in range(5)]
    assert set(dict(devices.run(jobs))) == set(jobs)
    assert asked() == Counter({str(each): 1 for each in jobs} | {str(job(1)): 2, str(job(2)): 2})
    assert sorted(row["reason"] for row in failures()) == [
        f"RuntimeError: {BROKEN}",
        "the process ended by itself with 7",
    ]
    with pytest.raises(ValueError, match=r"^num_samples: too many$"):
        list(devices.run([job(9)]))
    devices.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"devices": 0}, "devices: must be 1 or more, got 0"),
        ({"num_threads": 0}, "num_threads: must be 1 or more, got 0"),
    ],
)
def test_a_machine_has_devices(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**arguments)  # type: ignore[arg-type]


def test_too_few_devices_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Machine(device="cuda").names == ["cuda:0"]
    Machine(device="cuda").check()
    with pytest.raises(ValueError, match="devices: 2 CUDA devices asked for, this machine has 1"):
        Machine(device="cuda", devices=2).check()


@pytest.mark.parametrize("name", ["most", "wait_s"])
def test_retries_are_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=rf"retries.{name}: must be 0 or more, got -1"):
        Retries(**{name: -1})
