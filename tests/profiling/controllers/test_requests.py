import numpy as np
import pytest

from profiling.controllers.requests import PARTS, policy_of, split_requests
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
        split_requests(world_requests(num_images=80), fractions, seed=0)


def test_a_policy_chooses_for_each_budget() -> None:
    requests = world_requests(num_images=2)
    policy = policy_of(lambda _requests, budget_ms: np.arange(18.0) * np.float64(budget_ms - 5))
    assert policy(requests, [4.0, 6.0]).tolist() == [[0] * 4, [17] * 4]
