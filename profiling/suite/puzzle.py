"""A picture with a question and its answers: what every family makes."""

from collections.abc import Callable
from dataclasses import dataclass

from profiling.suite.draws import Draws
from profiling.suite.marks import Picture

_NUM_ANNOTATORS = 10
_NUM_WITH_OTHER_ANSWER = 3


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A question about a picture.

    Args:
        picture: What is asked about.
        question: The whole question, options included.
        answers: As annotators would give them; the first is the one to train on.
        kind: Which question of its family it is.
        is_hard: Whether it is one of the family's hard members.
        is_unseen: Whether training never shows what is asked about.
        options: Choices of a multiple-choice question; the answer is the text of one of them.
    """

    picture: Picture
    question: str
    answers: tuple[str, ...]
    kind: str
    is_hard: bool
    is_unseen: bool = False
    options: tuple[str, ...] = ()


MakePuzzle = Callable[[Draws], Puzzle]


def ten_answers(answer: str, other: str | None = None) -> tuple[str, ...]:
    """Answer as ten annotators would; three of them in another spelling where there is one."""
    if other is None:
        return (answer,) * _NUM_ANNOTATORS
    return (answer,) * (_NUM_ANNOTATORS - _NUM_WITH_OTHER_ANSWER) + (other,) * _NUM_WITH_OTHER_ANSWER
