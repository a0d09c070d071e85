import numpy as np

from profiling.suite.canvas import draw_picture
from profiling.suite.families import FAMILIES
from profiling.suite.sheet import contact_sheet
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
