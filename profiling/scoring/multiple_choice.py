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

    It names an option by its whole text or else by its letter, as in ``B``, ``b.`` or ``(B)``. Spaces around do not
    count, nor does case, unless it alone tells options apart: of the genotypes ``Ff`` and ``ff``, ``FF`` is neither.

    Raises:
        ValueError: If there are no options, or two are equal.
    """
    texts = _distinct(options)
    text = prediction.strip()
    equal = _equal_choice(text, texts)
    if equal is not None:
        return equal
    label = _LABEL.fullmatch(text)
    place = option_labels(options).find(label[1].upper()) if label else -1
    return place if place >= 0 else None


def nearest_choice(prediction: str, options: Sequence[str]) -> int:
    """Return the index of some option whatever the prediction, by Molmo's rule, so that nonsense scores like chance.

    First the option that is equal, then the only one that contains the prediction, then the first of those with the
    smallest edit distance. Letters mean nothing here. Nor does case, unless the prediction is an option letter by
    letter; Molmo's evaluation stops at options that differ in case alone.

    Raises:
        ValueError: If there are no options, or two are equal.
    """
    texts = _distinct(options)
    text = prediction.strip()
    equal = _equal_choice(text, texts)
    if equal is not None:
        return equal
    lower, lowers = text.lower(), [option.lower() for option in texts]
    containing = [index for index, option in enumerate(lowers) if lower in option]
    if len(containing) == 1:
        return containing[0]
    return min(range(len(lowers)), key=lambda index: edit_distance(lowers[index], lower))


def _distinct(options: Sequence[str]) -> list[str]:
    if not options:
        raise ValueError("options: must be >= 1, got none")
    texts = [option.strip() for option in options]
    if len(set(texts)) < len(texts):
        raise ValueError(f"options: must differ, got {list(options)}")
    return texts


def _equal_choice(text: str, texts: Sequence[str]) -> int | None:
    """Return the option that is the text, or else the only one that is but for case."""
    if text in texts:
        return texts.index(text)
    equal = [index for index, option in enumerate(texts) if option.lower() == text.lower()]
    return equal[0] if len(equal) == 1 else None
