import pickle
from dataclasses import dataclass

import pytest
from PIL import Image

from profiling.datasets.sample import Sample
from profiling.scoring import ReferenceCorpus, ScoreName, Scorer, score


@dataclass(frozen=True)
class Nothing:
    """An image that no score looks at."""

    def open(self) -> Image.Image:
        raise AssertionError("scores look at no image")


def _sample(*answers: str, options: tuple[str, ...] = (), image_id: str = "i", sample_id: str = "7") -> Sample:
    return Sample(
        dataset="set",
        split="val",
        sample_id=sample_id,
        image_id=image_id,
        image=Nothing(),
        question="?",
        answers=answers,
        options=options,
    )


FISH = ("a red fox", "a fish", "an owl")


@pytest.mark.parametrize(
    ("name", "prediction", "sample", "value", "is_parsed"),
    [
        ("vqa_official", " Cat.\n", _sample(*["cat"] * 3, *"bcdefgh"), 0.9, True),
        ("vqa_molmo", " Cat.\n", _sample(*["cat"] * 3, *"bcdefgh"), 1, True),
        ("anls", " pari\n", _sample("paris", "rome"), 0.8, True),
        ("exact_match", " 3 ", _sample("3"), 1, True),
        ("exact_match", "three", _sample("3"), 0, True),
        ("exact_match_number_words", "three", _sample("3"), 1, True),
        ("exact_match_number_words", "four", _sample("3"), 0, True),
        ("exact_match_number_words", "many", _sample("3"), 0, False),
        ("multiple_choice", "b", _sample("a fish", options=FISH), 1, True),
        ("multiple_choice", "c", _sample("a fish", options=FISH), 0, True),
        ("multiple_choice", "fish", _sample("a fish", options=FISH), 0, False),
        ("multiple_choice", "ff", _sample("ff", options=("Ff", "ff")), 1, True),
        ("multiple_choice", "Ff", _sample("ff", options=("Ff", "ff")), 0, True),
        ("multiple_choice", "FF", _sample("ff", options=("Ff", "ff")), 0, False),
        # A letter is looked for before what is nearest.
        ("multiple_choice_nearest", "b", _sample("a fish", options=FISH), 1, True),
        # The only option with "fish" in it; that it had to be guessed is said all the same.
        ("multiple_choice_nearest", "fish", _sample("a fish", options=FISH), 1, False),
        ("multiple_choice_nearest", "fish", _sample("an owl", options=FISH), 0, False),
        ("mmmu", "The answer is (B)", _sample("a fish", options=FISH), 1, True),
        ("mmmu", "The answer is (A)", _sample("a fish", options=FISH), 0, True),
        ("mmmu", "no idea", _sample("a fish", options=FISH), 0, False),
        ("mmmu", "the answer is 4", _sample("4"), 1, True),
        ("mmmu", " \n", _sample("4"), 0, False),
    ],
)
def test_answers_are_scored_by_name(name: str, prediction: str, sample: Sample, value: float, is_parsed: bool) -> None:
    result = score(ScoreName(name), prediction, sample)
    assert (result.name, result.is_parsed) == (ScoreName(name), is_parsed)
    assert result.value == pytest.approx(value)
    assert Scorer.for_samples(ScoreName(name), [sample]).score(prediction, sample) == result


@pytest.mark.parametrize("name", [name for name in ScoreName if name is not ScoreName.CIDER_D])
def test_a_sample_without_answers_is_named(name: ScoreName) -> None:
    with pytest.raises(ValueError, match=f"set/val/7: has no answers, so nothing can be scored by {name}"):
        score(name, "cat", _sample())


@pytest.mark.parametrize("name", ["multiple_choice", "multiple_choice_nearest", "mmmu"])
def test_an_answer_that_is_no_option_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"set/val/7: answers: must be among the options .*, got \['cat'\]"):
        score(ScoreName(name), "A", _sample("cat", options=FISH))


@pytest.mark.parametrize("name", ["multiple_choice", "multiple_choice_nearest"])
def test_a_question_without_options_is_no_multiple_choice(name: str) -> None:
    with pytest.raises(ValueError, match="set/val/7: options: must be >= 1, got none"):
        score(ScoreName(name), "A", _sample("cat"))


CAPTIONED = [
    _sample("a red cat", image_id="1", sample_id="a"),
    _sample("a cat", image_id="1", sample_id="b"),
    _sample("a dog", image_id="2", sample_id="c"),
    _sample(image_id="3", sample_id="d"),
]


def test_a_caption_scorer_counts_images_with_references_once() -> None:
    scorer = Scorer.for_samples(ScoreName.CIDER_D, CAPTIONED)
    assert scorer.corpus == ReferenceCorpus.from_references([["a red cat", "a cat"], ["a dog"]])
    result = scorer.score("a red cat", CAPTIONED[0])
    # Equal in one, two and three words, and nothing of four: 10 * 3/4.
    assert (result.name, result.is_parsed) == (ScoreName.CIDER_D, True)
    assert result.value == pytest.approx(7.5)


def test_all_scores_but_that_of_captions_are_fractions() -> None:
    assert [name for name in ScoreName if not name.is_fraction] == [ScoreName.CIDER_D]


def test_a_caption_scorer_can_be_sent_to_a_worker() -> None:
    scorer = Scorer.for_samples(ScoreName.CIDER_D, CAPTIONED)
    assert pickle.loads(pickle.dumps(scorer)) == scorer  # noqa: S301


def test_captions_are_scored_by_a_scorer_only() -> None:
    with pytest.raises(ValueError, match=r"score cider_d: .* build a Scorer from its samples"):
        score(ScoreName.CIDER_D, "a cat", CAPTIONED[0])
    with pytest.raises(ValueError, match="corpus: cider_d needs one"):
        Scorer(name=ScoreName.CIDER_D)
    corpus = ReferenceCorpus(num_images=2, image_counts={})
    with pytest.raises(ValueError, match="no other score takes one, got score anls"):
        Scorer(name=ScoreName.ANLS, corpus=corpus)
    with pytest.raises(ValueError, match="needs >= 2 images, got 1"):
        Scorer.for_samples(ScoreName.CIDER_D, CAPTIONED[:2])
    with pytest.raises(ValueError, match="set/val/d: has no answers, so nothing can be scored by cider_d"):
        Scorer(name=ScoreName.CIDER_D, corpus=corpus).score("a cat", CAPTIONED[3])
