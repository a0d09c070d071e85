import random
from pathlib import Path

import numpy as np
import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile
from profiling.datasets.st_qa import read
from tests.dataset_files import TRAIN_IMAGE, TWIN_IMAGE, edit_json, write_st_qa, write_tally_qa

TRAIN = "st_qa/train_task_3.json"
# What the generator gave when this was written: another numpy must not move the part.
TRAIN_IDS = ["49", "775", "594", "396", "138", "732"]


def test_validation_is_cut_from_the_training_questions_whatever_their_order(tmp_path: Path) -> None:
    write_st_qa(tmp_path)
    val, train = read(tmp_path, "validation"), read(tmp_path, "train")
    order = np.arange(1, 1031)
    np.random.RandomState(63069).shuffle(order)
    assert [int(sample.sample_id) for sample in val + train] == order.tolist()
    assert len(val) == 1024
    assert [sample.sample_id for sample in train] == TRAIN_IDS
    edit_json(tmp_path / TRAIN, lambda content: random.Random(0).shuffle(content["data"]))  # noqa: S311
    assert read(tmp_path, "validation") == val


def test_ids_are_sorted_as_numbers(tmp_path: Path) -> None:
    write_st_qa(tmp_path)
    edit_json(tmp_path / TRAIN, lambda content: content["data"][5].update(question_id="7"))
    with pytest.raises(DatasetError, match=r"data\[5\] \(question_id 7\): question_id: .*valid integer, got '7'"):
        read(tmp_path, "validation")


def test_images_of_coco_and_visual_genome_have_the_ids_of_other_datasets(tmp_path: Path) -> None:
    write_st_qa(tmp_path)
    samples = {sample.sample_id: sample for split in ("validation", "train") for sample in read(tmp_path, split)}
    assert samples["1030"].image_id == f"coco/{TRAIN_IMAGE}"
    assert samples["1029"].image_id == f"visual_genome/{TWIN_IMAGE}"
    assert samples["1"].image_id == "st_qa/icdar/a.jpg"
    write_tally_qa(tmp_path)  # which brings the file that knows the twins
    samples = {sample.sample_id: sample for split in ("validation", "train") for sample in read(tmp_path, split)}
    assert samples["1029"].image_id == "coco/42"


def test_images_lie_in_the_archives_folder_or_directly(tmp_path: Path) -> None:
    write_st_qa(tmp_path)
    (sample,) = read(tmp_path, "test")
    assert sample.image == ImageFile(path=tmp_path / "st_qa" / "test_imgs" / "icdar" / "b.jpg")
    assert sample.answers == ()
    (tmp_path / "st_qa" / "test_imgs").rename(tmp_path / "st_qa" / "unpacked")
    (sample,) = read(tmp_path, "test")
    assert sample.image == ImageFile(path=tmp_path / "st_qa" / "icdar" / "b.jpg")
