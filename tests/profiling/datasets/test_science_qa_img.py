from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.science_qa_img import read
from tests.dataset_files import edit_json, write_science_qa_img

QUESTION = "Which of these states is farthest north?"
HINT = "The map shows the United States."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_science_qa_img(tmp_path)
    return tmp_path


def test_a_question_follows_its_hint(root: Path) -> None:
    hinted, plain = read(root, "validation")
    assert hinted.question == f"{HINT}\n{QUESTION}"
    assert plain.question == QUESTION


def test_the_question_is_lost_behind_its_hint_as_the_molmo_models_saw_it(root: Path) -> None:
    hinted, plain = read(root, "validation", molmo_compat=True)
    assert hinted.question == f"{HINT}\n{HINT}"
    assert plain.question == QUESTION


def test_questions_without_an_image_are_left_out(root: Path) -> None:
    assert [sample.sample_id for sample in read(root, "validation")] == ["2", "4"]


def test_the_answer_is_one_of_the_options(root: Path) -> None:
    _, sample = read(root, "validation")
    assert sample.options == ("West Virginia", "Louisiana", "Arizona")
    assert sample.answers == ("Arizona",)
    assert sample.tags == {"subject": "social science"}
    assert sample.image.open().size == (8, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 3}, "problem '4': answer: expected the index of one of 3 choices, found 3"),
        ({"answer": "C"}, "problem '4': answer: Input should be a valid integer, got 'C'"),
        ({"choices": []}, "problem '4': choices: List should have at least 1 item"),
    ],
)
def test_a_wrong_problem_is_named(root: Path, change: dict[str, object], message: str) -> None:
    edit_json(root / "science_qa_img" / "problems.json", lambda problems: problems["4"].update(change))
    with pytest.raises(DatasetError, match=rf"problems\.json: {message}"):
        read(root, "validation")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["2", "9"], r"problems\.json: problem '9': no such problem, but pid_splits\.json names it"),
        (["2", 4], r"pid_splits\.json: val\[1\]: expected a problem's id as text, found 4"),
        (["2", "4", "2"], r"pid_splits\.json: val: id '2' occurs twice"),
    ],
)
def test_a_wrong_id_of_a_split_is_named(root: Path, ids: list[object], message: str) -> None:
    edit_json(root / "science_qa_img" / "pid_splits.json", lambda splits: splits.update(val=ids))
    with pytest.raises(DatasetError, match=message):
        read(root, "validation")


@pytest.mark.parametrize("name", ["problems.json", "pid_splits.json"])
def test_a_missing_or_cut_file_is_named(root: Path, name: str) -> None:
    path = root / "science_qa_img" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match=rf"{name}: line 1, column \d+: not JSON: .*, the file may be cut short"):
        read(root, "validation")
    path.unlink()
    with pytest.raises(DatasetError, match=rf"{name}: no such file; {name} of ScienceQA .* belongs there"):
        read(root, "validation")
