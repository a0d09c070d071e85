import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.mmmu import open_match, parse_option

OPTIONS = ["red", "dark blue", "blue"]


@pytest.mark.parametrize(
    ("prediction", "choice"),
    [
        ("B", 1),
        ("B.", 1),
        ("'B'.", 1),
        # Apostrophes are stripped last, so the period stays, and there is no letter between spaces.
        ("'B.'", None),
        ("The answer is C", 2),
        ("I take (A) over B", 0),  # a letter in brackets goes before one between spaces
        ("(A), no, (C)", 2),  # the last one mentioned
        ("A or B , say C then", 2),
        ("b", None),
        ("B\n", None),  # a line end is no space
        ("Answer: A.\nBecause", None),
        ("D", None),
        # Six words: an option's own words count, and of two the one that starts later.
        ("I think it is bright RED", 0),
        ("it is not red but dark blue", 2),  # "blue" starts later than "dark blue"
        ("I think it is red", None),  # five words
        ("", None),
    ],
)
def test_an_option_is_read_from_text(prediction: str, choice: int | None) -> None:
    assert parse_option(prediction, OPTIONS) == choice


@settings(deadline=None)
@given(st.text(max_size=30))
def test_reading_an_option_draws_nothing_at_random(prediction: str) -> None:
    choice = parse_option(prediction, OPTIONS)
    assert choice in {0, 1, 2, None}
    assert choice == parse_option(prediction, OPTIONS)


def test_letters_without_an_option_are_not_read() -> None:
    assert parse_option("C", OPTIONS[:2]) is None


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Ohm", ["ohm"], 1),
        ("the answer is ohms", ["ohm"], 1),  # inside a word
        ("ohm", ["ohms"], 0),
        # The key phrase starts behind the last announcement: "mass", so the other words are not seen.
        ("Ohm is a unit, so the answer is mass", ["ohm"], 0),
        # The shortest of "5 = 5 kg", of the text behind "=": "5 kg". Its number is 5.
        ("The result is 2 + 3 = 5 kg", ["5"], 1),
        ("The result is 2 + 3 = 5 kg", ["2"], 0),
        # "=" announces in the last line only.
        ("x = 7\nno idea", ["7"], 1),  # no announcement anywhere, so the whole text counts
        ("x = 7\nthe answer is 8", ["7"], 0),
        ("1,234.5", ["1234.5"], 1),
        ("about 1,234 people", ["1234"], 1),
        ("about 1.5e3 people", ["1500"], 1),
        ("it is -.5", ["-0.5"], 1),
        ("3.14159", ["3.14"], 1),  # both are rounded to two places
        ("3.149", ["3.14"], 0),  # 3.15
        ("10", ["1"], 0),  # numbers are equal or not
        ("12 apples", ["1"], 0),
        # A letter needs a space beside it.
        ("vitamin c helps", ["C"], 1),
        ("calcium", ["C"], 0),
        # Both of several answers will do.
        ("ampere", ["volt", "ampere"], 1),
        # Sentences are not split: the tail of the whole line counts, from the last "is ".
        ("The answer is 4. That is all", ["4"], 0),
        # An announcement at the end of a line leaves nothing, another one then gives "is".
        ("the answer is \n42", ["42"], 0),
        ("", ["x"], 0),
        # A phrase of one mark says nothing, so the whole text counts.
        ("42 is .", ["42"], 1),
        ("volt\nthe answer is :", ["volt"], 1),
    ],
)
def test_open_answers(prediction: str, answers: list[str], expected: float) -> None:
    assert open_match(prediction, answers) == expected


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3))
def test_an_open_answer_is_right_or_wrong_in_any_order(prediction: str, answers: list[str]) -> None:
    assert open_match(prediction, answers) in {0.0, 1.0}
    assert open_match(prediction, answers) == open_match(prediction, answers[::-1])
