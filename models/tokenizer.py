"""The tokenizer of a model snapshot, and the ids that Molmo gives a meaning of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from transformers import PreTrainedTokenizerFast

from models.config import MolmoConfig

END_OF_TEXT = "<|endoftext|>"
_IMAGE_TOKENS = {
    "im_start_id": "<im_start>",
    "im_end_id": "<im_end>",
    "im_patch_id": "<im_patch>",
    "im_col_id": "<im_col>",
    "image_id": "<|image|>",
}
IMAGE_TOKENS = tuple(_IMAGE_TOKENS.values())


class Tokenizer(Protocol):
    """Text to ids and back."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with no begin or end token around them."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special ones left out."""


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Ids that Molmo gives a meaning of its own.

    Args:
        bos_id: First id of every request; the released models use ``<|endoftext|>`` for both ends.
        eos_id: Ends every answer.
        im_start_id: Before the overview and before the image.
        im_end_id: After each of them.
        im_patch_id: Takes a vision token.
        im_col_id: Ends a row of vision tokens.
        image_id: Stands in a prompt where the image belongs.
    """

    bos_id: int
    eos_id: int
    im_start_id: int
    im_end_id: int
    im_patch_id: int
    im_col_id: int
    image_id: int

    @classmethod
    def of_shape(cls, config: MolmoConfig) -> "SpecialTokens":
        """Place the image tokens right behind the vocabulary, as every released model has them.

        For models without a tokenizer: the id of both ends is the vocabulary's last, which is only MolmoE's.
        """
        first, end_id = config.vocab_size, config.vocab_size - 1
        ids = {name: first + index for index, name in enumerate(_IMAGE_TOKENS)}
        return cls(bos_id=end_id, eos_id=end_id, **ids)

    @classmethod
    def from_ids(cls, ids: Mapping[str, int], *, bos_id: int, eos_id: int, source: str) -> "SpecialTokens":
        """Pick the image tokens out of a table of ids by name.

        Args:
            ids: Ids by token, such as ``<im_start>``.
            bos_id: First id of every request.
            eos_id: Ends every answer.
            source: Where the table comes from, for errors.

        Raises:
            ValueError: If a token is not in the table.
        """
        missing = [token for token in _IMAGE_TOKENS.values() if token not in ids]
        if missing:
            raise ValueError(f"{source}: no id for {', '.join(missing)}; is this the tokenizer of a Molmo model?")
        return cls(bos_id=bos_id, eos_id=eos_id, **{field: ids[token] for field, token in _IMAGE_TOKENS.items()})


class SnapshotTokenizer:
    """A ``Tokenizer`` read from one ``tokenizer.json``.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(file), clean_up_tokenization_spaces=False
        )

    @property
    def added_ids(self) -> dict[str, int]:
        """Ids of the tokens that were added beside the vocabulary, special ones among them."""
        return self._tokenizer.get_added_vocab()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with no begin or end token around them."""
        # The backend itself, since a request waits: around it everything is made ready for padded batches.
        return self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special ones left out."""
        return cast("str", self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that the vocabulary lacks: it can only spell them, or not write them at all.

        The released models' vocabularies are of pieces, not of words, and lack none.
        """
        backend = self._tokenizer.backend_tokenizer
        encoding = backend.encode(text, add_special_tokens=False)
        pieces_by_word: dict[int, list[tuple[str, tuple[int, int]]]] = {}
        for token, span, word_id in zip(encoding.tokens, encoding.offsets, encoding.word_ids, strict=True):
            if word_id is not None:
                pieces_by_word.setdefault(word_id, []).append((token, span))
        is_of_words = bool(getattr(backend.model, "continuing_subword_prefix", None))
        lacking = []
        for pieces in pieces_by_word.values():
            word = text[pieces[0][1][0] : pieces[-1][1][1]]
            is_unknown = any(token == backend.model.unk_token for token, _ in pieces)
            if is_unknown or (is_of_words and len(pieces) > 1 and word.isalpha()):
                lacking.append(word)
        return list(dict.fromkeys(lacking))


def load_tokenizer(snapshot_dir: Path | str) -> tuple[SnapshotTokenizer, SpecialTokens]:
    """Read the tokenizer of a model snapshot, and its special ids, from ``tokenizer.json``.

    No other file is read: the ``added_tokens.json`` published beside MolmoE-1B belongs to another model and contradicts
    its tokenizer.

    Args:
        snapshot_dir: Folder of the snapshot.

    Raises:
        ValueError: If the file is missing, damaged, or lacks a token that Molmo needs.
    """
    file = Path(snapshot_dir) / "tokenizer.json"
    if not file.is_file():
        raise ValueError(
            f"{snapshot_dir}: tokenizer.json is missing; expected the folder of a Molmo snapshot with its tokenizer"
        )
    try:
        tokenizer = SnapshotTokenizer(file)
    except Exception as err:
        raise ValueError(f"{file}: not a tokenizer file: {err}") from err
    ids = tokenizer.added_ids
    if END_OF_TEXT not in ids:
        raise ValueError(f"{file}: no id for {END_OF_TEXT}, which begins and ends a Molmo request")
    end_of_text_id = ids[END_OF_TEXT]
    return tokenizer, SpecialTokens.from_ids(ids, bos_id=end_of_text_id, eos_id=end_of_text_id, source=str(file))
