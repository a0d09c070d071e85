"""The tokenizer of models that are trained on the suite, as a ``tokenizer.json`` of the Hugging Face layout."""

import json
from typing import Final

from models.tokenizer import END_OF_TEXT, IMAGE_TOKENS
from profiling.suite.vocabulary import CONTINUATION, VOCABULARY

UNKNOWN: Final = "<unk>"
ROLES: Final = ("User:", "Assistant:")
EASY_VQA_WORDS: Final = ("contain", "image", "not", "present", "rectangle", "teal")
# Ends of a request come last, and image tokens behind the vocabulary, as in the released MolmoE.
_TOKENS: Final = (*VOCABULARY, *EASY_VQA_WORDS, UNKNOWN, *ROLES, END_OF_TEXT)
TOKEN_IDS: Final = {token: place for place, token in enumerate(_TOKENS)}


def suite_tokenizer_json() -> str:
    """Return the file's content: WordPiece over the suite's vocabulary, in lower case, and the tokens that Molmo needs.

    It cuts the suite's texts as ``vocabulary.tokenize`` does, and knows the words of easy-VQA; others are spelled.
    """
    image_ids = {token: len(_TOKENS) + place for place, token in enumerate(IMAGE_TOKENS)}
    special_ids = {END_OF_TEXT: TOKEN_IDS[END_OF_TEXT], **image_ids}
    added = [_added(role, TOKEN_IDS[role], is_special=False) for role in ROLES]
    added += [_added(token, place, is_special=True) for token, place in special_ids.items()]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": CONTINUATION, "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": CONTINUATION,
            "max_input_chars_per_word": 100,
            "vocab": TOKEN_IDS | image_ids,
        },
    }
    return json.dumps(content, indent=1) + "\n"


def _added(token: str, place: int, *, is_special: bool) -> dict[str, object]:
    return {
        "id": place,
        "content": token,
        "single_word": False,
        "lstrip": True,
        "rstrip": False,
        "normalized": False,
        "special": is_special,
    }
