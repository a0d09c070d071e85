"""Features of different kinds as numbers of one scale, for choosers that compare samples."""

# Shape suffixes: N = samples, F = numbers, D = width of an embedding, C = principal components.

from typing import Final

import numpy as np
from sklearn.decomposition import PCA

from profiling.controllers.features import Features
from profiling.controllers.outcomes import Array

_NUM_COMPONENTS: Final = 32
_ROUNDING: Final = 1e-9


class FeatureScale:
    """Makes each kind of feature weigh the same in a distance, and shortens embeddings to their main directions.

    Args:
        training: Features that means, spreads and directions are taken from.
        sees_picture: Whether the vision embeddings of every tier are used, beside the overview's.
    """

    def __init__(self, training: Features, *, sees_picture: bool) -> None:
        self._sees_picture = sees_picture
        self._kinds = [_Kind(values) for values in self._split(training)]

    def __call__(self, features: Features) -> Array:
        """Return ``(samples, numbers)``."""
        return np.column_stack([kind(values) for kind, values in zip(self._kinds, self._split(features), strict=True)])

    def _split(self, features: Features) -> list[Array]:
        embeddings = (features.question_ND, features.glance_ND)
        kinds = [features.free_NF, *(values_ND.astype(np.float64) for values_ND in embeddings)]
        if self._sees_picture:
            kinds.append(features.vision_NTD.reshape(len(features.vision_NTD), -1).astype(np.float64))
        return kinds


class _Kind:
    """The scale of one kind of feature."""

    def __init__(self, values_NF: Array) -> None:
        self._mean_F, self._spread_F = standard_scale(values_NF)
        most = min(values_NF.shape)
        self._directions = None
        if most > _NUM_COMPONENTS:
            self._directions = PCA(_NUM_COMPONENTS, random_state=0).fit(self._standardised(values_NF))

    def __call__(self, values_NF: Array) -> Array:
        standardised_NF = self._standardised(values_NF)
        if self._directions is None:
            return standardised_NF
        return np.asarray(self._directions.transform(standardised_NF))

    def _standardised(self, values_NF: Array) -> Array:
        scaled_NF: Array = (values_NF - self._mean_F) / self._spread_F / np.sqrt(max(1, len(self._mean_F)))
        return scaled_NF


def standard_scale(values_NF: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of each column, 1 where a column is constant."""
    mean_F, spread_F = values_NF.mean(axis=0), values_NF.std(axis=0)
    # The mean of equal numbers is rounded, so their spread need not be 0.
    is_constant_F = spread_F <= _ROUNDING * np.abs(mean_F)
    return mean_F, np.where(is_constant_F, 1.0, spread_F)
