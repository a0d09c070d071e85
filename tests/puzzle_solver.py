"""Answer a puzzle from its marks alone, by other means than those that made it."""

import re
from collections import Counter
from itertools import pairwise
from math import atan2, degrees, hypot
from typing import TypeVar

from profiling.suite.facts import FACTS, answer_of
from profiling.suite.marks import Box, Line, Picture, Shape, Symbol, Text
from profiling.suite.palette import COLORS
from profiling.suite.puzzle import Puzzle
from profiling.suite.sprites import SHAPES
from profiling.suite.vocabulary import NUMBER_WORDS, PLURALS

T = TypeVar("T")

_CLEAR_POINTS = 12  # what lies so far apart is plainly left, right, above or below
_SINGULAR = {plural: shape for shape, plural in PLURALS.items()}


def solve(family: str, puzzle: Puzzle) -> str:
    """Return the answer that the picture gives. Captions are only checked, by ``describes``."""
    return {
        "scenes": _solve_scene,
        "text": _solve_text,
        "counting": _solve_counting,
        "tables": _solve_table,
        "choice": _solve_choice,
        "facts": _solve_fact,
    }[family](puzzle.picture, puzzle.question)


def words_of(question: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", question)


def shapes_of(picture: Picture) -> list[Shape]:
    return [mark for mark in picture.marks if isinstance(mark, Shape)]


def texts_of(picture: Picture) -> list[Text]:
    return [mark for mark in picture.marks if isinstance(mark, Text)]


def _only(items: list[T]) -> T:
    assert len(items) == 1, items
    return items[0]


def _named(shapes: list[Shape], color: str | None, kind: str | None) -> list[Shape]:
    return [shape for shape in shapes if color in (None, shape.color) and kind in (None, shape.kind)]


def _is_beyond(relation: str, one: Shape, other: Shape) -> bool:
    """Whether the first lies on that side of the other; the two must differ clearly."""
    apart = {"left": other.x - one.x, "right": one.x - other.x, "above": other.y - one.y, "below": one.y - other.y}
    assert abs(apart[relation]) >= _CLEAR_POINTS
    return apart[relation] > 0


def _solve_scene(picture: Picture, question: str) -> str:
    shapes = shapes_of(picture)
    words = words_of(question)
    if words[0] == "is":
        return "yes" if _is_so(shapes, words) else "no"
    match words:
        case ["what", asked, "is", "the", "biggest", *_]:
            *_, second, biggest = sorted(shapes, key=lambda shape: shape.size)
            assert biggest.size > 1.3 * second.size
            return biggest.color if asked == "color" else biggest.kind
        case ["what", "color", "is", "the", kind]:
            return _only(_named(shapes, None, kind)).color
        case ["what", "shape", "is", color]:
            return _only(_named(shapes, color, None)).kind
        case ["where", "is", "the", color, kind]:
            return _ninth(_only(_named(shapes, color, kind)))
        case ["what", "shape", "is", relation, *_, color, kind]:
            subject = _only(_named(shapes, color, kind))
            others = [shape for shape in shapes if shape is not subject]
            return _only([shape for shape in others if _is_beyond(relation, shape, subject)]).kind
    raise AssertionError(question)


def _is_so(shapes: list[Shape], words: list[str]) -> bool:
    match words:
        case ["is", "there", "a" | "an", color, kind]:
            return bool(_named(shapes, color, kind))
        case ["is", "the", color, kind, relation, *_, other_color, other_kind]:
            one, other = _only(_named(shapes, color, kind)), _only(_named(shapes, other_color, other_kind))
            return _compares(relation, one, other)
    raise AssertionError(words)


def _ninth(shape: Shape) -> str:
    """Which ninth of the picture a thing lies in; plainly in one."""
    assert min(abs(along - edge) for along in (shape.x, shape.y) for edge in (64, 128)) > 8
    words = [
        *(["top"] if shape.y < 64 else ["bottom"] if shape.y > 128 else []),
        *(["left"] if shape.x < 64 else ["right"] if shape.x > 128 else []),
    ]
    return " ".join(words) or "middle"


def _compares(relation: str, one: Shape, other: Shape) -> bool:
    if relation not in ("bigger", "smaller"):
        return _is_beyond(relation, one, other)
    ratio = one.size / other.size
    assert max(ratio, 1 / ratio) > 1.3
    return (ratio > 1) == (relation == "bigger")


def _solve_text(picture: Picture, question: str) -> str:
    texts = texts_of(picture)
    found = re.fullmatch(r"what (?:word|number) is on the (\w+) sign\?", question)
    if found is None:
        return _only(texts).text.lower()
    board = _only([mark for mark in picture.marks if isinstance(mark, Box) and mark.color == found[1]])
    on_board = [text for text in texts if board.left < text.x < board.right and board.top < text.y < board.bottom]
    return _only(on_board).text.lower()


def _solve_counting(picture: Picture, question: str) -> str:
    *colors, plural = words_of(question)[2:-2]
    kind = _SINGULAR[plural]
    color = colors[0] if colors else None
    return str(len(_named(shapes_of(picture), color, None if kind == "shape" else kind)))


def _solve_table(picture: Picture, question: str) -> str:
    texts = texts_of(picture)
    found = re.fullmatch(r"what is the value of row (\w), column (\w)\?", question)
    if found is not None:
        top, left = min(text.y for text in texts), min(text.x for text in texts)
        row = _only([text for text in texts if text.x == left and text.text.lower() == found[1]])
        column = _only([text for text in texts if text.y == top and text.text.lower() == found[2]])
        return _only([text for text in texts if (text.x, text.y) == (column.x, row.y)]).text
    words = words_of(question)
    field = words[-1] if words[3] == "price" else words[3]
    label = _only([text for text in texts if text.text.lower() == field])
    return _only([text for text in texts if text.y == label.y and text is not label]).text.lower()


def _solve_choice(picture: Picture, question: str) -> str:
    words = words_of(question)[:-8]  # without the options
    if words[-1] == "point":
        color = words[4] if len(words) == 7 else None
        arrow = _only(_named(shapes_of(picture), color, None))
        return {0: "up", 90: "right", 180: "down", 270: "left"}[arrow.turn]
    if words[1] == "bar":
        bars = sorted(
            (mark.bottom - mark.top, mark.color)
            for mark in picture.marks
            if isinstance(mark, Box) and mark.color in COLORS
        )
        assert all(higher[0] - lower[0] > 5 for lower, higher in pairwise(bars))
        return bars[-1 if words[-1] == "tallest" else 0][1]
    if "hour" in words:
        return _read_clock(picture, asks_minutes="minutes" in words)
    if words[-1] == "show":
        return _read_thermometer(picture)
    return _read_chain(picture, words)


def _read_clock(picture: Picture, *, asks_minutes: bool) -> str:
    *_, middle = shapes_of(picture)
    hands = [
        mark for mark in picture.marks if isinstance(mark, Line) and hypot(mark.x0 - middle.x, mark.y0 - middle.y) < 1
    ]
    short, long = sorted(hands, key=lambda hand: hypot(hand.x1 - hand.x0, hand.y1 - hand.y0))
    hour_turn, minute_turn = (
        degrees(atan2(hand.x1 - hand.x0, hand.y0 - hand.y1)) % 360 / 360 for hand in (short, long)
    )
    minute = round(minute_turn * 60) % 60
    hour = round(hour_turn * 12 - minute / 60) % 12 or 12
    return str(minute if asks_minutes else hour)


def _read_thermometer(picture: Picture) -> str:
    level = _only([mark.top for mark in picture.marks if isinstance(mark, Box) and mark.color == "red"])
    (low_y, low), *_, (high_y, high) = sorted((-text.y, int(text.text)) for text in texts_of(picture))
    return str(round(low + (high - low) * (-level - low_y) / (high_y - low_y)))


def _read_chain(picture: Picture, words: list[str]) -> str:
    animals = [text.text.lower() for text in sorted(texts_of(picture), key=lambda text: text.y)]
    (turn,) = {shape.turn for shape in shapes_of(picture)}
    eaten_first = animals if turn == 180 else animals[::-1]
    asks_eater = words[1] == "eats"
    asked = words[-1] if asks_eater else words[-2]
    return eaten_first[eaten_first.index(asked) + (1 if asks_eater else -1)]


def _solve_fact(picture: Picture, question: str) -> str:
    symbols = [mark for mark in picture.marks if isinstance(mark, Symbol)]
    words = words_of(question)
    color = next((word for word in words if word in COLORS), None)
    symbol = _only([symbol for symbol in symbols if color in (None, symbol.color)])
    kind = {"live": "home", "eat": "food"}.get(words[-1], words[3])
    return answer_of(FACTS[symbol.number], kind)


def describes(sentence: str, picture: Picture) -> bool:
    """Whether a caption says how many of which things there are, all of them, and where they lie if it says so."""
    shapes = shapes_of(picture)
    relation = re.search(r"left of|right of|above|below|next to", sentence)
    bare = re.sub(r"^(there|it) is ", "", sentence)
    phrases = [phrase.split() for phrase in re.split(r" (?:and|left of|right of|above|below|next to) ", bare)]
    said = Counter[tuple[str, str]]()
    for number, color, kind in phrases:
        count = 1 if number in ("a", "an") else NUMBER_WORDS.index(number)
        assert (kind in SHAPES) == (count == 1)
        said[color, _SINGULAR.get(kind, kind)] += count
    if said != Counter((shape.color, shape.kind) for shape in shapes):
        return False
    if relation is None or relation[0] == "next to":
        return True
    one, other = (_only(_named(shapes, color, kind)) for _, color, kind in phrases)
    return _is_beyond(relation[0].split()[0], one, other)
