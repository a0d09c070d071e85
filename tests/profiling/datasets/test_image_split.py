from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.datasets.image_split import PartFractions, part_of_image

FRACTIONS = PartFractions(train=0.6, val=0.1, calibration=0.1)


@given(image_id=st.text(), seed=st.integers(0, 2**32))
def test_a_part_that_is_everything_has_every_image(image_id: str, seed: int) -> None:
    assert part_of_image(image_id, PartFractions(train=1, val=0, calibration=0), seed=seed) == "train"
    assert part_of_image(image_id, PartFractions(train=0, val=1, calibration=0), seed=seed) == "val"
    assert part_of_image(image_id, PartFractions(train=0, val=0, calibration=1), seed=seed) == "calibration"
    assert part_of_image(image_id, PartFractions(train=0, val=0, calibration=0), seed=seed) == "test"


@given(image_id=st.text(), more=st.floats(0, 0.2))
def test_more_to_train_on_takes_no_image_out_of_training(image_id: str, more: float) -> None:
    if part_of_image(image_id, FRACTIONS, seed=0) == "train":
        larger = PartFractions(train=FRACTIONS.train + more, val=0.1, calibration=0.1)
        assert part_of_image(image_id, larger, seed=0) == "train"


def test_the_parts_have_their_shares() -> None:
    counts: Counter[str] = Counter(part_of_image(f"coco/{number}", FRACTIONS, seed=42) for number in range(10_000))
    # Four standard deviations of a share of 0.1 are 120.
    for part, expected in (("train", 6000), ("val", 1000), ("calibration", 1000), ("test", 2000)):
        assert abs(counts[part] - expected) < 200


def test_the_part_belongs_to_the_seed() -> None:
    parts = [[part_of_image(f"coco/{number}", FRACTIONS, seed=seed) for number in range(50)] for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_a_profile_of_today_is_split_the_same_tomorrow() -> None:
    parts = [part_of_image(f"coco/{number}", FRACTIONS, seed=42) for number in range(6)]
    assert parts == ["train", "val", "train", "calibration", "train", "val"]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": -0.1}, "train_fraction: must be between 0 and 1, got -0.1"),
        ({"val": 1.5}, "val_fraction: must be between 0 and 1, got 1.5"),
        ({"train": 0.9, "val": 0.2}, r"train_fraction \+ val_fraction \+ calib.*: must be at most 1, got 1.1"),
    ],
)
def test_impossible_shares_are_named(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartFractions(**({"train": 0.0, "val": 0.0, "calibration": 0.0} | fractions))
