from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pytest
from PIL import Image

from profiling.suite.canvas import draw_picture
from profiling.suite.families import FAMILIES
from profiling.suite.sheet import contact_sheet, suite_sheet
from profiling.suite.suite import PuzzleKey


def test_a_sheet_shows_each_picture_above_its_text() -> None:
    puzzles = [PuzzleKey(family=family, split="test", index=0).make() for family in FAMILIES]
    page = np.asarray(contact_sheet(puzzles, columns=3, pixels=150))
    assert page.shape == (3 * (150 + 60 + 14) + 14, 3 * (150 + 14) + 14, 3)
    second = np.asarray(draw_picture(puzzles[1].picture, 150))
    assert np.array_equal(page[14:164, 178:328], second)
    below = page[164:224, 178:328]
    assert (below.min(axis=2) < 100).any()
    assert (page[-60:, -150:] == 255).all()  # two places of the last row are empty


def test_no_text_is_longer_than_its_place() -> None:
    for family in FAMILIES:
        for index in range(150):
            puzzle = PuzzleKey(family=family, split="test", index=index).make()
            assert len(wrap(puzzle.question, 32)) + len(wrap(puzzle.answers[0], 32)) <= 4


def test_the_command_writes_the_samples_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    suite_sheet(
        "text", Path("new/sheet.png"), split="train", first=5, num_samples=3, columns=2, canvas_pixels=150, seed=1
    )
    puzzles = [PuzzleKey(family="text", split="train", index=index, seed=1).make() for index in (5, 6, 7)]
    with Image.open("new/sheet.png") as page:
        assert page.tobytes() == contact_sheet(puzzles, columns=2, pixels=150).tobytes()
    assert capsys.readouterr().out == "wrote 3 pictures of text/train to new/sheet.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "poems"}, "family: must be one of scenes, .*, captions, got 'poems'"),
        ({"num_samples": 0}, "num_samples: must be 1 or more, got 0"),
        ({"columns": 0}, "columns: must be 1 or more, got 0"),
        ({"canvas_pixels": 0}, "canvas_pixels: must be 1 or more, got 0"),
        ({"output": Path("sheet.jpg")}, r"output: must end in \.png, got sheet\.jpg"),
        ({"output": Path("old.png")}, r"output: old\.png exists already; choose another file"),
    ],
)
def test_the_command_names_a_wrong_argument_and_writes_nothing(arguments: dict[str, Any], message: str) -> None:
    Path("old.png").touch()
    right: dict[str, Any] = {"family": "text", "output": Path("sheet.png")}
    with pytest.raises(ValueError, match=message):
        suite_sheet(**(right | arguments))
    assert [path.name for path in Path().iterdir()] == ["old.png"]
