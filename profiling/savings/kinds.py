"""What is known of a question before it is asked, as the kind that it is of."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiling.controllers.features import QUESTION_KINDS, free_feature_names
from profiling.controllers.requests import Requests

_NUM_WORDS: Final = "log2_question_words"

Kinds = NDArray[np.str_]
KindsOf = Callable[[Requests], Kinds]


def by_family(requests: Requests) -> Kinds:
    """Name the dataset of each question: ``(samples,)``. A server would have to be told."""
    return requests.outcomes.samples["dataset"].to_numpy(dtype=np.str_)


def by_words(requests: Requests) -> Kinds:
    """Name what each question asks by its words, and how many words it has: ``(samples,)``."""
    names = free_feature_names([tier.name for tier in requests.outcomes.grid.tiers])
    features = dict(zip(names, requests.features.free_NF.T, strict=True))
    num_words = np.round(2 ** features[_NUM_WORDS] - 1).astype(int)
    flags = zip(*(features[kind] for kind in QUESTION_KINDS), strict=True)
    return np.asarray(
        [
            ", ".join([*(kind for kind, is_set in zip(QUESTION_KINDS, row, strict=True) if is_set), f"{count} words"])
            for row, count in zip(flags, num_words, strict=True)
        ]
    )
