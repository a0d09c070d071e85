from pathlib import Path

import pytest

from profiling.datasets.coco_caption import read
from profiling.datasets.official import DatasetError
from tests.dataset_files import edit_json, write_coco_caption

FILE = "coco_caption/captions_val2014.json"


def test_an_image_is_a_sample_and_its_captions_are_the_answers(tmp_path: Path) -> None:
    write_coco_caption(tmp_path)
    first, second = read(tmp_path, "validation")
    assert first.answers == tuple(f"Caption {i} of 42." for i in range(5))
    assert second.answers[4] == "Caption 4 of 74."
    assert (first.sample_id, first.image_id) == ("42", "coco/42")
    assert first.image.open().mode == "RGB"


def test_a_caption_of_no_image_is_named(tmp_path: Path) -> None:
    write_coco_caption(tmp_path)
    edit_json(tmp_path / FILE, lambda content: content["annotations"][1].update(image_id=5))
    with pytest.raises(DatasetError, match=r"annotations\[1\] \(id 740\): image_id: expected one of images, found 5"):
        read(tmp_path, "validation")


def test_an_image_without_captions_is_named(tmp_path: Path) -> None:
    write_coco_caption(tmp_path)
    edit_json(tmp_path / FILE, lambda content: content["images"].append({"id": 6}))
    with pytest.raises(DatasetError, match="images: expected a caption of every image, found none of id 6"):
        read(tmp_path, "validation")
