"""VQA soft accuracy: an answer is as right as annotators gave it, in two versions that must not be compared.

With n of ten annotators agreeing, the official one gives 0.3 n for up to three and 1 from four on; Molmo's gives n / 3
for up to three, and stays at 1. They differ by up to a tenth on one question.
"""

from collections.abc import Sequence
from typing import Final

from profiling.scoring.normalize import clean_whitespace, normalize_answer

_FULL_CREDIT: Final = 3
"""So many annotators who agree make an answer wholly right."""


def official_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the mean over annotators of the credit that the others give: a third for each who agrees, at most 1.

    Where all annotators wrote the same, neither side is normalized, as in the official evaluator: ``Black.`` is then
    wrong when all wrote ``black``. So is a lone annotator's answer compared, and it alone decides, since nobody is left
    whom the official rule could ask.

    Args:
        prediction: What the model answered.
        answers: One or more, one an annotator.
    """
    truths = [clean_whitespace(answer) for answer in answers]
    guess = clean_whitespace(prediction)
    if len(set(truths)) > 1:
        truths = [normalize_answer(truth) for truth in truths]
        guess = normalize_answer(guess)
    matches = truths.count(guess)
    if len(truths) == 1:
        return float(matches)
    credit = sum(_credit(matches - (truth == guess)) for truth in truths)
    return credit / len(truths)


def molmo_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return a third for each annotator who agrees, at most 1.

    A lone answer is compared as it stands with the normalized prediction, as Molmo's scorer compares a target that is
    one string: the answer ``2 dogs`` can be met, by ``two dogs`` too, while ``The dog`` never can.

    Args:
        prediction: What the model answered.
        answers: One or more, one an annotator.
    """
    guess = normalize_answer(prediction)
    if len(answers) == 1:
        return float(guess == answers[0])
    return _credit([normalize_answer(answer) for answer in answers].count(guess))


def _credit(num_matches: int) -> float:
    return min(1.0, num_matches / _FULL_CREDIT)
