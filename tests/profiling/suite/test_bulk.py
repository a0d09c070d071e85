from collections import Counter

import numpy as np
import pytest

from profiling.suite.bulk import Mixture, draw_batch
from profiling.suite.families import FAMILIES
from profiling.suite.suite import PuzzleKey, suite_sample


def test_a_batch_has_the_pictures_and_questions_of_its_samples() -> None:
    keys = [PuzzleKey(family=family, split="train", index=index) for family in FAMILIES for index in (0, 5)]
    batch = draw_batch(keys, canvas_pixels=100, cell_pixels=16)
    assert batch.keys == keys
    assert batch.pixels.shape == (14, 100, 100, 3)
    assert batch.labels.shape == (14, 7, 7)
    assert batch.pixels.dtype == batch.labels.dtype == np.uint8
    for key, puzzle, pixels in zip(keys, batch.puzzles, batch.pixels, strict=True):
        sample = suite_sample(key, canvas_pixels=100)
        assert np.array_equal(np.asarray(sample.image.open()), pixels)
        assert (sample.question, sample.answers) == (puzzle.question, puzzle.answers)
    assert batch.labels.any(axis=(1, 2)).mean() > 0.7


def test_families_come_as_often_as_their_weights_say() -> None:
    keys = Mixture(weights={"text": 3, "facts": 0, "tables": 1}).keys("train", range(4000))
    assert Counter(key.family for key in keys) == pytest.approx({"text": 3000, "tables": 1000}, abs=100)
    assert [key.index for key in keys] == list(range(4000))


def test_an_index_always_gets_the_same_puzzle() -> None:
    mixture = Mixture(weights=dict.fromkeys(FAMILIES, 1.0))
    assert mixture.keys("train", range(50, 60)) == mixture.keys("train", range(60))[50:]
    assert mixture.keys("train", range(60)) != mixture.keys("train", range(60), seed=1)
    families = [[key.family for key in mixture.keys("train", range(60), seed=seed)] for seed in (0, 1)]
    assert families[0] != families[1]


def test_impossible_mixtures_name_the_family() -> None:
    with pytest.raises(ValueError, match=r"weights: families are scenes, .*, captions, got 'poems'"):
        Mixture(weights={"poems": 1})
    with pytest.raises(ValueError, match=r"weights\[text\]: must be 0 or more, got -1"):
        Mixture(weights={"text": -1, "facts": 2})
    with pytest.raises(ValueError, match=r"weights: at least one must be above 0, got \{'text': 0\}"):
        Mixture(weights={"text": 0})
