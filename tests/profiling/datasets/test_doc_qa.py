from pathlib import Path

from profiling.datasets.doc_qa import read
from profiling.datasets.sample import ImageFile
from tests.dataset_files import write_doc_qa


def test_answers_are_kept_as_written(tmp_path: Path) -> None:
    write_doc_qa(tmp_path)
    first, *_ = read(tmp_path, "validation")
    assert first.answers == ("1/8/93", "1/8/93 ")
    assert first.sample_id == "100"
    assert first.tags == {"question_types": "layout, form"}
    assert first.image == ImageFile(path=tmp_path / "doc_qa" / "documents" / "val_0.png")


def test_questions_about_one_page_share_its_image(tmp_path: Path) -> None:
    write_doc_qa(tmp_path)
    first, second, third = read(tmp_path, "validation")
    assert first.image_id == second.image_id == "doc_qa/documents/val_0.png"
    assert third.image_id == "doc_qa/documents/val_1.png"


def test_the_test_set_keeps_its_answers_and_types_back(tmp_path: Path) -> None:
    write_doc_qa(tmp_path)
    first, *_ = read(tmp_path, "test")
    assert first.answers == ()
    assert first.tags == {}
