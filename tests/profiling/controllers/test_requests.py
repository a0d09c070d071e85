from dataclasses import replace

import numpy as np
import pytest

from profiling.controllers.requests import PARTS, Requests, policy_of, split_by_image, split_by_profile
from profiling.datasets.image_split import PartFractions, part_of_image
from tests.controller_world import share_out, world_requests


def test_no_image_is_in_two_parts_and_every_sample_in_one() -> None:
    requests = world_requests(num_images=80)
    parts = share_out(requests)
    images = [set(parts[part].image_ids) for part in PARTS]
    assert sum(len(members) for members in images) == len(set.union(*images)) == 80
    assert sum(len(parts[part]) for part in PARTS) == len(requests)
    fractions = PartFractions(train=0.5, val=0.1, calibration=0.1)
    for part in PARTS:
        assert {part_of_image(image, fractions, seed=0) for image in parts[part].image_ids} == {part}


def test_the_seed_moves_images() -> None:
    requests = world_requests(num_images=80)
    one, again, other = (set(share_out(requests, seed=seed)["test"].image_ids) for seed in (0, 0, 2))
    assert one == again != other


def test_features_go_with_their_outcomes() -> None:
    requests = world_requests(num_images=10)
    test = share_out(world_requests(num_images=80))["test"]
    assert len(test.features.free_NF) == len(test.outcomes) == len(test)
    taken = requests.take(np.asarray([5, 1]))
    assert np.array_equal(taken.features.free_NF, requests.features.free_NF[[5, 1]])


def test_an_empty_part_is_an_error_that_names_it() -> None:
    fractions = PartFractions(train=0.5, val=0.1, calibration=0.0)
    with pytest.raises(
        ValueError, match="split: no image is in the part 'calibration', got 80 images and PartFractions"
    ):
        split_by_image(world_requests(num_images=80), fractions, seed=0)


def test_a_policy_chooses_for_each_budget() -> None:
    requests = world_requests(num_images=2)
    policy = policy_of(lambda _requests, budget_ms: np.arange(18.0) * np.float64(budget_ms - 5))
    assert policy(requests, [4.0, 6.0]).tolist() == [[0] * 4, [17] * 4]


def in_parts(*, num_images: int = 80, **named: range) -> Requests:
    """The world with images in parts of the profile."""
    requests = world_requests(num_images=num_images)
    part_of = {f"i{number}": part for part, numbers in named.items() for number in numbers}
    samples = requests.outcomes.samples.assign(split=[part_of[image] for image in requests.image_ids])
    return replace(requests, outcomes=replace(requests.outcomes, samples=samples))


def test_a_profiles_parts_are_kept_and_validation_is_drawn_from_training() -> None:
    requests = in_parts(train=range(40), calibration=range(40, 55), test=range(55, 80))
    parts = split_by_profile(requests, val_fraction=0.2, seed=0)
    images = {part: set(parts[part].image_ids) for part in PARTS}
    assert images["train"] | images["val"] == {f"i{number}" for number in range(40)}
    assert images["calibration"] == {f"i{number}" for number in range(40, 55)}
    assert images["test"] == {f"i{number}" for number in range(55, 80)}
    assert 3 <= len(images["val"]) <= 14
    assert not images["train"] & images["val"]
    other = split_by_profile(requests, val_fraction=0.2, seed=1)
    assert set(other["val"].image_ids) != images["val"]
    assert set(other["test"].image_ids) == images["test"]


def test_a_part_for_validation_is_kept_too() -> None:
    requests = in_parts(train=range(40), val=range(40, 50), calibration=range(50, 60), test=range(60, 80))
    parts = split_by_profile(requests, val_fraction=0.2, seed=0)
    assert set(parts["val"].image_ids) == {f"i{number}" for number in range(40, 50)}
    assert len(set(parts["train"].image_ids)) == 40


def test_parts_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="parts must be of train, val, calibration, test, got 'odd'; split by image"):
        split_by_profile(in_parts(train=range(40), odd=range(40, 80)), val_fraction=0.1, seed=0)
    with pytest.raises(
        ValueError, match="no image is in the part 'calibration', got 80 images and the profile's parts"
    ):
        split_by_profile(in_parts(train=range(40), test=range(40, 80)), val_fraction=0.1, seed=0)
    requests = in_parts(train=range(40), calibration=range(40, 60), test=range(60, 80))
    samples = requests.outcomes.samples.copy()
    samples.loc[0, "split"] = "test"
    torn = replace(requests, outcomes=replace(requests.outcomes, samples=samples))
    with pytest.raises(ValueError, match="the image i0 is in the parts test and train"):
        split_by_profile(torn, val_fraction=0.1, seed=0)
