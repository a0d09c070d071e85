from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.generation import encode_images, generate
from profiling.controllers import online_answers
from profiling.controllers.online_answers import AnswerSource, OnlineAnswers
from profiling.controllers.outcomes import Outcomes, read_outcomes
from tests.block_models import write_block_model
from tests.online_world import NUM_SAMPLES, OnlineWorld, write_online_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OnlineWorld:
    return write_online_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def outcomes(world: OnlineWorld) -> Outcomes:
    return read_outcomes([world.profile])


class Count:
    """Counts requests that were answered, and pictures that were encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_answered, self.num_encoded = 0, 0

        def counted(model, inputs, **arguments):  # type: ignore[no-untyped-def] # noqa: ANN001,ANN003,ANN202
            self.num_answered += len(inputs.input_ids)
            return generate(model, inputs, **arguments)

        def encoded(model, inputs):  # type: ignore[no-untyped-def] # noqa: ANN001,ANN202
            self.num_encoded += len(inputs.input_ids)
            return encode_images(model, inputs)

        monkeypatch.setattr(online_answers, "generate", counted)
        monkeypatch.setattr(online_answers, "encode_images", encoded)


def wanted(answers: OnlineAnswers, cells: dict[int, list[int]]) -> torch.Tensor:
    """Ask for settings of samples."""
    is_wanted = torch.zeros(len(cells), 6, dtype=torch.bool)
    for row, settings in enumerate(cells.values()):
        is_wanted[row, settings] = True
    return answers.run(torch.tensor(list(cells)), is_wanted)


def test_accuracies_are_those_of_the_profile_of_the_same_model(world: OnlineWorld, outcomes: Outcomes) -> None:
    answers = world.source.load(outcomes)
    found = answers.run(torch.arange(NUM_SAMPLES), torch.ones(NUM_SAMPLES, 6, dtype=torch.bool))
    np.testing.assert_array_equal(found.numpy(), outcomes.accuracy_NS)
    assert 0.3 < outcomes.accuracy_NS.mean() < 0.6  # or equality would say little


def test_samples_of_a_part_are_its_rows(world: OnlineWorld, outcomes: Outcomes) -> None:
    part = outcomes.take(np.asarray([9, 4, 12]))
    found = wanted(world.source.load(part), {2: [0, 5], 0: [3]})
    np.testing.assert_array_equal(found[0, [0, 5]], outcomes.accuracy_NS[12, [0, 5]])
    assert found[1, 3] == outcomes.accuracy_NS[9, 3]


def test_nothing_is_run_or_encoded_twice(
    world: OnlineWorld, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, count = world.source.load(outcomes), Count(monkeypatch)
    first = wanted(answers, {0: [0, 1], 3: [1, 4]})  # a tier has two settings
    assert first.isfinite().sum() == 4
    assert (count.num_answered, count.num_encoded) == (4, 3)
    assert (answers.num_run, answers.num_remembered) == (4, 0)
    second = wanted(answers, {3: [0, 1], 5: [2], 0: [1]})
    assert (count.num_answered, count.num_encoded) == (6, 4)
    assert (answers.num_run, answers.num_remembered) == (6, 2)
    assert second[0].isfinite().tolist() == [True, True, False, False, True, False]
    assert second[2].isfinite().tolist() == [True, True, False, False, False, False]
    assert torch.equal(second[0, [1, 4]], first[1, [1, 4]])


def test_a_sample_may_be_in_a_batch_twice(world: OnlineWorld, outcomes: Outcomes) -> None:
    answers = world.source.load(outcomes)
    is_wanted = torch.eye(6, dtype=torch.bool)[[2, 3]]
    found = answers.run(torch.tensor([7, 7]), is_wanted)
    np.testing.assert_array_equal(found[:, 2:4].numpy(), outcomes.accuracy_NS[[7, 7], 2:4])
    assert answers.num_run == 2


def test_a_model_that_was_not_profiled_and_a_batch_of_none_are_refused(world: OnlineWorld, outcomes: Outcomes) -> None:
    other = replace(world.source, snapshot=str(write_block_model(Path("other"), 3)))
    with pytest.raises(ValueError, match=r"model: .*other is not the model of the profile"):
        other.load(outcomes)
    with pytest.raises(ValueError, match="online: batch_size: must be 1 or more, got 0"):
        AnswerSource(snapshot="model", batch_size=0)
