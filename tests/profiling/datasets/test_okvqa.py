from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.okvqa import read
from tests.dataset_files import edit_json, write_okvqa


def test_answers_are_the_annotators_words_not_their_stems(tmp_path: Path) -> None:
    write_okvqa(tmp_path)
    (sample,) = read(tmp_path, "validation")
    assert sample.answers == ("surfing",) * 10
    assert sample.image_id == "coco/42"
    assert sample.tags["question_type"] == "four"
    assert sample.image.open().mode == "RGB"


def test_a_file_of_stems_alone_is_refused(tmp_path: Path) -> None:
    write_okvqa(tmp_path)
    path = tmp_path / "okvqa" / "mscoco_val2014_annotations.json"
    edit_json(path, lambda content: content["annotations"][0]["answers"][0].pop("raw_answer"))
    with pytest.raises(DatasetError, match=r"answers\[0\]\.raw_answer: required field is missing"):
        read(tmp_path, "validation")
