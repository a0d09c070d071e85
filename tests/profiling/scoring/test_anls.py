import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.anls import anls
from profiling.scoring.edit_distance import edit_distance

TEXTS = st.text(alphabet="abC .é", max_size=8)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),  # k to s, e to i, g added
        ("flaw", "lawn", 2),  # f removed, n added
        ("ab", "ba", 2),  # a swap is two replacements
        ("A", "a", 1),
    ],
)
def test_edit_distances_counted_by_hand(first: str, second: str, expected: int) -> None:
    assert edit_distance(first, second) == expected


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_edit_distance_is_a_distance(first: str, second: str, third: str) -> None:
    assert (edit_distance(first, second) == 0) == (first == second)
    assert edit_distance(first, second) == edit_distance(second, first)
    assert edit_distance(first, third) <= edit_distance(first, second) + edit_distance(second, third)
    assert abs(len(first) - len(second)) <= edit_distance(first, second) <= max(len(first), len(second))


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Paris", ["paris"], 1),
        ("pari", ["paris"], 0.8),  # one letter of five
        ("new york", ["newyork"], 1 - 1 / 8),  # a space counts like a letter
        ("abc", ["abd", "abcd"], 0.75),  # the closest answer: one of four, better than one of three
        ("abcd", ["abxy"], 0),  # two of four is half: not below
        ("abcde", ["abcxy"], 0.6),  # two of five is
        ("", [""], 1),
        ("", ["a"], 0),
        ("a", [""], 0),
    ],
)
def test_anls_counted_by_hand(prediction: str, answers: list[str], expected: float) -> None:
    assert anls(prediction, answers) == pytest.approx(expected)


@settings(deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
def test_anls_is_zero_or_above_a_half_and_asks_for_no_order(prediction: str, answers: list[str]) -> None:
    value = anls(prediction, answers)
    assert value == 0 or 0.5 < value <= 1
    assert value == anls(prediction, answers[::-1]) == anls(prediction.upper(), answers)
    assert anls(prediction, [*answers, prediction]) == 1
