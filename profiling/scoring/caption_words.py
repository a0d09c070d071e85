"""Captions into words the way CIDEr-D expects: Penn Treebank tokens in lower case, without punctuation.

The published scorer calls a Java program for this. These rules give the same words on everyday captions. They leave out
what captions hardly contain: web and mail addresses, abbreviations beyond those below, words like ``y'all``.
"""

import re
from collections.abc import Mapping
from typing import Final

_SAME: Final[Mapping[int, str]] = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "--", "\u2014": "--", "\u2026": "..."}
)
_BRACKETS: Final[Mapping[str, str]] = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
_PUNCTUATION: Final = frozenset({"'", '"', "''", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
"""Tokens that are no words. Brackets are missing on purpose: the published list has them in capitals, so that it never
finds them in lower case, and they stay as words. So do marks that come in rows, as in ``?!``."""

_TOKEN: Final = re.compile(
    r"""
      (?:[^\W\d_]\.){2,}                                             # a.m., u.s.
    | \b(?:mr|mrs|ms|dr|st|ave|rd|blvd|mt|ft|jr|sr|inc|co|ltd|corp|dept|vs|etc)\.
    | \bno\.(?=\s*\d)
    | \b(?:can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b) | (?:gim|lem)(?=me\b))
    | '(?:t(?=is\b|was\b) | em\b | n'? (?!\w) | cause\b | \d0s\b)    # 'tis, 'em, 'n', '80s
    | [^\W\d_]+(?=n't\b)                                             # the verb of a negation
    | (?<=\w)(?:n't | '(?:s|m|d|re|ve|ll))\b                         # what a contraction ends in
    | (?:(?<!\S)[-+])? \.?\d+ (?:[.,:/]\d+)* [^\W_]* (?:[-/][^\W_]+)*  # 1,000, 10:30, 1/2, 5th, 3-year-old
    | [^\W_]+ (?:(?:[-/.] | '(?!(?:s|m|d|re|ve|ll)\b)) [^\W_]+)*     # black-and-white, on/off, o'clock
    | --+ | \.\.\.+ | [!?]+ | ``|'' | \S
    """,
    re.VERBOSE,
)


def caption_words(caption: str) -> list[str]:
    """Split a caption into the words that are compared."""
    tokens: list[str] = _TOKEN.findall(caption.translate(_SAME).lower())
    return [_BRACKETS.get(token, token) for token in tokens if not _is_punctuation(token)]


def _is_punctuation(token: str) -> bool:
    return token in _PUNCTUATION or token.startswith(("--", "..."))
