from pathlib import Path

import pytest

from profiling.datasets.catalogue import read_dataset
from profiling.datasets.easy_vqa import installed_or_root, read
from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile
from tests.dataset_files import edit_json, write_easy_vqa


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_easy_vqa(tmp_path)
    return tmp_path


def test_a_question_is_a_list_of_three(root: Path) -> None:
    first, second, third, _ = read(root, "test")
    assert (first.question, first.answers) == ("what is the blue shape?", ("rectangle",))
    assert first.image == ImageFile(path=root / "easy_vqa" / "data" / "test" / "images" / "0.png")
    assert [sample.image_id for sample in (first, second, third)] == ["easy_vqa/test/0"] * 2 + ["easy_vqa/test/1"]


def test_images_of_the_two_parts_are_different_ones(root: Path) -> None:
    ids = [{sample.image_id for sample in read(root, split)} for split in ("train", "test")]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["what?", "no"], r"expected a list of question, answer and image, found \['what\?', 'no'\]"),
        ({"question": "what?"}, "expected a list of question, answer and image, found "),
        (["what?", "no", "0"], "image: Input should be a valid integer, got '0'"),
        (["what?", "perhaps", 0], "answer: expected one of circle, no, rectangle, yes, found 'perhaps'"),
    ],
)
def test_a_wrong_question_is_named(root: Path, row: object, message: str) -> None:
    edit_json(root / "easy_vqa" / "data" / "test" / "questions.json", lambda rows: rows.append(row))
    with pytest.raises(DatasetError, match=rf"questions\.json: records\[4\]: {message}"):
        read(root, "test")


def test_the_installed_package_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    packages = tmp_path / "site-packages"
    write_easy_vqa(packages)
    (packages / "easy_vqa" / "__init__.py").touch()
    monkeypatch.syspath_prepend(packages)
    assert installed_or_root(None) == packages
    assert len(read_dataset("easy_vqa")) == 4
    # A root that has the dataset goes first, another does not.
    assert installed_or_root(tmp_path) == packages
    write_easy_vqa(tmp_path)
    assert installed_or_root(tmp_path) == tmp_path


def test_without_the_package_a_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    monkeypatch.setattr("profiling.datasets.easy_vqa.find_spec", lambda _name: None)
    with pytest.raises(DatasetError, match="easy_vqa: pip install easy-vqa, or: root: no folder of datasets is named"):
        installed_or_root(None)
