from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.tally_qa import read
from tests.dataset_files import edit_json, write_tally_qa


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tally_qa(tmp_path)
    return tmp_path


def test_each_question_is_a_sample(root: Path) -> None:
    samples = read(root, "test")
    assert [sample.sample_id for sample in samples] == ["amt/9002", "imported_genome/9002", "imported_genome/9003"]
    assert [sample.tags["kind"] for sample in samples] == ["complex", "simple", "simple"]
    assert all(sample.answers == ("3",) for sample in samples)


def test_images_have_the_ids_of_other_datasets(root: Path) -> None:
    assert [sample.image_id for sample in read(root, "train")] == ["coco/9", "coco/9"]
    assert [sample.image_id for sample in read(root, "test")] == ["coco/42"] + ["visual_genome/2401"] * 2


def test_images_are_found_in_either_collection(root: Path) -> None:
    for sample in read(root, "train") + read(root, "test"):
        assert sample.image.open().size == (8, 6)


def test_training_questions_are_of_no_kind(root: Path) -> None:
    assert all(sample.tags == {} for sample in read(root, "train"))


@pytest.mark.parametrize("image", ["1.jpg", "flickr/1.jpg", "val2014/1.jpg", "VG_100K/one.jpg", ""])
def test_an_image_of_another_collection_is_named(root: Path, image: str) -> None:
    edit_json(root / "tally_qa" / "test.json", lambda rows: rows[1].update(image=image))
    with pytest.raises(DatasetError, match=rf"records\[1\] \(9002\): image: expected an image of .*, found '{image}'"):
        read(root, "test")


def test_a_count_is_not_negative(root: Path) -> None:
    edit_json(root / "tally_qa" / "test.json", lambda rows: rows[0].update(answer=-1))
    with pytest.raises(DatasetError, match=r"\(data_source amt question_id 9002\): answer: .*equal to 0, got -1"):
        read(root, "test")
