"""Random choices that follow from a name alone, on every machine and in every process."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar
from zlib import crc32

T = TypeVar("T")


class Draws:
    """Choices to make one puzzle from.

    Only ``Random.random`` is used: of that alone Python promises the same numbers in every version.

    Args:
        name: Decides every choice.
        may_be_unseen: Whether combinations that training never shows may be chosen.
    """

    def __init__(self, name: str, *, may_be_unseen: bool) -> None:
        self._random = Random(name).random  # noqa: S311
        self.may_be_unseen = may_be_unseen

    def chance(self, probability: float) -> bool:
        """Say yes that often."""
        return self._random() < probability

    def between(self, low: float, high: float) -> float:
        """Return a number of a range."""
        return low + (high - low) * self._random()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number of a range, both ends included."""
        return low + int((high - low + 1) * self._random())

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of some things."""
        return choices[int(len(choices) * self._random())]

    def some_of(self, choices: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different things of some, in random order."""
        rest = list(choices)
        return [rest.pop(int(len(rest) * self._random())) for _ in range(count)]

    def allows(self, combination: str) -> bool:
        """Say whether a combination may be shown: in training, those that are held out may not."""
        return self.may_be_unseen or not is_held_out(combination)


def is_held_out(combination: str) -> bool:
    """Say whether training never shows a combination, such as the word on a sign: one in six."""
    return crc32(combination.encode()) % 6 == 0
