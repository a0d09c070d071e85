"""The closed list of what questions and answers are written with.

Words of the questions, and answers that are chosen from a list, are one token each. Everything else (what signs say,
names, numbers) is spelled: a character, then its continuations ``##a``, as WordPiece tokenizers write them.
"""

import re
from typing import Final

from profiling.scoring import counts
from profiling.suite.palette import COLORS
from profiling.suite.sprites import SHAPES

ANIMALS: Final = (
    *("ant", "bat", "bear", "bee", "cat", "cow", "crab", "dog", "eel", "fish", "fly", "fox"),
    *("frog", "hawk", "hen", "lion", "mouse", "owl", "pig", "rat", "seal", "snake", "wolf", "worm"),
)
FOODS: Final = (
    *("apple", "bean", "bread", "cake", "cheese", "corn", "egg", "grape"),
    *("honey", "nut", "olive", "onion", "pear", "plum", "rice", "soup"),
)
HOMES: Final = (
    *("bridge", "castle", "cave", "desert", "forest", "garden", "harbor", "island"),
    *("lake", "market", "mountain", "river", "temple", "tower", "valley", "village"),
)
NUMBER_WORDS: Final = counts.NUMBER_WORDS[:10]
PLURALS: Final = {shape: f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in (*SHAPES, "shape")}
_QUESTION_WORDS = (
    *("above", "an", "and", "are", "arrow", "bar", "below", "bigger", "biggest", "bottom", "clock", "color"),
    *("column", "describe", "does", "down", "eat", "eats", "form", "hour", "how", "is", "it", "left", "live"),
    *("many", "middle", "minutes", "name", "next", "no", "number", "of", "on", "past", "picture", "point", "price"),
    *("right", "row", "say", "shape", "shortest", "show", "sign", "smaller", "symbol", "tallest", "than", "the"),
    *("there", "thermometer", "to", "top", "total", "up", "value", "way", "what", "where", "which", "word", "yes"),
)
WORDS: Final = tuple(
    dict.fromkeys(
        [*_QUESTION_WORDS, *COLORS, "grey", *SHAPES, *PLURALS.values(), *NUMBER_WORDS, *ANIMALS, *FOODS, *HOMES]
    )
)
CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION: Final = "?,."
CONTINUATION: Final = "##"
VOCABULARY: Final = (*WORDS, *PUNCTUATION, *CHARACTERS, *(CONTINUATION + character for character in CHARACTERS))

_WHOLE = frozenset([*WORDS, *PUNCTUATION])
_ALLOWED = re.compile(r"[a-z0-9?,. ]*")
_PIECES = re.compile(r"[a-z0-9]+|[?,.]")


def tokenize(text: str) -> list[str]:
    """Cut a question or an answer into entries of ``VOCABULARY``.

    Raises:
        ValueError: If the text has a character that the suite does not use.
    """
    if _ALLOWED.fullmatch(text) is None:
        raise ValueError(f"text: the suite writes with a-z, 0-9, spaces and '{PUNCTUATION}' only, got {text!r}")
    tokens: list[str] = []
    for piece in _PIECES.findall(text):
        tokens += [piece] if piece in _WHOLE else spell(piece)
    return tokens


def spell(word: str) -> list[str]:
    """Cut a word into characters."""
    return [word[0], *(CONTINUATION + character for character in word[1:])]


def is_spelled(word: str) -> bool:
    """Say whether a word is sure to be spelled: it is no entry of ``WORDS`` and does not begin with one."""
    return not word.startswith(WORDS)
