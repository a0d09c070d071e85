"""What is known of a question before it is asked, as the kind that it is of."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiling.controllers.features import QUESTION_KINDS, free_feature_names, free_features_of
from profiling.controllers.outcomes import Outcomes

_NUM_WORDS: Final = "log2_question_words"

Kinds = NDArray[np.str_]


def by_family(outcomes: Outcomes) -> Kinds:
    """Name the dataset of each question: ``(samples,)``. A server would have to be told."""
    return outcomes.samples["dataset"].to_numpy(dtype=np.str_)


def by_words(outcomes: Outcomes) -> Kinds:
    """Name what each question asks by its words, and how many words it has: ``(samples,)``.

    Raises:
        ValueError: If an image's size is unknown, see ``free_features_of``.
    """
    names = free_feature_names([tier.name for tier in outcomes.grid.tiers])
    features = dict(zip(names, free_features_of(outcomes).T, strict=True))
    num_words = np.round(2 ** features[_NUM_WORDS] - 1).astype(int)
    flags = zip(*(features[kind] for kind in QUESTION_KINDS), strict=True)
    return np.asarray(
        [
            ", ".join([*(kind for kind, is_set in zip(QUESTION_KINDS, row, strict=True) if is_set), f"{count} words"])
            for row, count in zip(flags, num_words, strict=True)
        ]
    )


KINDS: Final[Mapping[str, Callable[[Outcomes], Kinds]]] = {"by family": by_family, "by words": by_words}
