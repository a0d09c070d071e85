"""ANLS, the score of DocVQA and ST-VQA: how close a text comes to the closest right one."""

from collections.abc import Sequence
from typing import Final

from profiling.scoring.edit_distance import edit_distance

_FARTHEST: Final = 0.5
"""From this normalized distance on, an answer is simply wrong."""


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return one minus the normalized edit distance to the closest answer, or 0 where that distance is 0.5 or more.

    Case does not count, spaces do. The distance is normalized by the longer text; two empty texts are equal.

    Args:
        prediction: What the model answered.
        answers: One or more, each of them right.
    """
    return max(_similarity(prediction.lower(), answer.lower()) for answer in answers)


def _similarity(prediction: str, answer: str) -> float:
    if prediction == answer:
        return 1.0
    distance = edit_distance(prediction, answer) / max(len(prediction), len(answer))
    return 1.0 - distance if distance < _FARTHEST else 0.0
