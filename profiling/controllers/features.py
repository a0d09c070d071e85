"""What is known of a request before it runs: what costs nothing, the question's words, and what the picture shows."""

# Shape suffixes: N = samples, F = free features, T = tiers, D = width of the language model.

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import log2
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.controllers.prompt_memory import TierPrompts
from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes

QUESTION_KINDS: Final = {
    "asks_how_many": ("how many", "number of", "count"),
    "asks_color": ("color", "colour"),
    "asks_text": (
        *("say", "says", "said", "read", "reads", "written", "word", "words", "text", "title", "name"),
        *("letter", "letters", "digit", "digits", "sign", "signs"),
    ),
    "asks_yes_or_no": (
        *("is", "are", "was", "were", "do", "does", "did", "has", "have"),
        *("can", "could", "will", "would", "should"),
    ),
    "asks_where": ("where", "left", "right", "above", "below", "behind", "between", "next to", "closest"),
    "asks_why_or_how": ("why", "how "),
    "asks_what": ("what",),
    "asks_which": ("which",),
    "asks_who": ("who", "whose"),
    "asks_when": ("when", "year", "date", "time"),
    "asks_to_describe": ("describe", "caption"),
    "has_number": tuple("0123456789"),
}
"""What a question asks, and the phrases that tell it; a question may be of several kinds or of none.

Yes or no is told by the first phrase alone.
"""

_KINDS: Final = list(QUESTION_KINDS)
_YES_OR_NO: Final = _KINDS.index("asks_yes_or_no")
_BEGINS_YES_OR_NO: Final = frozenset(QUESTION_KINDS["asks_yes_or_no"])
_PLACE_OF: Final = {
    phrase: _KINDS.index(kind)
    for kind, phrases in QUESTION_KINDS.items()
    if kind != "asks_yes_or_no"
    for phrase in phrases
}
# A phrase is a word or a digit, but for these: two words that say more than one; "how" with the space behind it, since
# alone it asks nothing; and of a word such as "colours" what it begins with.
_PHRASE: Final = re.compile(r"how many\b|how |number of\b|next to\b|colou?r|\d|[^\W\d]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What is known of samples before they run.

    Args:
        free_NF: ``(samples, features)``, see ``free_features``.
        question_ND: ``(samples, width)``: mean embedding of the question's tokens; width 0 if unknown.
        glance_ND: ``(samples, width)``: mean vision token of the overview; width 0 if unknown.
        vision_NTD: ``(samples, tiers, width)``: mean vision token at each tier; width 0 if unknown.
        prompts: What the model's first blocks remember of the samples' prompts at each tier, if anything.
    """

    free_NF: Array
    question_ND: NDArray[np.float16]
    glance_ND: NDArray[np.float16]
    vision_NTD: NDArray[np.float16]
    prompts: TierPrompts | None = None

    def take(self, rows: Codes | Mask) -> "Features":
        """Return some samples, given by index or by a mask."""
        return replace(
            self,
            free_NF=self.free_NF[rows],
            question_ND=self.question_ND[rows],
            glance_ND=self.glance_ND[rows],
            vision_NTD=self.vision_NTD[rows],
            prompts=None if self.prompts is None else self.prompts.take(torch.from_numpy(rows)),
        )


def join_features(parts: Sequence[Features]) -> Features:
    """Put the features of samples behind those of others; none of them may have prompts."""
    assert all(part.prompts is None for part in parts), "prompts are kept for one profile"
    names = [field.name for field in fields(Features) if field.name != "prompts"]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Features(**arrays)


def free_feature_names(tiers: Sequence[str]) -> list[str]:
    """Name the columns of ``free_features``."""
    return [
        "log2_image_pixels",
        "log2_aspect_ratio",
        *(f"log2_vision_tokens_{tier}" for tier in tiers),
        "log2_text_tokens",
        "log2_question_words",
        *QUESTION_KINDS,
    ]


def size_features(*, image_width: float, image_height: float, vision_tokens_T: Sequence[float]) -> list[float]:
    """Return those of ``free_features`` that follow from a picture's size.

    Args:
        image_width: Pixels.
        image_height: Pixels.
        vision_tokens_T: Of each tier: they follow from the size, see ``models.tiling.image_layout``.
    """
    return [
        log2(image_width * image_height),
        log2(image_width / image_height),
        *(log2(count + 1) for count in vision_tokens_T),
    ]


def free_features(of_size: Sequence[float], *, text_tokens: float, question: str) -> list[float]:
    """Describe a request by what is known without running anything. The dataset is not told.

    Args:
        of_size: What ``size_features`` says of its picture.
        text_tokens: Ids at the first tier that are no vision tokens.
        question: The question.

    Returns:
        Numbers in the order of ``free_feature_names``, not standardised.
    """
    phrases = _PHRASE.findall(question.lower())
    is_of_kind = [0.0] * len(_KINDS)
    for phrase in phrases:
        if phrase in _PLACE_OF:
            is_of_kind[_PLACE_OF[phrase]] = 1.0
    if phrases and phrases[0] in _BEGINS_YES_OR_NO:
        is_of_kind[_YES_OR_NO] = 1.0
    return [*of_size, log2(text_tokens + 1), log2(len(question.split()) + 1), *is_of_kind]


def free_features_of(outcomes: Outcomes) -> Array:
    """Describe the samples of a profile: ``(samples, features)``.

    Raises:
        ValueError: If an image's size is unknown, or a tier was not measured, so that its vision tokens are unknown.
    """
    known = {
        "image_width": outcomes.samples["image_width"].to_numpy(dtype=np.float64),
        "image_height": outcomes.samples["image_height"].to_numpy(dtype=np.float64),
        "vision_tokens": outcomes.vision_tokens_NT,
    }
    for name, values in known.items():
        unknown = np.flatnonzero(~np.isfinite(values.reshape(len(outcomes), -1)).all(axis=1))
        if len(unknown):
            sample = outcomes.samples["sample_id"].iloc[int(unknown[0])]
            raise ValueError(
                f"{name}: not known of sample {sample!r}; every tier and each image's size must be profiled"
            )
    rows = zip(
        known["image_width"].tolist(),
        known["image_height"].tolist(),
        known["vision_tokens"].tolist(),
        outcomes.text_tokens_NT[:, 0].tolist(),
        outcomes.samples["question"].tolist(),
        strict=True,
    )
    described = [
        free_features(
            size_features(image_width=width, image_height=height, vision_tokens_T=counts),
            text_tokens=text_tokens,
            question=question,
        )
        for width, height, counts, text_tokens, question in rows
    ]
    return np.asarray(described, dtype=np.float64)


def without_embeddings(outcomes: Outcomes) -> Features:
    """Return the free features alone.

    Raises:
        ValueError: See ``free_features_of``.
    """
    num_samples, num_tiers = outcomes.vision_tokens_NT.shape
    return Features(
        free_NF=free_features_of(outcomes),
        question_ND=np.zeros((num_samples, 0), dtype=np.float16),
        glance_ND=np.zeros((num_samples, 0), dtype=np.float16),
        vision_NTD=np.zeros((num_samples, num_tiers, 0), dtype=np.float16),
    )
