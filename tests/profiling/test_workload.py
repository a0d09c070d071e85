from collections import Counter

import numpy as np
import pytest

from profiling.workload import Workload, make_requests

SIZES = ((64, 48), (48, 64), (100, 100))


def test_each_size_is_asked_for_as_often_as_said() -> None:
    requests = make_requests(Workload(image_sizes=SIZES, images_per_size=4))
    assert Counter((request.width, request.height) for request in requests) == dict.fromkeys(SIZES, 4)
    assert len({request.sample_id for request in requests}) == 12
    assert len({request.seed for request in requests}) == 12


def test_the_seed_decides_everything() -> None:
    one, same = (make_requests(Workload(image_sizes=SIZES, images_per_size=4)) for _ in range(2))
    other = make_requests(Workload(image_sizes=SIZES, images_per_size=4, seed=43))
    assert one == same
    assert not {request.sample_id for request in one} & {request.sample_id for request in other}
    assert not {request.seed for request in one} & {request.seed for request in other}
    assert [request.text_tokens for request in one] != [request.text_tokens for request in other]


def test_lengths_fill_their_range_evenly_on_a_logarithmic_scale() -> None:
    requests = make_requests(Workload(image_sizes=SIZES, images_per_size=100))
    text = np.array([request.text_tokens for request in requests])
    output = np.array([request.max_new_tokens for request in requests])
    assert (text.min(), output.min()) == (10, 1)
    assert 590 <= text.max() <= 600
    assert 63 <= output.max() <= 64
    # A quarter of the logarithm from 10 to 601 ends at 27.8, a half at 77.5, three quarters at 215.9.
    counts, _ = np.histogram(text, bins=[10, 28, 78, 216, 601])
    assert counts == pytest.approx([75, 75, 75, 75], abs=1)
    assert abs(np.corrcoef(text, output)[0, 1]) < 0.2


def test_a_range_of_one_length_gives_that_length() -> None:
    requests = make_requests(Workload(image_sizes=SIZES, text_tokens=(7, 7), output_tokens=(1, 1)))
    assert {(request.text_tokens, request.max_new_tokens) for request in requests} == {(7, 1)}


def test_pictures_and_prompts_are_those_of_the_request() -> None:
    first, second = make_requests(Workload(image_sizes=((30, 20), (30, 20)), text_tokens=(50, 50)))
    picture, again, other = (np.asarray(request.open_image()) for request in (first, first, second))
    assert picture.shape == (20, 30, 3)
    assert np.array_equal(picture, again)
    assert not np.array_equal(picture, other)
    prompt = first.prompt(9)
    assert len(prompt) == 50
    assert set(prompt) <= set(range(9))
    assert prompt == first.prompt(9)
    assert prompt != second.prompt(9)


def test_impossible_workloads_name_the_field() -> None:
    with pytest.raises(ValueError, match="image_sizes: needs pairs of width and height of at least 1"):
        Workload(image_sizes=())
    with pytest.raises(ValueError, match=r"image_sizes: .* got \(\(5, 0\),\)"):
        Workload(image_sizes=((5, 0),))
    with pytest.raises(ValueError, match="images_per_size: must be 1 or more, got 0"):
        Workload(image_sizes=SIZES, images_per_size=0)
    with pytest.raises(ValueError, match="text_tokens: needs 1 <= fewest <= most, got 9 and 8"):
        Workload(image_sizes=SIZES, text_tokens=(9, 8))
    with pytest.raises(ValueError, match="output_tokens: needs 1 <= fewest <= most, got 0 and 8"):
        Workload(image_sizes=SIZES, output_tokens=(0, 8))
