"""The record schema: what a profile file says, checked once where it enters.

One record is one measurement: a request, a knob setting, a run. Times are milliseconds. A file carries one
``Environment``. The ``T_*`` keys of older result files are accepted as aliases here and nowhere else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)

SCHEMA_VERSION: Final = 1
SCHEMA_FILE: Final = Path(__file__).with_name("profile_schema.json")

# A total may fall short of the sum of its parts by clock resolution and by rounding to two decimals in older files.
TOTAL_ABSOLUTE_SLACK_MS: Final = 0.05
TOTAL_RELATIVE_SLACK: Final = 0.01

PART_NAMES: Final = ("vision_encoder_ms", "projector_ms", "prefill_ms", "decode_ms")

LINEAGE_NAMES: Final[Mapping[str, str]] = {
    "active_blocks": "active_block_indices",
    "preprocess_ms": "T_preprocess",
    "vision_encoder_ms": "T_vision_encoder",
    "projector_ms": "T_projector",
    "prefill_ms": "T_LLM_prefill",
    "decode_ms": "T_LLM_decode",
    "decode_per_token_ms": "T_decode_per_token",
    "total_ms": "T_total",
    "prediction": "pred_text",
}
"""The older key of each column that has one."""

Number = TypeVar("Number", float, NDArray[np.float64])


class ProfileError(ValueError):
    """A profile cannot be read, written or joined. The message names file, row, field, value and expectation."""


def lowest_total_ms(parts_ms: Number) -> Number:
    """Return the smallest total that is believed, given the sum of the measured parts."""
    return parts_ms * (1.0 - TOTAL_RELATIVE_SLACK) - TOTAL_ABSOLUTE_SLACK_MS


def _number_to_text(value: object) -> object:
    """Let an id be a JSON number: VQA question ids are."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(native: str) -> AliasChoices:
    return AliasChoices(native, LINEAGE_NAMES[native])


Identifier = Annotated[str, BeforeValidator(_number_to_text, json_schema_input_type=str | int)]
BlockIndices = Annotated[tuple[int, ...], Field(strict=False)]


class _Strict(BaseModel):
    """Text is not a number and true is not 1: a file that says so was written by mistake."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class AnswerRecord(_Strict):
    """What came of one request under one knob setting, whether it was timed or not.

    Required are the ids, the knobs and the token counts; everything else may be missing, and stays missing. Three
    columns are filled in: ``image_id`` is the ``sample_id`` when absent, ``run_id`` is 0 when absent, and
    ``decode_per_token_ms`` is always ``decode_ms / (output_tokens - 1)``, whatever the file says, since older files
    divide by ``output_tokens``; it is missing when only one token came out.
    """

    dataset: str | None = None
    split: str | None = None
    sample_id: Identifier = Field(min_length=1)
    image_id: Identifier = Field(default_factory=lambda data: data["sample_id"], min_length=1)
    question: str | None = None
    image_width: int | None = Field(default=None, ge=1)
    image_height: int | None = Field(default=None, ge=1)
    tier: str = Field(min_length=1)
    top_k: int = Field(ge=0, description="Experts per token; 0 for a dense model.")
    num_active_blocks: int = Field(ge=1)
    active_blocks: BlockIndices | None = Field(
        default=None, validation_alias=_names("active_blocks"), description="Sorted, distinct, not negative."
    )
    num_crops: int | None = Field(default=None, ge=0, description="Encoder input tiles, the overview included.")
    vision_tokens: int = Field(ge=0)
    text_tokens: int = Field(ge=0, description="Input ids that are not vision features.")
    output_tokens: int = Field(ge=1)
    preprocess_ms: float | None = Field(default=None, ge=0, validation_alias=_names("preprocess_ms"))
    vision_encoder_ms: float | None = Field(default=None, ge=0, validation_alias=_names("vision_encoder_ms"))
    projector_ms: float | None = Field(default=None, ge=0, validation_alias=_names("projector_ms"))
    prefill_ms: float | None = Field(default=None, ge=0, validation_alias=_names("prefill_ms"))
    decode_ms: float | None = Field(default=None, ge=0, validation_alias=_names("decode_ms"))
    decode_per_token_ms: float | None = Field(
        default=None, ge=0, validation_alias=_names("decode_per_token_ms"), validate_default=True
    )
    total_ms: float | None = Field(default=None, ge=0, validation_alias=_names("total_ms"))
    accuracy: float | None = Field(default=None, ge=0, description="In the unit of `metric`; CIDEr exceeds 1.")
    metric: str | None = None
    prediction: str | None = Field(default=None, validation_alias=_names("prediction"))
    run_id: int = Field(default=0, ge=0)
    seed: int | None = Field(default=None, ge=0)

    # The checks below read fields above their own, which are in `info.data` unless they were wrong themselves.

    @field_validator("active_blocks")
    @classmethod
    def _check_blocks(cls, blocks: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if blocks is None:
            return None
        if list(blocks) != sorted(set(blocks)) or min(blocks, default=0) < 0:
            raise ValueError("must be sorted, distinct and not negative")
        count = info.data.get("num_active_blocks", len(blocks))
        if len(blocks) != count:
            raise ValueError(f"must name num_active_blocks={count} blocks")
        return blocks

    @field_validator("decode_ms")
    @classmethod
    def _check_decode(cls, decode_ms: float | None, info: ValidationInfo) -> float | None:
        output_tokens = info.data.get("output_tokens", 1)
        if decode_ms == 0 and output_tokens > 1:
            raise ValueError(f"must be above 0 when output_tokens is {output_tokens}; only one token costs no decode")
        return decode_ms

    @field_validator("decode_per_token_ms")
    @classmethod
    def _fill_decode_per_token(cls, given_ms: float | None, info: ValidationInfo) -> float | None:
        if "decode_ms" not in info.data or "output_tokens" not in info.data:
            return given_ms
        decode_ms, steps = info.data["decode_ms"], info.data["output_tokens"] - 1
        return None if decode_ms is None or steps == 0 else float(decode_ms / steps)

    @field_validator("total_ms")
    @classmethod
    def _check_total(cls, total_ms: float | None, info: ValidationInfo) -> float | None:
        parts_ms = sum(info.data.get(name) or 0.0 for name in PART_NAMES)
        if total_ms is not None and total_ms < lowest_total_ms(parts_ms):
            raise ValueError(f"must not be below the sum of its parts, {parts_ms:.6g} ms")
        return total_ms


class ProfileRecord(AnswerRecord):
    """One measurement of one request under one knob setting.

    Beside what every answer has, the times of vision encoder, prefill and decode are required.
    """

    vision_encoder_ms: float = Field(
        ge=0,
        validation_alias=_names("vision_encoder_ms"),
        description="With a missing projector_ms: encoder and projector together.",
    )
    prefill_ms: float = Field(ge=0, validation_alias=_names("prefill_ms"))
    decode_ms: float = Field(
        ge=0, validation_alias=_names("decode_ms"), description="All steps after prefill; 0 only for one output token."
    )


class Environment(_Strict):
    """What a profile was measured on. A file without one gets all defaults, so its device is ``unknown``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    device: str = Field(default="unknown", min_length=1)
    driver: str | None = None
    cuda: str | None = Field(default=None, description="Missing when the device is not a GPU.")
    torch: str | None = None
    transformers: str | None = None
    python: str | None = None
    engine: Literal["eager", "compiled", "graph"] | None = None
    dtype: str | None = None
    num_threads: int | None = Field(default=None, ge=1)
    model: str | None = None
    model_shape: dict[str, JsonValue] | None = Field(default=None, description="Content of the model's config.json.")
    weights_digest: str | None = Field(default=None, description="Tells models of one shape apart, where known.")
    random_weights: bool = False
    router_skew: float | None = Field(default=None, ge=0)
    match_router_mass: bool = False
    experts_by_top_k: dict[str, JsonValue] | None = Field(
        default=None, description="What levels of top_k meant, where that was not the plain number, by level."
    )
    commit: str | None = None
    date: str | None = None


class ProfileFile(_Strict):
    """A JSON profile as this project writes it. JSON Lines holds the environment's object first, then the records."""

    environment: Environment = Environment()
    samples: list[ProfileRecord]


def export_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile file, native names only."""
    return ProfileFile.model_json_schema()


def write_json_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the JSON Schema to the committed file."""
    path.write_text(json.dumps(export_json_schema(), indent=2) + "\n", encoding="utf-8")
