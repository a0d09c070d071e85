import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.cider import ReferenceCorpus, cider_d

LOG_2 = math.log(2)
# "a" is in both images' references and weighs log(2 / 2) = 0; every other phrase is in one and weighs log 2.
TWO_IMAGES = [["a red cat"], ["a dog"]]
WORDS = st.sampled_from(["a", "red", "cat", "dog", "on", "grass", "runs"])
CAPTIONS = st.lists(WORDS, min_size=1, max_size=9).map(" ".join)
REFERENCES = st.lists(st.lists(CAPTIONS, min_size=1, max_size=3), min_size=2, max_size=5)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # Cosines 1 for one, two and three words, and nothing of four words: 10 * 3/4.
        ("a red cat", 7.5),
        # One word: red and cat, cosine 1. More: "a cat", "cat red" are not in the reference. 10 * 1/4.
        ("a cat red", 2.5),
        # One word: "red" counts 2, cut off at 1, so 1 * 1 / (2 * sqrt(2)), log 2 cancelling out. Two: "red red" is not
        # shared. One word less than the reference: exp(-1 / 72).
        ("red red", 10 * (1 / (2 * math.sqrt(2))) / 4 * math.exp(-1 / 72)),
        # One word: "red", norms 1 and sqrt(2). Two words less.
        ("red", 10 * (1 / math.sqrt(2)) / 4 * math.exp(-4 / 72)),
        # All that is shared weighs nothing.
        ("a", 0),
        ("the bird", 0),
        ("", 0),
    ],
)
def test_cider_counted_by_hand(prediction: str, expected: float) -> None:
    corpus = ReferenceCorpus.from_references(TWO_IMAGES)
    assert cider_d(prediction, TWO_IMAGES[0], corpus) == pytest.approx(expected)


def test_weights_are_logarithms_of_images_over_images_that_have_the_phrase() -> None:
    corpus = ReferenceCorpus.from_references([["a cat", "a cat cat"], ["a dog"], ["the cat"]])
    assert corpus.num_images == 3
    assert corpus.weight(("a",)) == pytest.approx(math.log(3 / 2))
    assert corpus.weight(("cat",)) == pytest.approx(math.log(3 / 2))
    assert corpus.weight(("a", "cat")) == pytest.approx(math.log(3))
    assert corpus.weight(("never", "seen")) == pytest.approx(math.log(3))


def test_a_score_is_the_mean_over_references() -> None:
    corpus = ReferenceCorpus.from_references(TWO_IMAGES)
    alone = cider_d("a red cat", ["a red cat"], corpus)
    assert cider_d("a red cat", ["a red cat", "the bird"], corpus) == pytest.approx(alone / 2)


def test_the_published_scorer_gives_the_same() -> None:
    references = [
        ["a man rides a brown horse", "a man on a horse in a field"],
        ["a dog runs in a green field", "the dog runs"],
        ["a red bus on a street", "a bus parked on a busy city street"],
    ]
    predictions = ["a man rides a horse in a green field", "a dog runs in a field a dog runs", "a train"]
    corpus = ReferenceCorpus.from_references(references)
    scores = [cider_d(prediction, own, corpus) for prediction, own in zip(predictions, references, strict=True)]
    # Recorded from cider_scorer.py of pycocoevalcap 1.2 on these captions.
    assert scores == pytest.approx([4.14056413, 2.48335118, 0], abs=1e-8)


def test_a_caption_of_four_or_more_own_words_equal_to_its_reference_scores_ten() -> None:
    references = [["A red cat on the grass."], ["two dogs"]]
    corpus = ReferenceCorpus.from_references(references)
    assert cider_d("a red cat, on the grass", references[0], corpus) == pytest.approx(10)


@settings(deadline=None)
@given(CAPTIONS, REFERENCES)
def test_scores_stay_between_zero_and_ten_and_ask_for_no_order(prediction: str, references: list[list[str]]) -> None:
    corpus = ReferenceCorpus.from_references(references)
    value = cider_d(prediction, references[0], corpus)
    assert -1e-9 <= value <= 10 + 1e-9
    backwards = ReferenceCorpus.from_references([captions[::-1] for captions in references[::-1]])
    assert cider_d(prediction, references[0][::-1], backwards) == pytest.approx(value)
    assert cider_d(f"{prediction.upper()} .", references[0], corpus) == pytest.approx(value)
    assert cider_d(prediction, references[0] * 2, corpus) == pytest.approx(value)


@settings(deadline=None)
@given(REFERENCES)
def test_counting_every_image_twice_changes_no_weight_of_a_phrase_seen(references: list[list[str]]) -> None:
    once, twice = ReferenceCorpus.from_references(references), ReferenceCorpus.from_references(references * 2)
    assert twice.num_images == 2 * once.num_images
    assert all(twice.weight(phrase) == pytest.approx(once.weight(phrase)) for phrase in once.image_counts)


@pytest.mark.parametrize("references", [[], [["a red cat", "a cat"]]])
def test_one_image_makes_no_corpus_and_the_error_says_why(references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match=rf"needs >= 2 images, got {len(references)}: .* all weights are log\(1\) = 0"):
        ReferenceCorpus.from_references(references)
