"""Numbers in answers to "how many"."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

_WORDS: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty
"""

NUMBER_WORDS: Final[Sequence[str]] = tuple(_WORDS.split())
"""Each at the place of its number."""

_NUMBERS: Final[Mapping[str, int]] = {"none": 0, **{word: number for number, word in enumerate(NUMBER_WORDS)}}
_DIGITS: Final = re.compile(r"[0-9]{1,9}")


def parse_count(text: str) -> int | None:
    """Read a whole number: digits, ``none``, or a word up to ``twenty``; ``None`` for all else.

    Case, spaces around it and a period after it do not count.
    """
    word = text.strip().removesuffix(".").lower()
    return int(word) if _DIGITS.fullmatch(word) else _NUMBERS.get(word)
