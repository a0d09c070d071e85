import numpy as np
import pytest

from profiling.controllers.feature_scale import FeatureScale, standard_scale
from profiling.controllers.features import (
    QUESTION_KINDS,
    Features,
    free_feature_names,
    free_features,
    free_features_of,
    size_features,
    without_embeddings,
)
from profiling.controllers.outcomes import outcomes_of
from tests.controller_world import world, world_rows, world_table

TIERS = ("low", "high")


def described(question: str) -> dict[str, float]:
    of_size = size_features(image_width=64.0, image_height=32.0, vision_tokens_T=[3.0, 7.0])
    values = free_features(of_size, text_tokens=15.0, question=question)
    return dict(zip(free_feature_names(TIERS), values, strict=True))


def test_what_costs_nothing_is_described_in_numbers() -> None:
    found = described("How many red dogs are there?")
    numbers = {name: value for name, value in found.items() if name not in QUESTION_KINDS}
    assert numbers == {
        "log2_image_pixels": 11.0,
        "log2_aspect_ratio": 1.0,
        "log2_vision_tokens_low": 2.0,
        "log2_vision_tokens_high": 3.0,
        "log2_text_tokens": 4.0,
        "log2_question_words": pytest.approx(np.log2(7)),
    }


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("How many red dogs are there?", {"asks_how_many"}),
        ("What is the colour of the bus?", {"asks_what", "asks_color"}),
        ("what does the sign say", {"asks_what", "asks_text"}),
        ("Is this a cat?", {"asks_yes_or_no"}),
        ("this is a cat", set()),
        ("Why is he happy, and how did it come?", {"asks_why_or_how"}),
        ("Who is left of number 7?", {"asks_who", "asks_where", "has_number"}),
        ("NUMBER OF DOGS", {"asks_how_many"}),
        ("show many numbers of words, how", {"asks_text"}),
        ("how the many", {"asks_why_or_how"}),
        ("how manyfold", {"asks_why_or_how"}),
        ("colours and Coloring, not discolored", {"asks_color"}),
        ("what's next to the house", {"asks_what", "asks_where"}),
        ("nextto", set()),
        ("  does it", {"asks_yes_or_no"}),
        ("in 1984", {"has_number"}),
        ("route66", {"has_number"}),
        ("Signs, letters; whose?", {"asks_text", "asks_who"}),
        ("", set()),
    ],
)
def test_questions_are_told_apart_by_their_words(question: str, kinds: set[str]) -> None:
    assert {name for name in QUESTION_KINDS if described(question)[name]} == kinds


def test_features_of_a_profile_say_nothing_of_the_dataset() -> None:
    rows = world_rows(num_images=4)
    renamed = rows.assign(dataset="other")
    one, two = (free_features_of(outcomes_of(world_table(each))) for each in (rows, renamed))
    assert np.array_equal(one, two)
    assert one.shape == (8, len(free_feature_names(["low", "medium", "high"])))


def test_an_unknown_image_size_or_tier_is_an_error_that_names_the_sample() -> None:
    rows = world_rows(num_images=4)
    without_size = rows.assign(image_width=rows["image_width"].where(rows["sample"] != 2))
    with pytest.raises(ValueError, match="image_width: not known of sample 's2'"):
        free_features_of(outcomes_of(world_table(without_size)))
    without_tier = rows[(rows["sample"] != 5) | (rows["tier"] != "medium")]
    with pytest.raises(ValueError, match="vision_tokens: not known of sample 's5'"):
        free_features_of(outcomes_of(world_table(without_tier)))


def test_without_a_feature_file_embeddings_have_no_width() -> None:
    features = without_embeddings(world(num_images=2))
    assert features.question_ND.shape == features.glance_ND.shape == (4, 0)
    assert features.vision_NTD.shape == (4, 3, 0)
    assert len(features.take(np.asarray([1])).free_NF) == 1


def test_each_kind_of_feature_weighs_the_same_in_a_distance() -> None:
    rng = np.random.default_rng(0)
    features = Features(
        free_NF=rng.normal(5, 3, size=(200, 4)),
        question_ND=rng.normal(0, 0.1, size=(200, 20)).astype(np.float16),
        glance_ND=np.zeros((200, 0), dtype=np.float16),
        vision_NTD=rng.normal(0, 9, size=(200, 3, 50)).astype(np.float16),
    )
    blind, seeing = (FeatureScale(features, sees_picture=sees)(features) for sees in (False, True))
    assert blind.shape == (200, 24)
    assert seeing.shape == (200, 24 + 32)
    assert (blind[:, :4] ** 2).sum(axis=1).mean() == pytest.approx(1)
    assert (blind[:, 4:] ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    assert np.array_equal(seeing[:, :24], blind)


def test_a_constant_feature_is_centred_and_not_divided_by_nothing() -> None:
    mean, spread = standard_scale(np.asarray([[2.0, 1.0], [2.0, 3.0]]))
    assert mean.tolist() == [2.0, 2.0]
    assert spread.tolist() == [1.0, 1.0]
    column = np.full((640, 1), np.log2(33))  # their mean is rounded
    assert column.std() > 0
    assert standard_scale(column)[1].tolist() == [1.0]
