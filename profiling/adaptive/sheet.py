"""A page of example requests: picture, question, answer, setting and time."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from profiling.adaptive.served import Served

_SIDE: Final = 220  # of a picture
_PAD: Final = 16
_GAP: Final = 20
_LINE: Final = 19
_NUM_QUESTION_LINES: Final = 2
_BAR: Final = 6
_CARD_WIDTH: Final = _SIDE + 2 * _PAD
_CARD_HEIGHT: Final = _SIDE + 3 * _PAD + _LINE * (_NUM_QUESTION_LINES + 3) + 2 * _BAR
_LETTERS: Final = 32  # of a line
_SCALE: Final = 2  # drawn so much larger, for sharp letters
_INK, _FAINT, _PAGE = "#1f2430", "#6b7280", "#eef0f4"
_GOOD, _BAD, _CUT = "#1a7f4b", "#c0362c", "#b7791f"


def example_sheet(examples: Sequence[tuple[Served, Image.Image]], *, columns: int = 4) -> Image.Image:
    """Draw a card for each request: how it was answered, and how much of its budget that took.

    Args:
        examples: Records with their pictures.
        columns: Cards in a row.
    """
    columns = min(columns, max(1, len(examples)))
    rows = -(-len(examples) // columns)
    width = columns * (_CARD_WIDTH + _GAP) + _GAP
    height = rows * (_CARD_HEIGHT + _GAP) + _GAP
    page = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAGE)
    for place, (served, image) in enumerate(examples):
        row, column = divmod(place, columns)
        left, top = _GAP + column * (_CARD_WIDTH + _GAP), _GAP + row * (_CARD_HEIGHT + _GAP)
        _draw_card(page, served, image, left, top)
    return page


def _draw_card(page: Image.Image, served: Served, image: Image.Image, left: int, top: int) -> None:
    draw = ImageDraw.Draw(page)
    box = [_SCALE * edge for edge in (left, top, left + _CARD_WIDTH, top + _CARD_HEIGHT)]
    draw.rounded_rectangle(box, radius=10 * _SCALE, fill="white")
    page.paste(_framed(image), (_SCALE * (left + _PAD), _SCALE * (top + _PAD)))
    x, y = left + _PAD, top + _PAD + _SIDE + _PAD // 2
    for line in _lines(served.question):
        _write(draw, (x, y), line, ink=_INK)
        y += _LINE
    y = top + _PAD + _SIDE + _PAD // 2 + _NUM_QUESTION_LINES * _LINE
    _write(draw, (x, y), _shortened(f"{served.prediction or '(nothing)'}"), ink=_answer_ink(served), pixels=15)
    setting = f"{served.tier} tier, top_k {served.top_k}, {served.num_active_blocks} blocks"
    _write(draw, (x, y + _LINE + 2), setting, ink=_FAINT, pixels=12)
    _write(draw, (x, y + 2 * _LINE), _time_words(served), ink=_FAINT, pixels=12)
    _draw_bar(draw, served, (x, y + 3 * _LINE + 2))


def _framed(image: Image.Image) -> Image.Image:
    """Fit a picture into its square."""
    side = _SIDE * _SCALE
    square = Image.new("RGB", (side, side), _PAGE)
    scale = side / max(image.size)
    fitted = image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    square.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    return square


def _draw_bar(draw: ImageDraw.ImageDraw, served: Served, at: tuple[int, int]) -> None:
    """Draw how much of the budget was used; a late answer fills the bar in red."""
    x, y = at
    share = min(1.0, served.latency_ms / served.budget_ms)
    ink = _BAD if served.is_late else _CUT if served.is_truncated else _GOOD
    for end, fill in ((1.0, _PAGE), (share, ink)):
        box = [_SCALE * edge for edge in (x, y, x + max(_BAR, round(_SIDE * end)), y + _BAR)]
        draw.rounded_rectangle(box, radius=_BAR * _SCALE // 2, fill=fill)


def _time_words(served: Served) -> str:
    end = ", late" if served.is_late else ", cut off" if served.is_truncated else ""
    return f"{served.latency_ms:.4g} of {served.budget_ms:.4g} ms{end}"


def _answer_ink(served: Served) -> str:
    if served.accuracy is None:
        return _INK
    return _GOOD if served.accuracy >= 0.5 else _BAD


def _lines(text: str) -> list[str]:
    lines = wrap(text, _LETTERS)
    if len(lines) > _NUM_QUESTION_LINES:
        return [*lines[: _NUM_QUESTION_LINES - 1], _shortened(" ".join(lines[_NUM_QUESTION_LINES - 1 :]))]
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 3]}..."


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, *, ink: str, pixels: int = 13) -> None:
    x, y = at
    draw.text((_SCALE * x, _SCALE * y), text, fill=ink, font=ImageFont.load_default(pixels * _SCALE))
