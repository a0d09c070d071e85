import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.multiple_choice import nearest_choice, option_labels, parse_choice

OPTIONS = ["a red fox", "a fish", "an owl"]


@pytest.mark.parametrize(
    ("prediction", "choice"),
    [
        ("a fish", 1),
        (" A Fish\n", 1),
        ("B", 1),
        ("b", 1),
        ("B.", 1),
        ("(C)", 2),
        ("c)", 2),
        ("A:", 0),
        ("D", None),
        ("fish", None),
        ("B. a fish", None),
        ("", None),
    ],
)
def test_a_strict_parse_takes_an_option_or_its_letter(prediction: str, choice: int | None) -> None:
    assert parse_choice(prediction, OPTIONS) == choice


def test_an_option_that_is_a_letter_goes_before_the_letter_of_an_option() -> None:
    assert parse_choice("B", ["B", "A"]) == 0


@pytest.mark.parametrize(
    ("prediction", "choice"),
    [
        ("A FISH", 1),  # equal but for case
        ("red", 0),  # in one option only
        ("two fish", 1),  # in none; three edits make "a fish" of it
        ("f", 1),  # in two options; edits 8, 5, 6
        ("", 1),  # in all; edits are the lengths 9, 6, 6
        ("C", 1),  # letters mean nothing: in none, and edits are the lengths
    ],
)
def test_the_nearest_option_as_molmo_picks_it(prediction: str, choice: int) -> None:
    assert nearest_choice(prediction, OPTIONS) == choice


def test_the_first_of_equally_near_options_is_taken() -> None:
    assert nearest_choice("rat", ["cat", "bat"]) == 0


@settings(deadline=None)
@given(st.text(max_size=10))
def test_some_option_is_always_nearest(prediction: str) -> None:
    nearest, strict = nearest_choice(prediction, OPTIONS), parse_choice(prediction, OPTIONS)
    assert nearest in range(3)
    if strict is not None and len(prediction.strip()) > 3:  # more than a letter in brackets
        assert nearest == strict


GENOTYPES = ["FF", "Ff", "ff", "the Ff gene"]


@pytest.mark.parametrize(
    ("prediction", "strict", "nearest"),
    [
        ("FF", 0, 0),
        (" Ff\n", 1, 1),
        ("ff", 2, 2),
        ("fF", None, 0),  # as near to one as to another
        ("THE FF GENE", 3, 3),  # but for case only this one
        ("c", 2, 0),
    ],
)
def test_options_that_differ_in_case_only_are_told_apart(prediction: str, strict: int | None, nearest: int) -> None:
    assert parse_choice(prediction, GENOTYPES) == strict
    assert nearest_choice(prediction, GENOTYPES) == nearest


def test_equal_options_are_refused() -> None:
    for choose in (parse_choice, nearest_choice):
        with pytest.raises(ValueError, match=r"options: must differ, got \['cat', 'cat '\]"):
            choose("cat", ["cat", "cat "])


def test_there_are_no_more_options_than_letters() -> None:
    assert option_labels([""] * 4) == "ABCD"
    with pytest.raises(ValueError, match="options: must be <= 26, one a letter, got 27"):
        option_labels([""] * 27)
