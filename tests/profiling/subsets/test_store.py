import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profiling.subsets.job import Cost, Job, Measure, Outcome
from profiling.subsets.store import ResultError, ResultStore, claim

JOB = Job(blocks=(0, 2), measure=Measure.HIDDEN_STATES, part="train", num_samples=2)
COST = Cost(forward_passes=3, backward_passes=1, seconds=0.25)
TURNS = np.array([[1.23456789e9, 2.0], [3.0, 1.23456789e-9]])
OUTCOME = Outcome(
    values={"a": {"block_influence": TURNS, "angular_distance": TURNS, "angular_spans": TURNS}},
    cost=COST,
)
ONES = {"nll": [1.0, 1.0], "kl": [1.0, 1.0]}


def store() -> ResultStore:
    return ResultStore(Path("results"), ("a",))


def test_an_outcome_comes_back_with_six_digits() -> None:
    assert store().read(JOB) is None
    store().write(JOB, OUTCOME)
    found = store().read(JOB)
    assert found is not None
    assert found.cost == OUTCOME.cost
    assert found.values["a"]["angular_spans"].tolist() == [[1.23457e9, 2.0], [3.0, 1.23457e-9]]
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"expected likelihood .* \(a\), version 1, found likelihood .* \(\), version 1"),
        ({"a": {}}, "values.a: expected nll, kl, found nothing"),
        ({"a": {"nll": [1.0, 1.0]}}, "values.a: expected nll, kl, found nll"),
        ({"a": {**ONES, "taylor": [1.0, 1.0]}}, "values.a: expected nll, kl, found nll, kl, taylor"),
        ({"a": {**ONES, "kl": []}}, r"values.a.kl: expected shape \(2,\), found \(0,\)"),
        ({"a": {**ONES, "kl": [1.0]}}, r"values.a.kl: expected shape \(2,\), found \(1,\)"),
        ({"a": {**ONES, "kl": [[1.0], [1.0]]}}, r"values.a.kl: expected shape \(2,\), found \(2, 1\)"),
        (
            {"a": {**ONES, "kl": [[1.0], [1.0, 2.0]]}},
            r"values.a.kl: expected shape \(2,\), found \(2, 1\) and \(2, 2\)",
        ),
        ({"a": {**ONES, "kl": [1.0, "x"]}}, r"values\.a\.kl\."),
        ({"a": {**ONES, "kl": [1.0, [1.0]]}}, r"values\.a\.kl\."),
    ],
)
def test_values_that_are_no_outcome_of_the_job_are_named(values: Any, message: str) -> None:
    job = replace(JOB, measure=Measure.LIKELIHOOD)
    store().write(job, Outcome(values={"a": {"nll": np.ones(2), "kl": np.ones(2)}}, cost=COST))
    path = store().path(job)
    path.write_text(json.dumps({**json.loads(path.read_text()), "values": values}))
    with pytest.raises(ResultError, match=rf"0-2\.json: {message}.*; remove the file to measure it again"):
        store().read(job)


def test_of_gradients_eight_samples_share_a_row() -> None:
    job = replace(JOB, measure=Measure.GRADIENTS, num_samples=9)
    taylor = Outcome(values={"a": {"taylor": np.array([[1.0, 2.0], [3.0, 4.0]])}}, cost=COST)
    store().write(job, taylor)
    assert store().read(job) is not None
    for num_samples in (8, 17):
        other = replace(job, num_samples=num_samples)
        store().write(other, taylor)
        with pytest.raises(ResultError, match=r"values.a.taylor: expected shape \([13], 2\), found \(2, 2\)"):
            store().read(other)


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
