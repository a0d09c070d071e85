import json
from pathlib import Path

import pytest

from models.config import released_config
from models.tokenizer import SpecialTokens, load_tokenizer
from profiling.suite.tokenizer_file import suite_tokenizer_json
from tests.helpers import golden_special_tokens, write_golden_tokenizer, write_tokenizer

WORDS = {"<unk>": 0, "a": 1, "cat": 2}
ADDED = {"<|endoftext|>": 3, "<im_start>": 4, "<im_end>": 5, "<im_patch>": 6, "<im_col>": 7, "<|image|>": 8}


def test_special_ids_are_those_of_the_tokenizer_file(tmp_path: Path) -> None:
    write_golden_tokenizer(tmp_path, "moe")
    _, special_tokens = load_tokenizer(tmp_path)
    assert special_tokens == golden_special_tokens("moe")


def test_special_ids_ignore_the_contradicting_file_published_beside_molmoe(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ids=WORDS, added_ids=ADDED)
    (tmp_path / "added_tokens.json").write_text(json.dumps({token: 100278 + i for i, token in enumerate(ADDED)}))
    _, special_tokens = load_tokenizer(tmp_path)
    assert (special_tokens.bos_id, special_tokens.im_start_id, special_tokens.image_id) == (3, 4, 8)


def test_special_ids_of_a_released_shape_are_known_without_its_tokenizer() -> None:
    assert SpecialTokens.of_shape(released_config("molmoe-1b-0924")) == SpecialTokens(
        bos_id=50279,
        eos_id=50279,
        im_start_id=50280,
        im_end_id=50281,
        im_patch_id=50282,
        im_col_id=50283,
        image_id=50284,
    )
    assert SpecialTokens.of_shape(released_config("molmo-7b-d-0924")).image_id == 152068


def test_text_is_encoded_without_begin_and_end_and_decoded_without_special_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ids=WORDS, added_ids=ADDED)
    tokenizer, _ = load_tokenizer(tmp_path)
    assert tokenizer.encode("a <|image|> cat") == [1, 8, 2]
    assert tokenizer.decode([1, 2, 3]) == "a cat"


def test_words_that_a_vocabulary_lacks_are_named_once(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ids=WORDS, added_ids=ADDED)
    tokenizer, _ = load_tokenizer(tmp_path)
    assert tokenizer.unknown_words("a dog <|image|> a cat dog \N{SNOWMAN}") == ["dog", "\N{SNOWMAN}"]


def test_words_that_can_only_be_spelled_are_lacking_but_numbers_are_not(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(suite_tokenizer_json())
    tokenizer, _ = load_tokenizer(tmp_path)
    asked = "What color is the Elephant, na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve redwood 42?"
    assert tokenizer.unknown_words(asked) == ["Elephant", "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve", "redwood"]
    assert tokenizer.unknown_words("what shape is the biggest?") == []


def test_folder_without_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}: tokenizer.json is missing"):
        load_tokenizer(tmp_path)


def test_damaged_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer file: EOF"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("<|image|>", r"tokenizer\.json: no id for <\|image\|>; is this the tokenizer of a Molmo model\?"),
        ("<|endoftext|>", r"tokenizer\.json: no id for <\|endoftext\|>"),
    ],
)
def test_tokenizer_of_another_model_is_refused(tmp_path: Path, absent: str, message: str) -> None:
    others = [token for token in ADDED if token != absent]
    added_ids = {token: 3 + i for i, token in enumerate(others)}
    write_tokenizer(tmp_path, ids=WORDS, added_ids=added_ids)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)
