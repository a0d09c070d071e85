from pathlib import Path

import pytest

from datamodules.suite_batches import answer_ids, question_ids
from models.processor import format_question
from models.tokenizer import SnapshotTokenizer, SpecialTokens, load_tokenizer
from profiling.suite.families import FAMILIES
from profiling.suite.suite import PuzzleKey
from profiling.suite.tokenizer_file import EASY_VQA_WORDS, TOKEN_IDS, UNKNOWN, suite_tokenizer_json


@pytest.fixture
def loaded() -> tuple[SnapshotTokenizer, SpecialTokens]:
    Path("tokenizer.json").write_text(suite_tokenizer_json())
    return load_tokenizer(".")


@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_serving_cut_texts_alike(family: str, loaded: tuple[SnapshotTokenizer, SpecialTokens]) -> None:
    tokenizer, special_tokens = loaded
    for index in range(100):
        puzzle = PuzzleKey(family=family, split="test", index=index).make()
        assert tokenizer.encode(format_question(puzzle.question)) == question_ids(puzzle.question)
        for answer in puzzle.answers:
            ids = tokenizer.encode(f" {answer}")
            assert [*ids, special_tokens.eos_id] == answer_ids(answer)
            assert tokenizer.decode(ids) == answer


def test_words_of_easy_vqa_are_one_token_and_others_are_spelled(
    loaded: tuple[SnapshotTokenizer, SpecialTokens],
) -> None:
    tokenizer, _ = loaded
    assert all(len(tokenizer.encode(word)) == 1 for word in EASY_VQA_WORDS)
    assert len(tokenizer.encode("Wizard")) == 6
    assert tokenizer.decode(tokenizer.encode("Wizard")) == "wizard"
    assert tokenizer.encode("\u00e9") == [TOKEN_IDS[UNKNOWN]]
