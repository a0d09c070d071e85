from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from profiling.datasets.mmmu import SUBJECTS, read
from profiling.datasets.official import DatasetError
from tests.dataset_files import mmmu_row, write_mmmu, write_mmmu_shard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_mmmu(tmp_path)
    return tmp_path


def _replace(root: Path, *rows: dict[str, Any], split: str = "validation") -> None:
    write_mmmu_shard(root / "mmmu" / "Math" / f"{split}-00000-of-00001.parquet", list(rows))


def test_there_are_thirty_subjects(root: Path) -> None:
    samples = read(root, "validation")
    assert len(SUBJECTS) == 30
    assert {sample.tags["subject"] for sample in samples} == set(SUBJECTS)


def test_the_answer_is_the_option_that_its_letter_names(root: Path) -> None:
    first, *_ = read(root, "validation")
    assert first.options == ("A cat", "The dog's", "A bird", "None")
    assert first.answers == ("The dog's",)
    assert first.sample_id == "validation_Accounting_1"


def test_an_open_question_has_every_answer_that_is_right(root: Path) -> None:
    sample = next(sample for sample in read(root, "validation") if sample.tags["question_type"] == "open")
    assert sample.options == ()
    assert sample.answers == ("1.5", "one and a half")
    _replace(root, mmmu_row("x", options="[]", answer="24/7", question_type="open"))
    assert next(sample for sample in read(root, "validation") if sample.sample_id == "x").answers == ("24/7",)


def test_of_several_images_the_first_is_shown_and_their_number_told(root: Path) -> None:
    sample = next(sample for sample in read(root, "validation") if sample.sample_id == "validation_Art_2")
    assert sample.tags["num_images"] == "3"
    assert sample.image.open().size == (10, 6)


def test_options_are_read_not_executed(root: Path) -> None:
    options = "[open('made', 'w').write('x')]"
    _replace(root, mmmu_row("x", options=options))
    with pytest.raises(DatasetError, match=r"row 0 \(id x\): options: expected a list of texts as Python writes it"):
        read(root, "validation")
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "['A', 1]"}, r"options: expected a list of texts as Python writes it, found .\['A', 1\]"),
        ({"options": "['A'"}, "options: expected a list of texts"),
        ({"options": "'AB'"}, "options: expected a list of texts"),
        ({"answer": "E"}, "answer: expected the letter of one of 4 options, found 'E'"),
        ({"answer": "AB"}, "answer: expected the letter of one of 4 options, found 'AB'"),
        ({"answer": "?"}, "answer: expected the letter of one of 4 options, found '?'"),
        ({"question": None}, "question: Input should be a valid string, got None"),
        ({"question_type": "essay"}, "question_type: Input should be 'multiple-choice' or 'open', got 'essay'"),
        ({"num_images": 0}, "expected an image in image_1, found none"),
    ],
)
def test_a_wrong_question_is_named(root: Path, change: dict[str, Any], message: str) -> None:
    _replace(root, mmmu_row("x", **change))
    with pytest.raises(DatasetError, match=rf"Math/validation.*: row group 0, row 0 \(id x\): {message}"):
        read(root, "validation")


def test_an_id_of_two_subjects_is_named(root: Path) -> None:
    _replace(root, mmmu_row("validation_Art_2"))
    with pytest.raises(DatasetError, match=r"Math/validation.*: id 'validation_Art_2' occurs twice"):
        read(root, "validation")


def test_the_test_set_keeps_its_answers_back(root: Path) -> None:
    write_mmmu(root, "test")
    _replace(root, mmmu_row("x", answer="?"), split="test")
    assert next(sample for sample in read(root, "test") if sample.sample_id == "x").answers == ()


def test_a_subject_may_have_several_files(root: Path) -> None:
    folder = root / "mmmu" / "Math"
    (folder / "validation-00000-of-00001.parquet").unlink()
    write_mmmu_shard(folder / "validation-00000-of-00002.parquet", [mmmu_row("x")])
    with pytest.raises(DatasetError, match=r"Math/validation-00001-of-00002\.parquet: no such file"):
        read(root, "validation")
    write_mmmu_shard(folder / "validation-00001-of-00002.parquet", [mmmu_row("y")])
    assert {"x", "y"} <= {sample.sample_id for sample in read(root, "validation")}


def test_a_missing_subject_is_named(root: Path) -> None:
    (root / "mmmu" / "Sociology" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DatasetError, match=r"Sociology/validation-00000-of-00001\.parquet: no such file; .*of MMMU"):
        read(root, "validation")


def test_a_file_that_is_no_parquet_or_lacks_a_column_is_named(root: Path) -> None:
    path = root / "mmmu" / "Math" / "validation-00000-of-00001.parquet"
    whole = pq.read_table(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"Math/validation.*: not a Parquet file, or cut short"):
        read(root, "validation")
    pq.write_table(whole.drop_columns("options"), path)
    with pytest.raises(
        DatasetError, match=r"Math/validation.*: options: required column is missing, found id, question"
    ):
        read(root, "validation")
    pq.write_table(whole.drop_columns("image_1").append_column("image_1", whole["id"]), path)
    with pytest.raises(
        DatasetError, match=r"Math/validation.*: image_1: expected a column of structs .*, found string"
    ):
        read(root, "validation")
