from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile
from profiling.datasets.text_vqa import read
from tests.dataset_files import edit_json, write_text_vqa


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_text_vqa(tmp_path)
    return tmp_path


def test_training_and_validation_images_share_a_folder(root: Path) -> None:
    for split, name in (("train", "00train"), ("validation", "00val")):
        (sample,) = read(root, split)
        assert sample.image == ImageFile(path=root / "text_vqa" / "train_images" / f"{name}.jpg")
        assert sample.image_id == f"text_vqa/{name}"
        assert sample.answers == ("nokia",) * 9 + ("toshiba",)


def test_the_test_set_keeps_its_answers_back(root: Path) -> None:
    (sample,) = read(root, "test")
    assert sample.answers == ()
    assert sample.image == ImageFile(path=root / "text_vqa" / "test_images" / "00test.jpg")


def test_validation_without_answers_is_refused(root: Path) -> None:
    edit_json(root / "text_vqa" / "TextVQA_0.5.1_val.json", lambda content: content["data"][0].pop("answers"))
    with pytest.raises(DatasetError, match=r"data\[0\] \(question_id 34602\): answers: required field is missing"):
        read(root, "validation")
