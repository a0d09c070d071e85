"""Features of different kinds as numbers of one scale."""

from dataclasses import replace

import numpy as np
import pytest

from profiling.controllers.feature_scale import FeatureScale
from profiling.controllers.features import Features

RNG = np.random.default_rng(0)
NUM_SAMPLES = 50
FEATURES = Features(
    free_NF=RNG.normal(3, 2, size=(NUM_SAMPLES, 4)),
    question_ND=RNG.normal(size=(NUM_SAMPLES, 6)).astype(np.float16),
    glance_ND=RNG.normal(size=(NUM_SAMPLES, 5)).astype(np.float16),
    vision_NTD=RNG.normal(size=(NUM_SAMPLES, 3, 5)).astype(np.float16),
)


@pytest.mark.parametrize(
    ("kind", "sees_picture", "counts"),
    [
        ("free_NF", False, True),
        ("question_ND", False, True),
        ("glance_ND", False, True),
        ("vision_NTD", False, False),
        ("vision_NTD", True, True),
    ],
)
def test_a_kind_of_feature_counts_where_it_is_seen(kind: str, sees_picture: bool, counts: bool) -> None:
    scale = FeatureScale(FEATURES, sees_picture=sees_picture)
    other = replace(FEATURES, **{kind: getattr(FEATURES, kind)[::-1]})
    assert np.allclose(scale(FEATURES), scale(other)) != counts


def test_kinds_weigh_the_same_however_many_numbers_they_have() -> None:
    scaled = FeatureScale(FEATURES, sees_picture=False)(FEATURES)
    assert scaled.shape == (NUM_SAMPLES, 4 + 6 + 5)
    for kind in np.split(scaled, [4, 10], axis=1):
        assert (kind**2).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)


def test_embeddings_that_are_not_known_are_left_out() -> None:
    blind = replace(FEATURES, glance_ND=FEATURES.glance_ND[:, :0])
    assert FeatureScale(blind, sees_picture=False)(blind).shape == (NUM_SAMPLES, 4 + 6)
