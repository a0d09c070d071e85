import json
from pathlib import Path

import pytest

from profiling.datasets.json_lines import read_json_lines
from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile, Sample

LINE: dict[str, object] = {"image": "images/a.png", "question": "What is it?", "answers": ["a cat", "cat"]}


def _write(*lines: dict[str, object]) -> Path:
    Path("robots.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Path("robots.jsonl")


def test_a_line_needs_an_image_a_question_and_answers() -> None:
    (sample,) = read_json_lines(_write(LINE))
    assert sample == Sample(
        dataset="robots",
        split="all",
        sample_id="1",
        image_id="robots/images/a.png",
        image=ImageFile(path=Path("images/a.png")),
        question="What is it?",
        answers=("a cat", "cat"),
    )


def test_ids_and_options_may_be_given() -> None:
    more = {"id": 17, "image_id": "coco/42", "options": ["cat", "a cat", "dog"]}
    (sample,) = read_json_lines(_write(LINE | more))
    assert (sample.sample_id, sample.image_id) == ("17", "coco/42")
    assert sample.options == ("cat", "a cat", "dog")


def test_images_lie_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    path = _write(LINE).rename(tmp_path / "far" / "robots.jsonl")
    (sample,) = read_json_lines(path)
    assert sample.image == ImageFile(path=tmp_path / "far" / "images" / "a.png")


def test_empty_lines_count_and_hold_nothing() -> None:
    Path("robots.jsonl").write_text(f"\n{json.dumps(LINE)}\n\n")
    assert [sample.sample_id for sample in read_json_lines(Path("robots.jsonl"))] == ["2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": 5}, "question: Input should be a valid string, got 5"),
        ({"answers": "cat"}, "answers: Input should be a valid list, got 'cat'"),
        ({"answer": ["cat"]}, "answer: unknown field"),
        ({"options": ["cat", "dog"]}, "answers: expected some of cat, dog, found 'a cat'"),
        ({"id": 1}, "id '1' occurs twice"),
    ],
)
def test_a_wrong_line_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=rf"robots\.jsonl: line 2: {message}"):
        read_json_lines(_write(LINE, LINE | change))


def test_a_broken_line_is_named() -> None:
    path = _write(LINE)
    path.write_text(path.read_text() + "no json\n")
    with pytest.raises(DatasetError, match=r"robots\.jsonl: line 2: not JSON"):
        read_json_lines(path)
    path.write_text(json.dumps(LINE)[:-9])
    with pytest.raises(DatasetError, match=r"robots\.jsonl: line 1: cut short, the file's last line is incomplete"):
        read_json_lines(path)
    with pytest.raises(DatasetError, match=r"gone\.jsonl: no such file of questions"):
        read_json_lines(Path("gone.jsonl"))
