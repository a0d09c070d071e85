"""Which option of a multiple-choice question an answer means: strictly, or whichever is nearest."""

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Final

from profiling.scoring.edit_distance import edit_distance

_LABEL: Final = re.compile(r"\(?([A-Z])[).:]?", re.IGNORECASE)


def option_labels(options: Sequence[str]) -> str:
    """Return the letters that the options go by, ``A`` first.

    Raises:
        ValueError: If there are more options than letters.
    """
    if len(options) > len(ascii_uppercase):
        raise ValueError(f"options: must be <= {len(ascii_uppercase)}, one a letter, got {len(options)}")
    return ascii_uppercase[: len(options)]


def parse_choice(prediction: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that the prediction names, or ``None`` if it names none.

    It names an option by its whole text or else by its letter, as in ``B``, ``b.`` or ``(B)``. Case and spaces around
    do not count.

    Raises:
        ValueError: If there are no options, or two are equal but for case.
    """
    texts = _distinct(options)
    text = prediction.strip().lower()
    if text in texts:
        return texts.index(text)
    label = _LABEL.fullmatch(text)
    place = option_labels(options).find(label[1].upper()) if label else -1
    return place if place >= 0 else None


def nearest_choice(prediction: str, options: Sequence[str]) -> int:
    """Return the index of some option whatever the prediction, by Molmo's rule, so that nonsense scores like chance.

    First the option that is equal, then the only one that contains the prediction, then the first of those with the
    smallest edit distance. Letters mean nothing here.

    Raises:
        ValueError: If there are no options, or two are equal but for case.
    """
    texts = _distinct(options)
    text = prediction.strip().lower()
    if text in texts:
        return texts.index(text)
    containing = [index for index, option in enumerate(texts) if text in option]
    if len(containing) == 1:
        return containing[0]
    return min(range(len(texts)), key=lambda index: edit_distance(texts[index], text))


def _distinct(options: Sequence[str]) -> list[str]:
    if not options:
        raise ValueError("options: must be >= 1, got none")
    texts = [option.strip().lower() for option in options]
    if len(set(texts)) < len(texts):
        raise ValueError(f"options: must differ in more than case, got {list(options)}")
    return texts
