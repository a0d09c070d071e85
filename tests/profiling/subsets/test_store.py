from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiling.subsets.job import Cost, Job, Measure, Outcome
from profiling.subsets.store import ResultStore, claim

JOB = Job(blocks=(0, 2), measure=Measure.HIDDEN_STATES, part="train", num_samples=2)
OUTCOME = Outcome(
    values={"a": {"taylor": np.array([[1.23456789e9, 2.0], [3.0, 1.23456789e-9]]), "nll": np.array([0.5, 1.0])}},
    cost=Cost(forward_passes=3, backward_passes=1, seconds=0.25),
)


def store() -> ResultStore:
    return ResultStore(Path("results"), ("a",))


def test_an_outcome_comes_back_with_six_digits() -> None:
    assert store().read(JOB) is None
    store().write(JOB, OUTCOME)
    found = store().read(JOB)
    assert found is not None
    assert found.cost == OUTCOME.cost
    assert found.values["a"]["taylor"].tolist() == [[1.23457e9, 2.0], [3.0, 1.23457e-9]]
    assert found.values["a"]["nll"].tolist() == [0.5, 1.0]
    assert store().path(JOB) == Path("results/train-2/hidden_states/0-2.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "EOF while parsing"),
        ('{"version": 1', "EOF while parsing"),
        ('{"version": 1}', "Field required"),
    ],
)
def test_a_damaged_result_is_named(content: str, message: str) -> None:
    store().write(JOB, OUTCOME)
    store().path(JOB).write_text(content)
    with pytest.raises(ValueError, match=rf"0-2\.json: .*{message}.*remove the file to measure it again"):
        store().read(JOB)


def test_another_jobs_result_is_refused() -> None:
    store().write(JOB, OUTCOME)
    other = replace(JOB, blocks=(0, 1))
    store().path(JOB).rename(store().path(other))
    with pytest.raises(ValueError, match=r"0-1\.json: expected hidden_states of blocks 0-1 .* found .* blocks 0-2"):
        store().read(other)
    store().write(JOB, OUTCOME)
    with pytest.raises(ValueError, match=r"expected .* \(a, b\), version 1, found .* \(a\), version 1"):
        ResultStore(Path("results"), ("a", "b")).read(JOB)


def test_of_gradients_several_samples_share_a_row() -> None:
    job = replace(JOB, measure=Measure.GRADIENTS, num_samples=9)
    taylor = replace(OUTCOME, values={"a": {"taylor": np.array([[1.0, 2.0], [3.0, 4.0]])}})
    store().write(job, taylor)
    assert store().read(job) is not None
    store().write(replace(job, num_samples=1), taylor)
    with pytest.raises(ValueError, match="expected gradients of blocks 0-2 on 1 train samples"):
        store().read(replace(job, num_samples=1))
    store().write(replace(job, measure=Measure.HIDDEN_STATES), taylor)
    with pytest.raises(ValueError, match="expected hidden_states of blocks 0-2 on 9 train samples"):
        store().read(replace(job, measure=Measure.HIDDEN_STATES))


def test_values_that_are_not_finite_are_not_kept() -> None:
    broken = replace(OUTCOME, values={"a": {"kl": np.array([1.0, np.nan])}})
    with pytest.raises(ValueError, match=r"a: kl: must be finite, got nan"):
        store().write(JOB, broken)
    assert not Path("results").exists()


def test_a_folder_belongs_to_one_model_and_its_data() -> None:
    claim(Path("out"), {"model": "a", "top_k": 8}, file_name="note.json")
    claim(Path("out"), {"model": "a", "top_k": 8}, file_name="note.json")
    with pytest.raises(ValueError, match=r"output_dir: out/note.json describes results of another top_k;"):
        claim(Path("out"), {"model": "a", "top_k": 4}, file_name="note.json")
    for content, message in (("{", "is not JSON"), ("[]", "must hold an object")):
        Path("out/note.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            claim(Path("out"), {}, file_name="note.json")
