from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.suite.draws import is_held_out
from profiling.suite.families import FAMILIES
from profiling.suite.marks import PICTURE_POINTS, Picture, Shape, Symbol, Text
from profiling.suite.puzzle import Puzzle
from profiling.suite.scenes import NINTHS
from profiling.suite.sprites import text_width
from profiling.suite.suite import SPLITS, PuzzleKey
from profiling.suite.text import LETTERS
from profiling.suite.things import UNSEEN_THINGS, Thing
from profiling.suite.vocabulary import VOCABULARY, tokenize
from tests.puzzle_solver import describes, shapes_of, solve, texts_of

KEYS = st.builds(
    PuzzleKey,
    family=st.sampled_from(list(FAMILIES)),
    split=st.sampled_from(SPLITS),
    index=st.integers(0, 10**9),
    seed=st.integers(0, 99),
)
# Share of the most frequent answer, and of the questions that are answered by the kind of question alone.
MOST_MAJORITY = {
    "scenes": 0.25,
    "text": 0.02,
    "counting": 0.13,
    "tables": 0.03,
    "choice": 0.08,
    "facts": 0.04,
    "captions": 0.02,
}
MOST_BLIND = {
    "scenes": 0.28,
    "text": 0.02,
    "counting": 0.13,
    "tables": 0.03,
    "choice": 0.2,
    "facts": 0.06,
    "captions": 0.02,
}


def puzzles(family: str, split: str, count: int) -> list[Puzzle]:
    return [PuzzleKey(family=family, split=split, index=index).make() for index in range(count)]


def questions(family: str, split: str, count: int) -> list[Puzzle]:
    """Puzzles without their pictures, which are many and would fill the memory: tests share them."""
    return [_question(family, split, index) for index in range(count)]


@cache
def _question(family: str, split: str, index: int) -> Puzzle:
    puzzle = PuzzleKey(family=family, split=split, index=index).make()
    return replace(puzzle, picture=Picture(background=puzzle.picture.background, marks=()))


@settings(max_examples=1500, deadline=None)
@given(KEYS)
def test_the_picture_gives_the_answer(key: PuzzleKey) -> None:
    puzzle = key.make()
    if key.family == "captions":
        assert all(describes(sentence, puzzle.picture) for sentence in puzzle.answers)
    else:
        assert solve(key.family, puzzle) == puzzle.answers[0]


@settings(max_examples=300, deadline=None)
@given(KEYS)
def test_questions_and_answers_are_short_and_of_the_closed_vocabulary(key: PuzzleKey) -> None:
    puzzle = key.make()
    assert len(tokenize(puzzle.question)) <= 24
    assert all(len(tokenize(answer)) <= 8 for answer in puzzle.answers)
    assert set(tokenize(" ".join([puzzle.question, *puzzle.answers]))) <= set(VOCABULARY)


@settings(max_examples=300, deadline=None)
@given(KEYS)
def test_nothing_sticks_out_of_the_picture(key: PuzzleKey) -> None:
    for mark in key.make().picture.marks:
        match mark:
            case Shape() | Symbol():
                half_width = half_height = mark.size / 2
            case Text():
                half_width, half_height = text_width(mark.text, mark.height) / 2, mark.height / 2
            case _:
                continue
        for middle, half in ((mark.x, half_width), (mark.y, half_height)):
            assert middle - half >= -1
            assert middle + half <= PICTURE_POINTS + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_is_much_more_frequent_than_others(family: str) -> None:
    seen = questions(family, "train", 3000)
    answers = Counter(puzzle.answers[0] for puzzle in seen)
    assert answers.most_common(1)[0][1] / len(seen) <= MOST_MAJORITY[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_question_alone_does_not_tell_the_answer(family: str) -> None:
    answers_of_kind = defaultdict[str, Counter[str]](Counter)
    for puzzle in questions(family, "train", 3000):
        answers_of_kind[puzzle.kind][puzzle.answers[0]] += 1
    tests = questions(family, "test", 1000)
    is_right = [puzzle.answers[0] == answers_of_kind[puzzle.kind].most_common(1)[0][0] for puzzle in tests]
    assert sum(is_right) / len(tests) <= MOST_BLIND[family]


def test_every_option_is_right_equally_often() -> None:
    tests = questions("choice", "test", 2000)
    assert all(puzzle.answers[0] in puzzle.options and len(set(puzzle.options)) == 4 for puzzle in tests)
    places = Counter(puzzle.options.index(puzzle.answers[0]) for puzzle in tests)
    assert [places[place] / len(tests) for place in range(4)] == pytest.approx([0.25] * 4, abs=0.04)


def test_numbers_among_the_options_are_right_equally_often_by_rank() -> None:
    tests = [puzzle for puzzle in questions("choice", "test", 6000) if puzzle.options[0].isdigit()]
    ranks = Counter(sorted(map(int, puzzle.options)).index(int(puzzle.answers[0])) for puzzle in tests)
    assert [ranks[rank] / len(tests) for rank in range(4)] == pytest.approx([0.25] * 4, abs=0.04)


@pytest.mark.parametrize("family", FAMILIES)
def test_easy_and_hard_members_are_both_frequent(family: str) -> None:
    is_hard = [puzzle.is_hard for puzzle in questions(family, "test", 1000)]
    assert 0.35 < sum(is_hard) / len(is_hard) < 0.65


@pytest.mark.parametrize("family", ["scenes", "counting", "captions"])
def test_training_never_shows_some_colors_of_some_shapes_but_tests_do(family: str) -> None:
    def things(split: str) -> set[Thing]:
        marks = [shape for puzzle in puzzles(family, split, 1000) for shape in shapes_of(puzzle.picture)]
        return {Thing(shape.color, shape.kind) for shape in marks}

    assert len(UNSEEN_THINGS) == 13
    assert not things("train") & UNSEEN_THINGS
    assert things("test") >= UNSEEN_THINGS


def test_every_color_and_every_shape_is_seen_in_several_things() -> None:
    assert max(Counter(thing.color for thing in UNSEEN_THINGS).values()) == 2
    assert max(Counter(thing.shape for thing in UNSEEN_THINGS).values()) == 2


def test_training_never_shows_some_words_and_values_but_tests_do() -> None:
    for family, prefix in (("text", ""), ("tables", "value ")):
        for split in ("train", "test"):
            shown = [puzzle for puzzle in puzzles(family, split, 500) if puzzle.kind not in ("name", "price", "total")]
            texts = {text.text.lower() for puzzle in shown for text in texts_of(puzzle.picture)}
            texts -= set("abcdefghijklmnopqrstuvwxyz")  # headers
            assert any(is_held_out(prefix + text) for text in texts) == (split == "test")


@pytest.mark.parametrize("family", ["scenes", "text", "counting", "tables", "captions"])
def test_what_is_unseen_is_marked_so(family: str) -> None:
    assert not any(puzzle.is_unseen for puzzle in questions(family, "train", 500))
    is_unseen = [puzzle.is_unseen for puzzle in questions(family, "test", 500)]
    assert 0.05 < sum(is_unseen) / len(is_unseen) < 0.4


def test_an_absent_thing_is_nearly_there_only_among_many_things() -> None:
    is_near: dict[bool, set[tuple[bool, bool]]] = {False: set(), True: set()}
    for puzzle in puzzles("scenes", "train", 2000):
        if puzzle.kind == "presence" and puzzle.answers[0] == "no":
            color, kind = puzzle.question.removesuffix("?").split()[-2:]
            shapes = shapes_of(puzzle.picture)
            has_color, has_kind = any(s.color == color for s in shapes), any(s.kind == kind for s in shapes)
            is_near[puzzle.is_hard].add((has_color, has_kind))
    assert is_near == {False: {(False, False)}, True: {(True, True)}}


def test_few_things_are_compared_one_way_round_and_many_both_ways() -> None:
    words: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for puzzle in questions("scenes", "train", 2000):
        asked = next((w for w in ("left", "right", "above", "below", "bigger", "smaller") if w in tokens(puzzle)), None)
        if puzzle.kind in ("relation", "size") and asked is not None:
            words[puzzle.is_hard][asked] += 1
    assert set(words[False]) == {"left", "above", "bigger"}
    assert set(words[True]) == {"left", "right", "above", "below", "bigger", "smaller"}


def tokens(puzzle: Puzzle) -> list[str]:
    return puzzle.question.removesuffix("?").split()


def test_every_ninth_of_a_scene_is_named_equally_often() -> None:
    named = Counter(p.answers[0] for p in questions("scenes", "test", 8000) if p.kind == "place")
    assert sorted(named) == sorted(name for row in NINTHS for name in row)
    assert list(named.values()) == pytest.approx([named.total() / 9] * 9, rel=0.3)


def test_easy_tables_have_one_to_three_rows_and_columns_and_more_than_one_cell() -> None:
    sizes = set()
    for puzzle in puzzles("tables", "train", 600):
        if puzzle.kind == "cell" and not puzzle.is_hard:
            places = [(text.x, text.y) for text in texts_of(puzzle.picture)]
            sizes.add(tuple(len({place[axis] for place in places}) - 1 for axis in (1, 0)))
    assert sizes == {(1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)}


def test_easy_chains_are_short_and_go_upwards() -> None:
    turns: dict[bool, set[int]] = {False: set(), True: set()}
    lengths: dict[bool, set[int]] = {False: set(), True: set()}
    for puzzle in puzzles("choice", "train", 600):
        if puzzle.kind == "chain":
            turns[puzzle.is_hard] |= {shape.turn for shape in shapes_of(puzzle.picture)}
            lengths[puzzle.is_hard].add(len(texts_of(puzzle.picture)))
    assert turns == {False: {0}, True: {0, 180}}
    assert lengths == {False: {2, 3, 4}, True: {6}}


def test_training_knows_every_symbol_and_shows_each_in_other_pictures() -> None:
    numbers = Counter(
        mark.number
        for puzzle in puzzles("facts", "train", 4000)
        for mark in puzzle.picture.marks
        if isinstance(mark, Symbol)
    )
    assert sorted(numbers) == list(range(500))


def test_letters_of_hard_signs_are_too_small_for_the_lowest_tier() -> None:
    for puzzle in puzzles("text", "test", 300):
        heights = [text.height for text in texts_of(puzzle.picture)]
        letters = LETTERS[puzzle.kind]
        assert max(heights) <= letters.high
        assert puzzle.is_hard == (max(heights) < 20)


def test_where_people_differ_there_are_ten_answers_in_two_spellings() -> None:
    counting = questions("counting", "test", 50)
    assert {len(puzzle.answers) for puzzle in counting} == {10}
    two = next(puzzle for puzzle in counting if puzzle.answers[0] == "2")
    assert Counter(two.answers) == {"2": 7, "two": 3}
    gray = next(puzzle for puzzle in questions("scenes", "test", 200) if puzzle.answers[0] == "gray")
    assert Counter(gray.answers) == {"gray": 7, "grey": 3}
    assert all(len(puzzle.answers) >= 2 for puzzle in questions("captions", "test", 50))
