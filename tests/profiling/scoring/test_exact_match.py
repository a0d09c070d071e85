import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.counts import NUMBER_WORDS, parse_count
from profiling.scoring.exact_match import count_match, exact_match


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3", 3),
        ("03", 3),
        (" 12.\n", 12),
        ("Three", 3),
        ("twenty", 20),
        ("none", 0),
        ("zero", 0),
        ("3.5", None),
        ("-1", None),
        ("3 dogs", None),
        ("twenty one", None),
        ("a lot", None),
        ("", None),
        ("²", None),  # a digit to Python, no number
        ("1" * 10, None),  # nobody counted so many things in an image
    ],
)
def test_counts_are_read_from_digits_and_words(text: str, count: int | None) -> None:
    assert parse_count(text) == count


@settings(deadline=None)
@given(st.integers(0, 20))
def test_a_number_and_its_word_are_one_count(number: int) -> None:
    assert parse_count(str(number)) == parse_count(NUMBER_WORDS[number].title()) == number
    assert count_match(str(number), [NUMBER_WORDS[number]]) == count_match(NUMBER_WORDS[number], [str(number)]) == 1


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "count"),
    [
        ("3", ["3"], 1, 1),
        ("THREE", ["three"], 1, 1),
        ("three", ["3"], 0, 1),
        ("3.", ["3"], 0, 1),
        ("2", ["3", "2"], 1, 1),
        ("2", ["3"], 0, 0),
        ("many", ["3"], 0, 0),
        ("many", ["Many"], 1, 1),
        ("many", ["few"], 0, 0),  # neither is a number: that does not make them equal
        ("the 3", ["3"], 0, 0),
    ],
)
def test_exact_match_with_and_without_number_words(
    prediction: str, answers: list[str], exact: float, count: float
) -> None:
    assert exact_match(prediction, answers) == exact
    assert count_match(prediction, answers) == count
