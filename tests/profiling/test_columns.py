from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from profiling.columns import ARROW_SCHEMA, COLUMNS, filled, native_columns, suspect_rows
from profiling.schema import LINEAGE_NAMES, AnswerRecord, ProfileRecord
from tests.profile_rows import legal_row

LEGAL_ROW = legal_row(output_tokens=2, decode_ms=2.0)
VALUES: dict[str, list[Any]] = {
    "sample_id": ["", None],
    "image_id": ["", "i1"],
    "tier": ["", None],
    "top_k": [-1, 0],
    "num_active_blocks": [0, 1, 3],
    "active_blocks": [[], [0], [0, 3], [3, 0], [1, 1], [-1, 2]],
    "vision_tokens": [0, -1, None],
    "output_tokens": [0, 1],
    "vision_encoder_ms": [-1.0, 0.0, float("nan"), None],
    "projector_ms": [-1.0, 0.5],
    "decode_ms": [0.0, -2.0, float("inf"), None],
    "decode_per_token_ms": [-1.0, 0.0, 2.0],
    "total_ms": [-1.0, 13.0, 14.8, 15.0, 15.3, 20.0, float("nan")],
    "accuracy": [-0.1, 0.0, 1.3],
    "run_id": [-1, 3],
}
CHANGES = [(name, value) for name, values in VALUES.items() for value in values]
ROWS = st.lists(st.sampled_from(CHANGES), max_size=3).map(lambda changes: LEGAL_ROW | dict(changes))


def is_legal(row: dict[str, Any], record: type[AnswerRecord]) -> bool:
    try:
        record.model_validate({name: value for name, value in row.items() if value is not None})
    except ValidationError:
        return False
    return True


@given(st.lists(ROWS, min_size=1, max_size=12), st.sampled_from([ProfileRecord, AnswerRecord]))
@settings(max_examples=400, deadline=None)
def test_whole_columns_and_single_records_agree_on_what_is_legal(
    rows: list[dict[str, Any]], record: type[AnswerRecord]
) -> None:
    table = pa.Table.from_pylist(rows, schema=ARROW_SCHEMA)
    assert suspect_rows(table, record).tolist() == [not is_legal(row, record) for row in rows]


def test_block_rules_hold_across_chunks() -> None:
    rows = [{"num_active_blocks": 2, "active_blocks": blocks} for blocks in ([0, 1], [1, 0], [0, 1], [2, 2])]
    chunks = [pa.Table.from_pylist([LEGAL_ROW | row], schema=ARROW_SCHEMA) for row in rows]
    assert suspect_rows(pa.concat_tables(chunks)).tolist() == [False, True, False, True]


def test_limits_come_from_the_record_model() -> None:
    assert COLUMNS["output_tokens"].lowest == 1
    assert COLUMNS["run_id"].default == 0
    assert COLUMNS["tier"].has_text
    assert COLUMNS["active_blocks"].arrow_type == pa.list_(pa.int32())


def test_filling_matches_the_record_model() -> None:
    rows: list[dict[str, Any]] = [
        {"sample_id": "a", "output_tokens": 5, "decode_ms": 8.0, "decode_per_token_ms": 9.0},
        {"sample_id": "b", "image_id": "i", "output_tokens": 1, "decode_ms": 0.0, "run_id": 2},
    ]
    table = filled(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA))
    assert table["image_id"].to_pylist() == ["a", "i"]
    assert table["run_id"].to_pylist() == [0, 2]
    assert table["decode_per_token_ms"].to_pylist() == [2.0, None]
    assert table.schema == ARROW_SCHEMA


def test_older_names_whole_floats_and_number_ids_are_read() -> None:
    raw = pa.table(
        {
            LINEAGE_NAMES["prefill_ms"]: pa.array([1, 2]),
            "num_crops": pa.array([13.0, None]),
            "sample_id": pa.array([5, 6]),
            "tier": pa.array(["low", "low"]).dictionary_encode(),
        }
    )
    table = native_columns(raw)
    assert table.schema == ARROW_SCHEMA
    assert table["prefill_ms"].to_pylist() == [1.0, 2.0]
    assert table["num_crops"].to_pylist() == [13, None]
    assert table["sample_id"].to_pylist() == ["5", "6"]
    assert table["tier"].to_pylist() == ["low", "low"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"prefil": [1.0]}, "column 'prefil': unknown, a profile has dataset, split"),
        ({"prefill_ms": [1.0], "T_LLM_prefill": [1.0]}, "column 'prefill_ms': given twice"),
        ({"prefill_ms": ["12"]}, "column 'prefill_ms': expected numbers, got values of type string"),
        ({"top_k": [True]}, "column 'top_k': expected whole numbers, got values of type bool"),
        ({"top_k": [1.5]}, "column 'top_k': .*1.5"),
        ({"tier": [1]}, "column 'tier': expected text, got values of type int64"),
        ({"active_blocks": [1]}, "column 'active_blocks': expected lists of whole numbers, got values of type int64"),
    ],
)
def test_columns_of_another_kind_are_refused(raw: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native_columns(pa.table(raw))


def test_a_large_file_is_marked_row_by_row() -> None:
    times_ms = np.ones(1000)
    times_ms[[3, 998]] = [np.nan, -0.5]
    ones = pa.array(np.ones(1000, dtype=np.int64))
    text = pa.array(["x"] * 1000)
    raw = dict.fromkeys(("top_k", "num_active_blocks", "vision_tokens", "text_tokens", "output_tokens"), ones)
    raw |= {"sample_id": text, "tier": text, "vision_encoder_ms": pa.array(times_ms), "prefill_ms": ones}
    table = native_columns(pa.table(raw | {"decode_ms": ones}))
    assert np.flatnonzero(suspect_rows(table)).tolist() == [3, 998]
