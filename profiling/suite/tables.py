"""Small tables with letters at rows and columns, and forms with a total."""

from itertools import product
from typing import Final

from profiling.suite.draws import Draws, is_held_out
from profiling.suite.marks import PICTURE_POINTS, Box, Mark, Picture, Text
from profiling.suite.puzzle import Puzzle
from profiling.suite.sprites import text_width
from profiling.suite.vocabulary import FOODS
from profiling.suite.words import sign_word

_HEADERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # no I and no O, which look like numbers
# Rows and columns. Where there is one row or one column, half of the look-up is enough.
_EASY_SIZES: Final = [size for size in product((1, 2, 3), repeat=2) if size != (1, 1)]
_FORM_ROWS: Final = {False: (2, 2), True: (3, 5)}  # fewest and most foods, by whether it is hard
_BACKGROUND_NAMES = ("mist", "sky", "lilac", "mint")
_RULE_POINTS = 1.0


def make_table(draws: Draws) -> Puzzle:
    """Make a puzzle of a table of at most three rows and columns or a short form (easy), or of a larger one (hard)."""
    is_hard = draws.chance(0.5)
    return _make_form(draws, is_hard) if draws.chance(0.4) else _make_grid(draws, is_hard)


def _value(draws: Draws) -> int:
    """Choose a number for a cell; a sixth of them training never shows."""
    while True:
        value = draws.whole(0, 99)
        if draws.allows(_combination(value)):
            return value


def _combination(value: int) -> str:
    return f"value {value}"


def _make_grid(draws: Draws, is_hard: bool) -> Puzzle:
    num_rows, num_columns = (draws.whole(4, 6), draws.whole(4, 5)) if is_hard else draws.one_of(_EASY_SIZES)
    headers = draws.some_of(_HEADERS, num_rows + num_columns)
    row_names, column_names = headers[:num_rows], headers[num_rows:]
    values = [[_value(draws) for _ in column_names] for _ in row_names]
    row, column = draws.whole(0, num_rows - 1), draws.whole(0, num_columns - 1)
    body = [[name, *map(str, line)] for name, line in zip(row_names, values, strict=True)]
    return Puzzle(
        picture=Picture(
            background=draws.one_of(_BACKGROUND_NAMES), marks=_grid_marks(draws, ["", *column_names], body)
        ),
        question=f"what is the value of row {row_names[row].lower()}, column {column_names[column].lower()}?",
        answers=(str(values[row][column]),),
        kind="cell",
        is_hard=is_hard,
        is_unseen=is_held_out(_combination(values[row][column])),
    )


def _grid_marks(draws: Draws, header: list[str], body: list[list[str]]) -> tuple[Mark, ...]:
    """Draw a table whose first row and first column are headers."""
    num_rows, num_columns = len(body) + 1, len(header)
    width, height = draws.between(166, 182), min(draws.between(166, 182), 46 * num_rows)
    left, top = draws.between(4, 188 - width), draws.between(4, 188 - height)
    cell_width, cell_height = width / num_columns, height / num_rows
    right, bottom = left + width, top + height
    letter_height = min(0.5 * cell_height, 0.36 * cell_width)
    marks: list[Mark] = [
        Box(color="paper", left=left, top=top, right=right, bottom=bottom),
        Box(color="header", left=left, top=top, right=right, bottom=top + cell_height),
        Box(color="header", left=left, top=top, right=left + cell_width, bottom=bottom),
        *(_level_rule(left, right, top + i * cell_height) for i in range(num_rows + 1)),
        *(_upright_rule(top, bottom, left + i * cell_width) for i in range(num_columns + 1)),
    ]
    for i, line in enumerate([header, *body]):
        y = top + (i + 0.5) * cell_height
        for j, text in enumerate(line):
            x = left + (j + 0.5) * cell_width
            color = "blue" if i == 0 or j == 0 else "black"
            if text:
                marks.append(Text(text=text, color=color, x=x, y=y, height=letter_height))
    return tuple(marks)


def _level_rule(left: float, right: float, y: float) -> Box:
    return Box(color="rule", left=left, top=y, right=right, bottom=y + _RULE_POINTS)


def _upright_rule(top: float, bottom: float, x: float) -> Box:
    return Box(color="rule", left=x, top=top, right=x + _RULE_POINTS, bottom=bottom)


def _make_form(draws: Draws, is_hard: bool) -> Puzzle:
    foods = draws.some_of(FOODS, draws.whole(*_FORM_ROWS[is_hard]))
    prices = [_value(draws) for _ in foods]
    name = sign_word(draws) if is_hard else ""
    lines = [*([("name", name)] if is_hard else []), *zip(foods, map(str, prices), strict=True)]
    lines.append(("total", str(sum(prices))))
    field, answer = draws.one_of(lines)
    question = f"what is the price of {field}?" if field in foods else f"what is the {field} on the form?"
    combination = answer if field == "name" else _combination(int(answer))
    return Puzzle(
        picture=Picture(background=draws.one_of(_BACKGROUND_NAMES), marks=_form_marks(draws, lines)),
        question=question,
        answers=(answer,),
        kind="price" if field in foods else field,
        is_hard=is_hard,
        is_unseen=field != "total" and is_held_out(combination),
    )


def _form_marks(draws: Draws, lines: list[tuple[str, str]]) -> tuple[Mark, ...]:
    """Draw a form: names at the left, what belongs to them at the right, the total on a ground of its own."""
    letter_height = draws.between(15, 17) if len(lines) <= 3 else draws.between(9, 11)
    line_height = 2.1 * letter_height
    width = min(PICTURE_POINTS - 8, 13 * letter_height)
    height = line_height * (len(lines) + 0.4)
    left, top = draws.between(4, 188 - width), draws.between(4, 188 - height)
    inset, bottom = 0.6 * letter_height, top + height
    marks: list[Mark] = [
        Box(color="rule", left=left + 2, top=top + 2, right=left + width + 2, bottom=bottom + 2),
        Box(color="paper", left=left, top=top, right=left + width, bottom=bottom),
        Box(color="header", left=left, top=bottom - 1.2 * line_height, right=left + width, bottom=bottom),
    ]
    for i, (field, text) in enumerate(lines):
        y = top + (i + 0.7) * line_height
        name_x = left + inset + text_width(field.upper(), letter_height) / 2
        text_x = left + width - inset - text_width(text.upper(), letter_height) / 2
        if field != "total":
            marks.append(_level_rule(left + inset, left + width - inset, y + 0.5 * line_height))
        marks.append(Text(text=field.upper(), color="ink", x=name_x, y=y, height=letter_height))
        marks.append(Text(text=text.upper(), color="black", x=text_x, y=y, height=letter_height))
    return tuple(marks)
