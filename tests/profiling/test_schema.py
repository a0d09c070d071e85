import json
from typing import Any

import pytest
from pydantic import ValidationError

from profiling.rows import explain
from profiling.schema import (
    LINEAGE_NAMES,
    SCHEMA_FILE,
    Environment,
    ProfileRecord,
    export_json_schema,
    lowest_total_ms,
)
from tests.profile_rows import legal_row


def error_of(raw: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        ProfileRecord.model_validate(raw)
    return explain(caught.value)[0]


def test_the_smallest_legal_row_is_filled_where_documented() -> None:
    record = ProfileRecord.model_validate(legal_row())
    assert record.image_id == "q1"
    assert record.run_id == 0
    assert record.decode_per_token_ms == 2.0
    assert record.projector_ms is None
    assert record.total_ms is None


def test_older_names_and_native_names_give_the_same_record() -> None:
    native = legal_row(
        active_blocks=[0, 3],
        preprocess_ms=1.0,
        projector_ms=0.5,
        decode_per_token_ms=2.0,
        total_ms=21.6,
        prediction="two",
    )
    older = {LINEAGE_NAMES.get(name, name): value for name, value in native.items()}
    assert set(LINEAGE_NAMES.values()) <= set(older)
    assert ProfileRecord.model_validate(older) == ProfileRecord.model_validate(native)


def test_a_field_under_both_names_is_refused() -> None:
    assert "T_LLM_prefill: unknown field" in error_of(legal_row(T_LLM_prefill=10.0))


def test_one_output_token_costs_no_decode_and_has_no_time_per_token() -> None:
    record = ProfileRecord.model_validate(legal_row(output_tokens=1, decode_ms=0, decode_per_token_ms=0.0))
    assert record.decode_ms == 0.0
    assert record.decode_per_token_ms is None


def test_time_per_token_divides_by_the_steps_whatever_the_file_says() -> None:
    assert ProfileRecord.model_validate(legal_row(T_decode_per_token=8.0 / 5)).decode_per_token_ms == 2.0


def test_ids_may_be_whole_numbers() -> None:
    record = ProfileRecord.model_validate(legal_row(sample_id=262148000, image_id=262148))
    assert (record.sample_id, record.image_id) == ("262148000", "262148")


def test_a_total_may_fall_short_of_its_parts_by_the_slack_only() -> None:
    parts_ms = 21.0
    assert lowest_total_ms(parts_ms) == pytest.approx(20.74)
    assert ProfileRecord.model_validate(legal_row(total_ms=20.75)).total_ms == 20.75
    assert error_of(legal_row(total_ms=20.73)) == "total_ms: must not be below the sum of its parts, 21 ms, got 20.73"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefill_ms": -1.0}, "prefill_ms: Input should be greater than or equal to 0, got -1.0"),
        ({"prefill_ms": float("nan")}, "prefill_ms: Input should be a finite number, got nan"),
        ({"prefill_ms": float("inf")}, "prefill_ms: Input should be a finite number, got inf"),
        ({"prefill_ms": "12"}, "prefill_ms: Input should be a valid number, got '12'"),
        ({"prefill_ms": True}, "prefill_ms: Input should be a valid number, got True"),
        ({"top_k": True}, "top_k: Input should be a valid integer, got True"),
        ({"top_k": "8"}, "top_k: Input should be a valid integer, got '8'"),
        ({"top_k": 8.0}, "top_k: Input should be a valid integer, got 8.0"),
        ({"sample_id": True}, "sample_id: Input should be a valid string, got True"),
        ({"tier": ""}, "tier: String should have at least 1 character, got ''"),
        ({"output_tokens": 0}, "output_tokens: Input should be greater than or equal to 1, got 0"),
        ({"prefil_ms": 1.0}, "prefil_ms: unknown field, did you mean 'prefill_ms'?, got 1.0"),
        (
            {"decode_ms": 0.0},
            "decode_ms: must be above 0 when output_tokens is 5; only one token costs no decode, got 0",
        ),
        ({"active_blocks": [0]}, "active_blocks: must name num_active_blocks=2 blocks, got [0]"),
        ({"active_blocks": [3, 1]}, "active_blocks: must be sorted, distinct and not negative, got [3, 1]"),
        ({"active_blocks": [1, 1]}, "active_blocks: must be sorted, distinct and not negative, got [1, 1]"),
        ({"active_blocks": [-1, 1]}, "active_blocks: must be sorted, distinct and not negative, got [-1, 1]"),
        ({"active_blocks": [True, 2]}, "active_blocks[0]: Input should be a valid integer, got True"),
        ({"prefill_ms": -1.0, "top_k": -1}, "top_k: Input should be greater than or equal to 0, got -1 (and 1 more)"),
    ],
)
def test_a_bad_field_is_named_with_value_and_expectation(changes: dict[str, Any], message: str) -> None:
    assert error_of(legal_row(**changes)).startswith(message)


@pytest.mark.parametrize("field", legal_row())
def test_every_field_of_the_smallest_row_is_required(field: str) -> None:
    raw = legal_row()
    del raw[field]
    assert error_of(raw) == f"{field}: required field is missing"


def test_an_environment_refuses_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="gpu_name"):
        Environment.model_validate({"gpu_name": "H200"})


def test_the_committed_json_schema_is_current() -> None:
    committed = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert committed == export_json_schema(), (
        'rewrite it: python -c "from profiling.schema import write_json_schema; write_json_schema()"'
    )
