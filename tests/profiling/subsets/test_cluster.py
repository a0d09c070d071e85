import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import main
from profiling.subsets.cluster import ClusterCrew, ClusterWorker
from profiling.subsets.job import Blocks, Job, Measure
from profiling.subsets.pool import WorkerPool
from profiling.subsets.retry import FailureLog, Retries
from tests.profiling.subsets.planted import BROKEN, Planted

ROOT = Path(main.__file__).parent
LOG = Path("log.txt")
FAILURES = Path("failures.jsonl")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines of one core each, both of them processes here."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    cluster_utils: Any = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1)
        yield cluster.address
        cluster.shutdown()


def job(*blocks: int) -> Job:
    return Job(blocks=blocks, measure=Measure.LIKELIHOOD, part="train", num_samples=3)


def cluster_pool(planted: Planted, address: str, *, size: int = 2) -> WorkerPool[ClusterWorker]:
    crew = ClusterCrew(planted, address, kind="cpu", size=size, num_threads=1)
    return WorkerPool(crew, retries=Retries(most=3, wait_s=0.0), failures=FailureLog(FAILURES))


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_does_every_job_once_and_replaces_actors_that_fail_or_die(address: str) -> None:
    failing: Counter[Blocks] = Counter({(1,): 1, (2,): 1, (9,): 1})
    errors: dict[Blocks, str] = {(2,): "exit", (9,): "mistake"}
    jobs = [job(block) for block in range(5)]
    pool = cluster_pool(Planted(LOG.absolute(), failing=failing, errors=errors), address)
    try:
        found = dict(pool.run(jobs))
        assert set(found) == set(jobs)
        assert found[job(3)].values["b"]["kl"].tolist() == [2.0] * 3
        with pytest.raises(ValueError, match=r"^num_samples: too many$"):
            list(pool.run([job(9)]))
    finally:
        pool.close()
    asked = Counter(LOG.read_text().splitlines())
    assert asked == Counter(dict.fromkeys(map(str, jobs), 1) | dict.fromkeys(map(str, [job(1), job(2)]), 2)) + Counter(
        [str(job(9))]
    )
    reasons = [json.loads(line)["reason"] for line in FAILURES.read_text().splitlines()]
    assert len(reasons) == 3
    assert f"RuntimeError: {BROKEN}" in reasons
    assert any(reason.startswith("the actor ended by itself: ") for reason in reasons)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_with_too_few_devices_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match="devices: 9 asked for, the cluster has room for 2"):
        cluster_pool(Planted(LOG), address, size=9)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="ray_address: needs Ray, which"):
        cluster_pool(Planted(LOG), "auto")
