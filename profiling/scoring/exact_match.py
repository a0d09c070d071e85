"""Whether an answer is exactly one of the right ones."""

from collections.abc import Sequence

from profiling.scoring.counts import parse_count


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction equals an answer but for case, else 0."""
    return float(prediction.lower() in {answer.lower() for answer in answers})


def count_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is the same number as an answer, in digits or as a word, or equals one, else 0."""
    count = parse_count(prediction)
    if count is not None and count in {parse_count(answer) for answer in answers}:
        return 1.0
    return exact_match(prediction, answers)
