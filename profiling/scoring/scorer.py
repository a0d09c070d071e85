"""Score an answer to a sample by the score's name."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from profiling.datasets.sample import Sample
from profiling.scoring.anls import anls
from profiling.scoring.cider import ReferenceCorpus, cider_d
from profiling.scoring.counts import parse_count
from profiling.scoring.exact_match import count_match, exact_match
from profiling.scoring.mmmu import open_match, parse_option
from profiling.scoring.multiple_choice import nearest_choice, parse_choice
from profiling.scoring.result import Score, ScoreName
from profiling.scoring.vqa_accuracy import molmo_accuracy, official_accuracy


def score(name: ScoreName, prediction: str, sample: Sample) -> Score:
    """Score an answer by what the sample alone says; spaces around the answer never count.

    Raises:
        ValueError: If the sample lacks what the score needs, or for CIDEr-D, which needs a ``Scorer``.
    """
    if name is ScoreName.CIDER_D:
        raise ValueError(
            f"score {name}: weighs phrases by a whole dataset's references, build a Scorer from its samples"
        )
    _require_answers(name, sample)
    text = prediction.strip()
    if name in _TEXT_SCORES:
        return Score(name=name, value=_TEXT_SCORES[name](text, sample.answers))
    try:
        value, is_parsed = _PARSED_SCORES[name](text, sample)
    except ValueError as err:
        raise ValueError(f"{_place(sample)}: {err}") from err
    return Score(name=name, value=value, is_parsed=is_parsed)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Score the answers to one dataset's samples.

    Args:
        name: The score.
        corpus: What CIDEr-D weighs phrases by; ``None`` for all others.

    Raises:
        ValueError: If CIDEr-D lacks a corpus, or another score has one.
    """

    name: ScoreName
    corpus: ReferenceCorpus | None = None

    def __post_init__(self) -> None:
        if (self.corpus is None) == (self.name is ScoreName.CIDER_D):
            raise ValueError(
                f"corpus: {ScoreName.CIDER_D} needs one and no other score takes one, got score {self.name}"
            )

    @classmethod
    def for_samples(cls, name: ScoreName, samples: Iterable[Sample]) -> Self:
        """Build the scorer of a dataset, from all of its samples: those of one image are one set of references.

        Raises:
            ValueError: If CIDEr-D finds fewer than two images with references.
        """
        if name is not ScoreName.CIDER_D:
            return cls(name=name)
        references: defaultdict[str, list[str]] = defaultdict(list)
        for sample in samples:
            if sample.answers:
                references[sample.image_id].extend(sample.answers)
        return cls(name=name, corpus=ReferenceCorpus.from_references(references.values()))

    def score(self, prediction: str, sample: Sample) -> Score:
        """Score an answer.

        Raises:
            ValueError: If the sample lacks what the score needs.
        """
        if self.corpus is None:
            return score(self.name, prediction, sample)
        _require_answers(self.name, sample)
        return Score(name=self.name, value=cider_d(prediction, sample.answers, self.corpus))


def _place(sample: Sample) -> str:
    return f"{sample.dataset}/{sample.split}/{sample.sample_id}"


def _require_answers(name: ScoreName, sample: Sample) -> None:
    if not sample.answers:
        raise ValueError(f"{_place(sample)}: has no answers, so nothing can be scored by {name}")


def _number_words(prediction: str, sample: Sample) -> tuple[float, bool]:
    return count_match(prediction, sample.answers), parse_count(prediction) is not None


def _multiple_choice(prediction: str, sample: Sample) -> tuple[float, bool]:
    choice = parse_choice(prediction, sample.options)
    return float(_is_right(choice, sample)), choice is not None


def _multiple_choice_nearest(prediction: str, sample: Sample) -> tuple[float, bool]:
    choice = parse_choice(prediction, sample.options)
    if choice is None:
        return float(_is_right(nearest_choice(prediction, sample.options), sample)), False
    return float(_is_right(choice, sample)), True


def _mmmu(prediction: str, sample: Sample) -> tuple[float, bool]:
    if not sample.options:
        return open_match(prediction, sample.answers), bool(prediction)
    choice = parse_option(prediction, sample.options)
    return float(_is_right(choice, sample)), choice is not None


def _is_right(choice: int | None, sample: Sample) -> bool:
    strangers = set(sample.answers) - set(sample.options)
    if strangers:
        raise ValueError(f"answers: must be among the options {list(sample.options)}, got {sorted(strangers)}")
    return choice is not None and sample.options[choice] in sample.answers


_TEXT_SCORES: Final[Mapping[ScoreName, Callable[[str, Sequence[str]], float]]] = {
    ScoreName.VQA_OFFICIAL: official_accuracy,
    ScoreName.VQA_MOLMO: molmo_accuracy,
    ScoreName.ANLS: anls,
    ScoreName.EXACT_MATCH: exact_match,
}
"""Scores that take any text, given the right answers."""

_PARSED_SCORES: Final[Mapping[ScoreName, Callable[[str, Sample], tuple[float, bool]]]] = {
    ScoreName.EXACT_MATCH_NUMBER_WORDS: _number_words,
    ScoreName.MULTIPLE_CHOICE: _multiple_choice,
    ScoreName.MULTIPLE_CHOICE_NEAREST: _multiple_choice_nearest,
    ScoreName.MMMU: _mmmu,
}
"""Scores that look for something in the text: the value, and whether it was found."""
