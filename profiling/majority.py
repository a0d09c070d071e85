"""Answers without looking: what training would answer to the same words."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from profiling.datasets.sample import Sample


class MajorityAnswers:
    """Answer each question as most training samples with the same words are answered.

    Words that training never saw get the most common answer of all; of options, the most common of them.

    Args:
        samples: Training samples of one dataset.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._overall: Counter[str] = Counter()
        self._by_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for sample in samples:
            self._overall[sample.answers[0]] += 1
            self._by_question[sample.question][sample.answers[0]] += 1

    def answer(self, sample: Sample) -> str:
        """Answer a question."""
        if sample.options:
            return max(sample.options, key=lambda option: self._overall[option])
        counts = self._by_question.get(sample.question, self._overall)
        return counts.most_common(1)[0][0]
