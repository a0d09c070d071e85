"""What the VQA evaluation does to an answer before it compares it, oddities included.

The official evaluator and Molmo's do the same here, so one function serves both. Four oddities change results and are
kept:

* A period goes unless a digit follows. The official pattern means to spare a period after a digit as well, but its
  look-behind is misspelt and always holds, so ``5.`` becomes ``5``.
* Only the first 32 such periods go: a flag is passed where the number of replacements belongs.
* ``none`` counts as the number 0, and an answer of one article, such as the letter ``a``, becomes empty.
* One ``1,000`` anywhere makes all punctuation vanish that would otherwise become a space.

One oddity changes no result and is not kept: the official table of number words takes in every word that it meets, as
itself. Here the table is constant.
"""

import re
from collections.abc import Mapping
from typing import Final

from profiling.scoring.contractions import CONTRACTIONS
from profiling.scoring.counts import NUMBER_WORDS

_PUNCTUATION: Final = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT: Final = re.compile(r"\d,\d")
_PERIOD: Final = re.compile(r"\.(?!\d)")
_MOST_PERIODS: Final = 32
_NUMBER_WORDS: Final[Mapping[str, str]] = {
    "none": "0",
    **{word: str(number) for number, word in enumerate(NUMBER_WORDS[:11])},  # up to ten
}
_ARTICLES: Final = frozenset({"a", "an", "the"})


def clean_whitespace(text: str) -> str:
    """Turn line ends and tabs into spaces, and drop spaces around the text."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalize_answer(text: str) -> str:
    """Return the answer in the form in which answers are compared.

    Normalizing twice equals normalizing once, except where a text has more than 32 periods.
    """
    return _normalize_words(_drop_punctuation(clean_whitespace(text)))


def _drop_punctuation(text: str) -> str:
    """Drop a mark that touches a space anywhere in the text; replace one that never does by a space."""
    has_thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
    spaced = text
    for mark in _PUNCTUATION:
        touches_space = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if touches_space or has_thousands else " ")
    return _PERIOD.sub("", spaced, count=_MOST_PERIODS)


def _normalize_words(text: str) -> str:
    words = (_NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
