from pathlib import Path

import pytest

from profiling.datasets.coco_2014_vqa import read
from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile, Sample
from tests.dataset_files import coco_path, edit_json, write_coco_2014_vqa

ANNOTATIONS = "coco_2014_vqa/v2_mscoco_val2014_annotations.json"
QUESTIONS = "coco_2014_vqa/v2_OpenEnded_mscoco_val2014_questions.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco_2014_vqa(tmp_path)
    return tmp_path


def test_a_question_has_the_answers_of_ten_annotators(root: Path) -> None:
    first, second, third = read(root, "validation")
    assert first == Sample(
        dataset="coco_2014_vqa",
        split="validation",
        sample_id="42000",
        image_id="coco/42",
        image=ImageFile(path=coco_path(root, "val2014", 42)),
        question="What color is the dog?",
        answers=("brown",) * 7 + ("tan",) * 3,
        tags={"question_type": "what is the", "answer_type": "other"},
    )
    assert [sample.image_id for sample in (second, third)] == ["coco/42", "coco/74"]


def test_annotations_are_joined_by_question_not_by_place(root: Path) -> None:
    before = read(root, "validation")
    edit_json(root / ANNOTATIONS, lambda content: content["annotations"].reverse())
    assert read(root, "validation") == before


def test_the_test_set_keeps_its_answers_back(root: Path) -> None:
    (sample,) = read(root, "test")
    assert sample.answers == ()
    assert sample.image.open().size == (8, 6)


def test_a_question_without_an_annotation_is_named(root: Path) -> None:
    edit_json(root / ANNOTATIONS, lambda content: content["annotations"].pop(0))
    with pytest.raises(DatasetError, match=r"annotations\.json: expected an annotation of every question .* 42000 \("):
        read(root, "validation")


def test_an_annotation_of_no_question_is_named(root: Path) -> None:
    edit_json(root / QUESTIONS, lambda content: content["questions"].pop(1))
    with pytest.raises(DatasetError, match=r"annotations\[1\] \(question_id 42001\): expected a question of .*questio"):
        read(root, "validation")


def test_an_annotation_of_another_image_is_named(root: Path) -> None:
    edit_json(root / ANNOTATIONS, lambda content: content["annotations"][0].update(image_id=74))
    with pytest.raises(DatasetError, match=r"\(question_id 42000\): expected image_id 42 of .*, found image_id 74"):
        read(root, "validation")


def test_an_annotator_without_an_answer_is_named(root: Path) -> None:
    edit_json(root / ANNOTATIONS, lambda content: content["annotations"][2]["answers"][4].pop("answer"))
    wrong = r"annotations\[2\] \(question_id 74000\): answers\[4\]\.answer: required field is missing"
    with pytest.raises(DatasetError, match=wrong):
        read(root, "validation")
