"""Loaders of the golden files, and small tokenizers, for tests of several modules."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from models.config import MolmoConfig
from models.inputs import ModelInputs
from models.tokenizer import SpecialTokens

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("moe", "dense")
IMAGE_CASES = ("img_landscape", "img_portrait", "img_square", "img_tiny")
REAL_CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "preproc_real" / "cases.json").read_text())["cases"]


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One recorded case: what ``cases.json`` says of it and its tensors."""

    meta: dict[str, Any]
    tensors: dict[str, Tensor]


def golden_meta(variant: str) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((GOLDEN / variant / "cases.json").read_text())
    return meta


def golden_case(variant: str, name: str) -> GoldenCase:
    meta = golden_meta(variant)["cases"][name]
    return GoldenCase(meta=meta, tensors=load_file(GOLDEN / variant / meta["file"]))


def golden_config(variant: str) -> MolmoConfig:
    return MolmoConfig.from_hf(json.loads((GOLDEN / variant / "config.json").read_text()))


def golden_special_tokens(variant: str) -> SpecialTokens:
    meta = golden_meta(variant)
    return SpecialTokens.from_ids(
        meta["special_token_ids"], bos_id=meta["bos_token_id"], eos_id=meta["eos_token_id"], source=variant
    )


def golden_image(path: str) -> Image.Image:
    with Image.open(GOLDEN / path) as image:
        image.load()
        return image


def golden_inputs(variant: str, name: str) -> ModelInputs:
    """Recorded inputs of a case with one request; pictures are stored once, with the case that owns them."""
    case = golden_case(variant, name)
    if "image_input_idx" not in case.tensors:
        return ModelInputs(input_ids=case.tensors["input_ids"])
    owner = golden_case(variant, case.meta["images_of"]) if "images_of" in case.meta else case
    return ModelInputs(
        input_ids=case.tensors["input_ids"],
        crops=owner.tensors["images"],
        patch_mask=case.tensors["image_masks"],
        token_index=case.tensors["image_input_idx"].long(),
    )


def write_tokenizer(folder: Path, *, ids: dict[str, int], added_ids: dict[str, int]) -> Path:
    """Write a ``tokenizer.json`` that splits at spaces; its added tokens are listed with their ids, as in a release."""
    # An added token keeps the id that the vocabulary gives it, so that ids may lie anywhere.
    tokenizer = Tokenizer(models.WordLevel(ids | added_ids, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(added_ids))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def write_golden_tokenizer(folder: Path, variant: str) -> Path:
    """Write the tokenizer that the golden prompts were made with: ``t17`` is id 17."""
    meta = golden_meta(variant)
    ids = {f"t{i}": i for i in range(meta["eos_token_id"])}
    del ids[f"t{meta['user_token_id']}"], ids[f"t{meta['assistant_token_id']}"], ids["t0"]
    ids |= {"User:": meta["user_token_id"], "Assistant:": meta["assistant_token_id"], "<unk>": 0}
    added_ids = {"<|endoftext|>": meta["eos_token_id"], **meta["special_token_ids"]}
    return write_tokenizer(folder, ids=ids, added_ids=added_ids)
