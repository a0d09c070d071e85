import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling.subsets.evaluations import Evaluations, Machine
from profiling.subsets.job import Blocks, Job, Measure
from profiling.subsets.pool import WorkerPool
from profiling.subsets.processes import ProcessCrew, ProcessWorker
from profiling.subsets.retry import FailureLog, Retries, is_cuda_error
from profiling.subsets.runner import LocalRunner
from profiling.subsets.store import ResultStore
from tests.profiling.subsets.planted import OOM, Planted

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
        (1, f"OutOfMemoryError: {OOM}"),
        (2, f"OutOfMemoryError: {OOM}"),
    ]


def test_a_cuda_error_that_stays_ends_the_run_after_the_last_try() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=OOM):
        list(local(Planted(LOG, failing=Counter({(0,): 9}))).run([job(0)]))
    assert asked().total() == len(failures()) == 4


@pytest.mark.parametrize(("error", "kind"), [("mistake", ValueError), ("bug", KeyError)])
def test_what_is_not_the_devices_fault_is_logged_and_not_tried_again(error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        list(local(Planted(LOG, failing=Counter({(0,): 1}), errors={(0,): error})).run([job(0)]))
    assert len(failures()) == 1


def test_cuda_errors_are_told_by_their_kind() -> None:
    assert is_cuda_error(torch.OutOfMemoryError("no"))
    assert is_cuda_error(torch.AcceleratorError("no"))
    assert is_cuda_error(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
    assert not is_cuda_error(RuntimeError("shapes"))
    assert not is_cuda_error(ValueError("CUDA"))


def test_a_pool_does_every_job_once_and_replaces_processes_that_fail_or_die() -> None:
    """One process meets a CUDA error, one dies by itself, and a user's mistake is one sentence."""
    failing: Counter[Blocks] = Counter({(1,): 1, (2,): 1, (9,): 1})
    errors: dict[Blocks, str] = {(2,): "exit", (9,): "mistake"}
    devices = pool(Planted(LOG.absolute(), failing=failing, errors=errors))
    jobs = [job(block) for block in range(5)]
    assert set(dict(devices.run(jobs))) == set(jobs)
    assert asked() == Counter({str(each): 1 for each in jobs} | {str(job(1)): 2, str(job(2)): 2})
    assert sorted(row["reason"] for row in failures()) == [
        f"OutOfMemoryError: {OOM}",
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
