import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from profiling.suite.draws import Draws
from profiling.suite.facts import FACTS
from profiling.suite.families import FAMILIES
from profiling.suite.suite import PuzzleKey
from profiling.suite.vocabulary import CHARACTERS, PUNCTUATION, VOCABULARY, WORDS, is_spelled, tokenize
from profiling.suite.words import SIGN_WORDS, invented_word


def test_known_words_are_one_token_and_the_rest_is_spelled() -> None:
    assert tokenize("what color is the star?") == ["what", "color", "is", "the", "star", "?"]
    assert tokenize("row b, column q?") == ["row", "b", ",", "column", "q", "?"]
    assert tokenize("zumo 47") == ["z", "##u", "##m", "##o", "4", "##7"]
    assert tokenize("") == []


@pytest.mark.parametrize("text", ["Red", "gr\u00fcn", "a-b"])
def test_other_characters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"the suite writes with a-z, 0-9, spaces and '\?,\.' only, got"):
        tokenize(text)


@given(st.text(alphabet=CHARACTERS + PUNCTUATION + " "))
def test_tokens_are_entries_of_the_vocabulary_and_lose_nothing(text: str) -> None:
    tokens = tokenize(text)
    assert set(tokens) <= set(VOCABULARY)
    assert "".join(tokens).replace("##", "") == text.replace(" ", "")


def test_no_entry_comes_twice() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert not set(WORDS) & set(CHARACTERS)


def test_signs_and_names_are_spelled() -> None:
    draws = Draws("test", may_be_unseen=True)
    invented = [invented_word(draws) for _ in range(500)]
    assert all(map(is_spelled, [*SIGN_WORDS, *invented, *(facts.name for facts in FACTS)]))
    assert not is_spelled("red")
    assert not is_spelled("island")
    assert len(set(SIGN_WORDS)) == len(SIGN_WORDS) > 300
    assert {len(word) for word in SIGN_WORDS} == {3, 4, 5, 6}


def test_a_wordpiece_tokenizer_cuts_questions_and_answers_in_the_same_way() -> None:
    ids = {token: i for i, token in enumerate([*VOCABULARY, "<unk>"])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    for family in FAMILIES:
        for index in range(100):
            puzzle = PuzzleKey(family=family, split="test", index=index).make()
            for text in (puzzle.question, *puzzle.answers):
                assert tokenizer.encode(text).tokens == tokenize(text)


def test_every_word_is_used() -> None:
    tokens = {
        token
        for family in FAMILIES
        for index in range(2000)
        for text in _texts(PuzzleKey(family=family, split="test", index=index))
        for token in tokenize(text)
    }
    assert tokens >= {*WORDS, *PUNCTUATION, *CHARACTERS} - {"zero", "x"}


def _texts(key: PuzzleKey) -> set[str]:
    puzzle = key.make()
    return {puzzle.question, *puzzle.answers}
