"""The schema as columns: Arrow types, and the same limits checked on whole columns at once.

Everything here is derived from ``ProfileRecord``, so that a limit is written once. The checks only point at suspect
rows; the record model decides about those and words the error.
"""

from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic.fields import FieldInfo

from profiling.schema import LINEAGE_NAMES, PART_NAMES, AnswerRecord, ProfileError, ProfileRecord, lowest_total_ms

_ARROW_TYPES: Final = {int: pa.int64(), float: pa.float64(), str: pa.string()}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a profile table.

    Args:
        name: Native name.
        arrow_type: Type in memory and in Parquet.
        default: What an absent value becomes; None leaves it absent.
        lowest: Smallest legal number.
        has_text: Whether an empty text is illegal.
    """

    name: str
    arrow_type: pa.DataType
    default: int | None
    lowest: float | None
    has_text: bool


def _column(name: str, field: FieldInfo) -> Column:
    choices = [choice for choice in get_args(field.annotation) if choice is not type(None)]
    plain: Any = choices[0] if type(None) in get_args(field.annotation) else field.annotation
    lowest = [limit.ge for limit in field.metadata if hasattr(limit, "ge")]
    return Column(
        name=name,
        arrow_type=_ARROW_TYPES.get(plain, pa.list_(pa.int32())),
        default=field.default if isinstance(field.default, int) else None,
        lowest=lowest[0] if lowest else None,
        has_text=any(hasattr(limit, "min_length") for limit in field.metadata),
    )


COLUMNS: Final = {name: _column(name, field) for name, field in ProfileRecord.model_fields.items()}
ARROW_SCHEMA: Final = pa.schema([pa.field(column.name, column.arrow_type) for column in COLUMNS.values()])


def native_columns(raw: pa.Table) -> pa.Table:
    """Rename, order and cast the columns of a Parquet file; columns that the file lacks are all null.

    Whole numbers may be stored as floating point, as pandas does for columns with gaps, and ids as integers.

    Raises:
        ProfileError: If a column is unknown, given twice or of another kind; the message starts with the column.
    """
    native_by_alias = {alias: name for name, alias in LINEAGE_NAMES.items()}
    renamed = raw.rename_columns([native_by_alias.get(name, name) for name in raw.column_names])
    for name in renamed.column_names:
        if name not in COLUMNS:
            raise ProfileError(f"column {name!r}: unknown, a profile has {', '.join(COLUMNS)}")
        if renamed.column_names.count(name) > 1:
            raise ProfileError(f"column {name!r}: given twice, under its native and its older name")
    return pa.table(
        [
            _cast(renamed[name], column) if name in renamed.column_names else pa.nulls(len(raw), column.arrow_type)
            for name, column in COLUMNS.items()
        ],
        schema=ARROW_SCHEMA,
    )


def filled(table: pa.Table) -> pa.Table:
    """Fill the columns that the record model fills: image_id, run_id and decode_per_token_ms."""
    for index, column in enumerate(COLUMNS.values()):
        if column.default is not None:
            table = table.set_column(index, ARROW_SCHEMA.field(index), pc.fill_null(table[index], column.default))
    image_id = pc.coalesce(table["image_id"], table["sample_id"])
    steps = pc.subtract(table["output_tokens"], 1)
    steps = pc.if_else(pc.greater(steps, 0), steps, None)
    per_token_ms = pc.divide(table["decode_ms"], pc.cast(steps, pa.float64()))
    for name, values in (("image_id", image_id), ("decode_per_token_ms", per_token_ms)):
        index = table.column_names.index(name)
        table = table.set_column(index, ARROW_SCHEMA.field(index), values)
    return table


def suspect_rows(table: pa.Table, record: type[AnswerRecord] = ProfileRecord) -> NDArray[np.bool_]:
    """Mark the rows of a native table that break a limit of the record model."""
    suspects = np.zeros(len(table), dtype=np.bool_)
    for column in COLUMNS.values():
        is_required = record.model_fields[column.name].is_required()
        suspects |= _breaks_own_limits(table[column.name], column, is_required=is_required)
    suspects |= _is_true(
        pc.and_(pc.equal(table["decode_ms"], 0.0), pc.greater(table["output_tokens"], 1)),
    )
    parts_ms = np.sum([_floats(table[name], absent=0.0) for name in PART_NAMES], axis=0)
    suspects |= _floats(table["total_ms"], absent=np.inf) < lowest_total_ms(parts_ms)
    return suspects | _breaks_block_rules(table)


def _breaks_own_limits(values: pa.ChunkedArray, column: Column, *, is_required: bool) -> NDArray[np.bool_]:
    broken = np.zeros(len(values), dtype=np.bool_)
    if is_required and values.null_count:
        broken |= _is_true(pc.is_null(values))
    if pa.types.is_floating(column.arrow_type):
        broken |= _is_true(pc.invert(pc.is_finite(values)))
    if column.lowest is not None:
        broken |= _is_true(pc.less(values, column.lowest))
    if column.has_text:
        broken |= _is_true(pc.equal(values, ""))
    return broken


def _breaks_block_rules(table: pa.Table) -> NDArray[np.bool_]:
    blocks = table["active_blocks"].combine_chunks()
    if blocks.null_count == len(blocks):
        return np.zeros(len(blocks), dtype=np.bool_)
    lengths = pc.list_value_length(blocks)
    broken = _is_true(pc.not_equal(lengths, table["num_active_blocks"]))
    owner = pc.list_parent_indices(blocks).to_numpy()
    flat = pc.fill_null(pc.list_flatten(blocks), -1).to_numpy()
    broken[owner[flat < 0]] = True
    falls = (flat[1:] <= flat[:-1]) & (owner[1:] == owner[:-1])
    broken[owner[1:][falls]] = True
    return broken


def _is_true(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Read a boolean column; null counts as false."""
    return np.asarray(pc.fill_null(values, False).to_numpy(), dtype=np.bool_)


def _floats(values: pa.ChunkedArray, *, absent: float) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(values, absent).to_numpy(), dtype=np.float64)


def _cast(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    if values.type == column.arrow_type or pa.types.is_null(values.type):
        return values.cast(column.arrow_type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not _is_convertible(values.type, column):
        expected = {pa.int64(): "whole numbers", pa.float64(): "numbers", pa.string(): "text"}
        kind = expected.get(column.arrow_type, "lists of whole numbers")
        raise ProfileError(f"column {column.name!r}: expected {kind}, got values of type {values.type}")
    try:
        return values.cast(column.arrow_type)
    except pa.ArrowInvalid as err:
        raise ProfileError(f"column {column.name!r}: {err}") from err


def _is_convertible(given: pa.DataType, column: Column) -> bool:
    is_number = pa.types.is_integer(given) or pa.types.is_floating(given)
    is_text = pa.types.is_string(given) or pa.types.is_large_string(given)
    if pa.types.is_string(column.arrow_type):
        return is_text or (column.name in ("sample_id", "image_id") and pa.types.is_integer(given))
    if pa.types.is_list(column.arrow_type):
        is_list = pa.types.is_list(given) or pa.types.is_large_list(given)
        return bool(is_list and pa.types.is_integer(given.value_type))
    return bool(is_number)
