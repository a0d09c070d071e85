"""MMMU's reading of free text: as an option's letter, or as an open answer.

It is the official parser but for one thing: where that draws an option at random, this says that it found none.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from profiling.scoring.multiple_choice import option_labels

_STRIPPED: Final = ",.!?;:'"
_FEWEST_WORDS: Final = 6
"""An option's text is looked for in answers of so many words or more."""

_ANNOUNCEMENTS: Final = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS: Final = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?e[+-]?\d+", re.IGNORECASE),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?!e[+-]?\d+)(?![,\d])", re.IGNORECASE),
)
"""With thousands set apart, with an exponent, plain."""


def parse_option(prediction: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that the text settles on, or ``None`` if it mentions none.

    Looked for are a capital letter in brackets, then one between spaces, then, in longer texts, an option's own words.
    Of several the one mentioned last counts.
    """
    text = prediction
    for mark in _STRIPPED:  # one kind after the other, as officially: a period within quotes stays
        text = text.strip(mark)
    text = f" {text} "
    labels = option_labels(options)
    places = _last_places(text, [f"({label})" for label in labels]) or _last_places(
        text, [f" {label} " for label in labels]
    )
    if not places and len(text.split()) >= _FEWEST_WORDS:
        places = _last_places(text.lower(), [option.lower() for option in options])
    return max(places, key=lambda index: places[index]) if places else None


def open_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if an answer is in the text: its words in a key phrase, or its number among a key phrase's numbers.

    Words count inside other words too, unless the answer is one letter, which needs a space beside it.
    """
    truths = {value for answer in answers for value in _values(answer)}
    for value in _open_values(prediction):
        if value in truths:
            return 1.0
        if isinstance(value, str) and any(isinstance(truth, str) and truth in value for truth in truths):
            return 1.0
    return 0.0


def _last_places(text: str, wanted: Sequence[str]) -> dict[int, int]:
    """Return where each of those that occur was mentioned last."""
    places = {index: text.rfind(phrase) for index, phrase in enumerate(wanted)}
    return {index: place for index, place in places.items() if place >= 0}


def _open_values(prediction: str) -> Iterator[str | float]:
    for phrase in _key_phrases(prediction):
        yield from _values(phrase)
        for pattern in _NUMBERS:
            for number in pattern.findall(phrase):
                yield from _values(number)


def _key_phrases(prediction: str) -> list[str]:
    """Return what follows an announcement such as "answer", line by line, or else the whole text.

    The official parser means to split sentences too, but asks for a capital in a text already in lower case.
    """
    *lines, last = prediction.strip().strip(".").lower().split("\n")
    phrases = [_tail(line, _ANNOUNCEMENTS) for line in lines]
    phrases.append(_tail(last, (*_ANNOUNCEMENTS, "=")))
    return [phrase for phrase in phrases if phrase and phrase not in set(_STRIPPED)] or [prediction]


def _tail(line: str, announcements: Sequence[str]) -> str:
    """Return the shortest text behind an announcement's last occurrence; an empty one gives way to whatever follows."""
    shortest = ""
    for announcement in announcements:
        if announcement in line:
            tail = line.rpartition(announcement)[2].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def _values(text: str) -> list[str | float]:
    """Return a number rounded to two places, or the text in lower case; one letter with a space on either side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        letter = text.lower()
        return [f" {letter}", f"{letter} "] if len(letter) == 1 else [letter]
