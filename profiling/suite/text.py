"""Words on signs, in letters so large that any tier reads them, or so small that only the higher ones do."""

from typing import Final, NamedTuple

from profiling.suite.draws import Draws, is_held_out
from profiling.suite.marks import PICTURE_POINTS, Box, Mark, Picture, Text
from profiling.suite.palette import ink_on
from profiling.suite.puzzle import Puzzle, ten_answers
from profiling.suite.sprites import text_width
from profiling.suite.things import COLOR_NAMES
from profiling.suite.words import sign_word


class _Letters(NamedTuple):
    """Lowest and highest capitals in points, and fewest and most signs."""

    low: float
    high: float
    fewest: int
    most: int


LETTERS: Final = {"large": _Letters(22, 30, 1, 2), "medium": _Letters(13, 18, 2, 3), "small": _Letters(8, 11, 3, 4)}
_GROUND = 168  # where the grass begins
_SIDES = 1.1  # of a board beside its letters, as a multiple of their height


class _Slot(NamedTuple):
    """Room of one sign."""

    left: float
    top: float
    width: float
    height: float


def make_text(draws: Draws) -> Puzzle:
    """Make a puzzle of one or two signs in large letters (easy) or of up to four in smaller ones (hard)."""
    is_hard = draws.chance(0.6)
    kind = draws.one_of(("medium", "small")) if is_hard else "large"
    letters = LETTERS[kind]
    slots = _slots(draws, draws.whole(letters.fewest, letters.most))
    colors = draws.some_of(COLOR_NAMES, len(slots))
    words: list[str] = []
    while len(words) < len(slots):
        word = _number(draws) if draws.chance(0.15) else sign_word(draws)
        if word not in words:
            words.append(word)
    marks = [
        mark
        for slot, color, word in zip(slots, colors, words, strict=True)
        for mark in _sign(draws, slot, color, word, draws.between(letters.low, letters.high))
    ]
    return Puzzle(
        picture=Picture(background=draws.one_of(("sky", "rose", "cream")), marks=(*_grass(), *marks)),
        question=_question(words[0], colors[0] if len(slots) > 1 else None),
        answers=ten_answers(words[0]),
        kind=kind,
        is_hard=is_hard,
        is_unseen=is_held_out(words[0]),
    )


def _question(word: str, color: str | None) -> str:
    if color is None:
        return "what does the sign say?"
    return f"what {'number' if word.isdigit() else 'word'} is on the {color} sign?"


def _number(draws: Draws) -> str:
    while True:
        number = str(draws.whole(10, 9999))
        if draws.allows(number):
            return number


def _slots(draws: Draws, count: int) -> list[_Slot]:
    """Cut the picture into bands, or into quarters for four signs; the order is random."""
    columns = 2 if count == 4 else 1
    rows = count // columns
    width, height = PICTURE_POINTS / columns, PICTURE_POINTS / rows
    slots = [_Slot(column * width, row * height, width, height) for row in range(rows) for column in range(columns)]
    return draws.some_of(slots, count)


def _sign(draws: Draws, slot: _Slot, color: str, word: str, letter_height: float) -> list[Mark]:
    text = word.upper()
    letter_height = min(letter_height, 0.94 * slot.width / (text_width(text, 1) + _SIDES))
    width = text_width(text, letter_height) + _SIDES * letter_height
    height = 2.1 * letter_height
    x = slot.left + width / 2 + 2 + draws.between(0, 1) * max(0, slot.width - width - 4)
    y = slot.top + height / 2 + 3 + draws.between(0, 1) * max(0, slot.height - 1.5 * height - 6)
    top, bottom = y - height / 2, y + height / 2
    post = letter_height / 6
    foot = min(slot.top + slot.height - 4, bottom + 1.4 * height)
    return [
        Box(color="post", left=x - post, top=bottom - 1, right=x + post, bottom=foot),
        Box(color=color, left=x - width / 2, top=top, right=x + width / 2, bottom=bottom, corner=0.4 * letter_height),
        Text(text=text, color=ink_on(color), x=x, y=y, height=letter_height),
    ]


def _grass() -> list[Mark]:
    return [Box(color="grass", left=0, top=_GROUND, right=PICTURE_POINTS, bottom=PICTURE_POINTS)]
