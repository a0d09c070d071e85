from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.datasets.coco import coco_image, coco_image_id, coco_number


@given(number=st.integers(0, 10**12 - 1), folder=st.sampled_from(["train2014", "val2014", "test2015"]))
def test_an_image_is_found_by_its_number_and_its_number_by_its_name(number: int, folder: str) -> None:
    path = coco_image(Path("root"), folder, number).path
    assert path.parent == Path("root/coco") / folder
    assert coco_number(path.name) == number
    assert coco_image_id(number) == f"coco/{number}"


@pytest.mark.parametrize("name", ["1.jpg", "COCO_train2014_1.jpg", "COCO_train2014_000000000009.png"])
def test_other_names_have_no_number(name: str) -> None:
    assert coco_number(name) is None
