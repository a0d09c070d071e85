from dataclasses import replace

from profiling.majority import MajorityAnswers
from profiling.suite.suite import PuzzleKey, suite_sample

SAMPLE = suite_sample(PuzzleKey(family="scenes", split="test", index=0))


def test_the_most_common_answer_to_the_same_words_is_given_else_the_most_common_of_all() -> None:
    pairs = [("a?", "red"), ("a?", "red"), ("a?", "blue"), *[("b?", "yes")] * 3]
    majority = MajorityAnswers([replace(SAMPLE, question=q, answers=(a,)) for q, a in pairs])
    assert majority.answer(replace(SAMPLE, question="a?")) == "red"
    assert majority.answer(replace(SAMPLE, question="c?")) == "yes"
    assert majority.answer(replace(SAMPLE, question="c?", options=("green", "blue", "red"))) == "red"
