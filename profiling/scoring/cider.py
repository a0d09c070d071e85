"""CIDEr-D: how much a caption has in common with what people wrote about the image, rare phrases counting more.

A phrase of one to four words weighs the logarithm of the number of images over the number of images whose references
contain it. Each caption is a vector of weighted phrase counts for each length; the score is ten times the mean, over
lengths and references, of their cosine, where the candidate's counts are cut off at the reference's and a difference in
length is punished by a Gaussian.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from profiling.scoring.caption_words import caption_words

Phrase = tuple[str, ...]

_LENGTHS: Final = (1, 2, 3, 4)
_SIGMA_WORDS: Final = 6.0
HIGHEST_CIDER: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class ReferenceCorpus:
    """How common phrases are in the references of a whole dataset, so that single captions can be scored.

    Args:
        num_images: Images whose references were counted.
        image_counts: For each phrase, in how many of these images' references it occurs.

    Raises:
        ValueError: If there are fewer than two images.
    """

    num_images: int
    image_counts: Mapping[Phrase, int]

    def __post_init__(self) -> None:
        if self.num_images < 2:
            raise ValueError(
                f"reference corpus: needs >= 2 images, got {self.num_images}: with one, every phrase is in all images, "
                "all weights are log(1) = 0 and CIDEr-D is undefined; build it from the whole dataset"
            )

    @classmethod
    def from_references(cls, references: Iterable[Sequence[str]]) -> Self:
        """Count the phrases of a dataset, given the captions of each image."""
        num_images = 0
        image_counts: Counter[Phrase] = Counter()
        for captions in references:
            num_images += 1
            image_counts.update({phrase for caption in captions for phrase in _phrase_counts(caption_words(caption))})
        return cls(num_images=num_images, image_counts=image_counts)

    def weight(self, phrase: Phrase) -> float:
        """Return the inverse document frequency; a phrase never seen weighs as if one image had it."""
        return math.log(self.num_images / max(1, self.image_counts.get(phrase, 0)))


def cider_d(prediction: str, references: Sequence[str], corpus: ReferenceCorpus) -> float:
    """Return CIDEr-D of one caption, from 0 to 10.

    Args:
        prediction: The caption.
        references: One or more captions that people wrote about the image.
        corpus: What phrases are weighed by.
    """
    candidate = _WeighedCaption.of(prediction, corpus)
    similarities = [_similarity(candidate, _WeighedCaption.of(reference, corpus)) for reference in references]
    return HIGHEST_CIDER * sum(similarities) / len(similarities)


@dataclass(frozen=True, kw_only=True)
class _WeighedCaption:
    """A caption's number of words and, for each phrase length, its weighted phrase counts."""

    num_words: int
    weights: tuple[Mapping[Phrase, float], ...]

    @classmethod
    def of(cls, caption: str, corpus: ReferenceCorpus) -> Self:
        words = caption_words(caption)
        weights: tuple[dict[Phrase, float], ...] = tuple({} for _ in _LENGTHS)
        for phrase, count in _phrase_counts(words).items():
            weights[len(phrase) - 1][phrase] = count * corpus.weight(phrase)
        return cls(num_words=len(words), weights=weights)


def _phrase_counts(words: Sequence[str]) -> Counter[Phrase]:
    return Counter(
        tuple(words[start : start + length]) for length in _LENGTHS for start in range(len(words) - length + 1)
    )


def _similarity(candidate: _WeighedCaption, reference: _WeighedCaption) -> float:
    """Return the mean cosine over phrase lengths, punished for a difference in length, from 0 to 1."""
    cosines = map(_clipped_cosine, candidate.weights, reference.weights)
    difference = candidate.num_words - reference.num_words
    return sum(cosines) / len(_LENGTHS) * math.exp(-(difference**2) / (2 * _SIGMA_WORDS**2))


def _clipped_cosine(candidate: Mapping[Phrase, float], reference: Mapping[Phrase, float]) -> float:
    norms = math.hypot(*candidate.values()) * math.hypot(*reference.values())
    if norms == 0:
        return 0.0
    shared = (
        min(weight, reference[phrase]) * reference[phrase]
        for phrase, weight in candidate.items()
        if phrase in reference
    )
    return sum(shared) / norms
