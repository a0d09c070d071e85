from pathlib import Path

import pytest

from profiling.datasets.prompt import prompt_text
from profiling.datasets.sample import ImageFile, Sample


def _sample(*options: str, question_has_options: bool = False) -> Sample:
    return Sample(
        dataset="d",
        split="all",
        sample_id="7",
        image_id="d/1",
        image=ImageFile(path=Path("a.png")),
        question="Which one?",
        answers=options[:1],
        options=options,
        question_has_options=question_has_options,
    )


def test_options_follow_the_question_one_a_line() -> None:
    assert prompt_text(_sample()) == "Which one?"
    assert prompt_text(_sample("a cat", "a dog")) == "Which one?\nA: a cat\nB: a dog\n"


def test_options_that_are_in_the_question_are_not_repeated() -> None:
    assert prompt_text(_sample("a cat", "a dog", question_has_options=True)) == "Which one?"


def test_more_options_than_letters_are_refused() -> None:
    assert prompt_text(_sample(*["x"] * 26)).endswith("Z: x\n")
    with pytest.raises(ValueError, match="d: sample 7: options: must be <= 26, one a letter, got 27"):
        prompt_text(_sample(*["x"] * 27))
