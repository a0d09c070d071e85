from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.vqa_accuracy import molmo_accuracy, official_accuracy

ANSWERS = st.lists(st.sampled_from(["cat", "Cat", "the cat", "dog", "2", "two", "none"]), min_size=1, max_size=12)
PREDICTIONS = st.sampled_from(["cat", "Cat.", "2", "bird", "none", ""])


def _annotators(num_agreeing: int) -> list[str]:
    return ["cat"] * num_agreeing + [f"other {i}" for i in range(10 - num_agreeing)]


# Leaving out one of n agreeing annotators leaves n - 1 matches, leaving out one of the 10 - n others leaves n:
# (n min(1, (n - 1) / 3) + (10 - n) min(1, n / 3)) / 10. For n = 2: (2 * 1/3 + 8 * 2/3) / 10 = 0.6.
@pytest.mark.parametrize(
    ("num_agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (5, 1), (9, 1), (10, 1)]
)
def test_official_accuracy_by_annotators_of_ten_who_agree(num_agreeing: int, expected: float) -> None:
    assert official_accuracy("cat", _annotators(num_agreeing)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("num_agreeing", "expected"), [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (4, 1), (5, 1), (9, 1), (10, 1)]
)
def test_molmo_accuracy_by_annotators_of_ten_who_agree(num_agreeing: int, expected: float) -> None:
    assert molmo_accuracy("cat", _annotators(num_agreeing)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["cat"], 1),  # nobody else is there to ask
        (["cat", "dog"], 1 / 6),  # the first has no other who agrees, the second has one: (0 + 1/3) / 2
        (["cat", "cat"], 1 / 3),
        (["cat", "cat", "cat"], 2 / 3),
        (["cat", "cat", "cat", "cat"], 1),
        # Two of five who agree, each counted twice, as in OK-VQA: 4 of 10.
        (["cat"] * 4 + ["dog"] * 6, 1),
        (["cat"] * 2 + ["dog"] * 8, 0.6),
    ],
)
def test_official_accuracy_with_other_numbers_of_annotators(answers: list[str], expected: float) -> None:
    assert official_accuracy("cat", answers) == pytest.approx(expected)


def test_annotators_who_differ_are_normalized_as_predictions_are() -> None:
    # All four become "2 cats".
    answers = ["two cats", "2 cats.", "the 2 cats", "Two\ncats"]
    assert official_accuracy("Two cats!", answers) == 1
    assert molmo_accuracy("Two cats!", answers) == 1


@pytest.mark.parametrize(
    ("prediction", "official", "molmo"),
    [
        ("black", 1, 1),
        (" black\n", 1, 1),  # spaces and line ends go in any case
        ("Black", 0, 1),
        ("black.", 0, 1),
    ],
)
def test_official_accuracy_normalizes_nothing_where_all_agree(prediction: str, official: float, molmo: float) -> None:
    assert official_accuracy(prediction, ["black"] * 10) == official
    assert molmo_accuracy(prediction, ["black"] * 10) == molmo


def test_one_annotator_who_differs_switches_normalization_on() -> None:
    # Nine annotators agree, so whoever is left out, three or more match.
    assert official_accuracy("Black.", ["black"] * 9 + ["dark"]) == 1


def test_an_answer_can_be_an_article() -> None:
    # Normalized, "a" is empty, and so is "The": nine match.
    assert official_accuracy("The", ["a"] * 9 + ["b"]) == 1
    # All agree, nothing is normalized.
    assert official_accuracy("The", ["a"] * 10) == 0
    assert official_accuracy("a", ["a"] * 10) == 1


def test_none_is_the_number_zero() -> None:
    assert official_accuracy("none", ["0"] * 9 + ["1"]) == 1
    assert molmo_accuracy("none", ["0"] * 10) == 1


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("two dogs", "2 dogs", 1),  # the prediction is normalized
        ("the dog", "the dog", 0),  # becomes "dog", the answer does not
        ("The dog", "dog", 1),
        ("dog", "Dog", 0),
    ],
)
def test_molmo_leaves_a_lone_answer_as_it_is(prediction: str, answer: str, expected: float) -> None:
    assert molmo_accuracy(prediction, [answer]) == expected


@settings(deadline=None)
@given(PREDICTIONS, ANSWERS, st.randoms(use_true_random=False))
def test_accuracy_is_a_share_and_asks_for_no_order(prediction: str, answers: list[str], random: object) -> None:
    shuffled = sorted(answers, key=lambda _: random.random())  # type: ignore[attr-defined]
    for accuracy in (official_accuracy, molmo_accuracy):
        assert 0 <= accuracy(prediction, answers) <= 1
        assert accuracy(prediction, shuffled) == pytest.approx(accuracy(prediction, answers))


@settings(deadline=None)
@given(st.integers(4, 12), st.integers(0, 12))
def test_four_who_agree_make_both_accuracies_one(num_agreeing: int, num_others: int) -> None:
    answers: Sequence[str] = ["cat"] * num_agreeing + ["dog"] * num_others
    assert official_accuracy("cat", answers) == molmo_accuracy("cat", answers) == 1
