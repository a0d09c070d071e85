"""The three layouts of a profile file on disk: JSON, JSON Lines, Parquet."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from profiling.columns import filled, native_columns, suspect_rows
from profiling.rows import RowReader, read_environment
from profiling.schema import AnswerRecord, Environment, ProfileError
from profiling.table import ProfileTable

_RECORD_KEYS: Final = ("samples", "results")
_ENVIRONMENT: Final = "environment"


def _read_json(path: Path, rows: RowReader) -> ProfileTable:
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as err:
        is_cut = err.msg.startswith("Unterminated") or not err.doc[err.pos :].strip()
        cut = ", the file may be cut short" if is_cut else ""
        raise ProfileError(f"{path}: line {err.lineno}, column {err.colno}: not JSON: {err.msg}{cut}") from err
    except UnicodeDecodeError as err:
        raise ProfileError(f"{path}: byte {err.start}: not UTF-8 text") from err
    key, raw_rows, environment = "records", content, Environment()
    if isinstance(content, Mapping):
        key, raw_rows, environment = _open_object(content, path)
    if not isinstance(raw_rows, list):
        raise ProfileError(f"{path}: {key}: expected a list of records, got {type(raw_rows).__name__}")
    records = [record for i, row in enumerate(raw_rows) for record in rows.records(row, f"{key}[{i}]")]
    return _finish(records, environment, rows)


def _open_object(content: Mapping[str, object], path: Path) -> tuple[str, object, Environment]:
    keys = [key for key in _RECORD_KEYS if key in content]
    if len(keys) != 1:
        raise ProfileError(
            f"{path}: expected a list of records or an object with one of {', '.join(_RECORD_KEYS)}, "
            f"got an object with {', '.join(content) or 'no keys'}"
        )
    unknown = sorted(set(content) - {*_RECORD_KEYS, _ENVIRONMENT})
    if unknown:
        raise ProfileError(f"{path}: {unknown[0]}: unknown key, expected {keys[0]} and {_ENVIRONMENT}")
    return keys[0], content[keys[0]], read_environment(content.get(_ENVIRONMENT, {}), path)


def _read_jsonl(path: Path, rows: RowReader) -> ProfileTable:
    with path.open("rb") as file:
        records, environment = parse_lines(file, rows)
    return _finish(records, environment, rows)


def parse_lines(lines: Iterable[bytes], rows: RowReader) -> tuple[list[AnswerRecord], Environment]:
    """Read the lines of a JSON Lines profile.

    Raises:
        ProfileError: If the environment is wrong, or a line is and the reader is strict.
    """
    environment = Environment()
    records: list[AnswerRecord] = []
    for number, line in enumerate(lines, start=1):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            # A broken line without its line feed is where a writer stopped.
            wrong = "not JSON" if line.endswith(b"\n") else "cut short, the file's last line is incomplete"
            rows.reject(where, f"{wrong} ({err})", wrong)
            continue
        if number == 1 and isinstance(row, Mapping) and set(row) == {_ENVIRONMENT}:
            environment = read_environment(row[_ENVIRONMENT], rows.path)
        else:
            records += rows.records(row, where)
    return records, environment


def _finish(records: list[AnswerRecord], environment: Environment, rows: RowReader) -> ProfileTable:
    rows.finish(len(records))
    try:
        return ProfileTable.from_records(records, environment)
    except (OverflowError, pa.ArrowInvalid) as err:
        raise ProfileError(f"{rows.path}: a whole number is too large: {err}") from err


def _read_parquet(path: Path, rows: RowReader) -> ProfileTable:
    try:
        raw = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise ProfileError(f"{path}: not a Parquet file, or cut short: {err}") from err
    metadata = raw.schema.metadata or {}
    try:
        raw_environment = json.loads(metadata.get(_ENVIRONMENT.encode(), b"{}"))
    except ValueError as err:
        raise ProfileError(f"{path}: environment: the file's metadata is not JSON: {err}") from err
    environment = read_environment(raw_environment, path)
    try:
        columns = native_columns(raw)
    except ProfileError as err:
        raise ProfileError(f"{path}: {err}") from err
    suspects = np.flatnonzero(suspect_rows(columns, rows.record))
    bad = [index for index in suspects if not rows.records(columns.slice(index, 1).to_pylist()[0], f"records[{index}]")]
    if bad:
        columns = columns.take(pa.array(np.setdiff1d(np.arange(len(columns)), bad)))
    rows.finish(len(columns))
    return ProfileTable.from_columns(filled(columns), environment)


def _json_rows(columns: pa.Table) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if value is not None} for row in columns.to_pylist()]


def _write_json(columns: pa.Table, environment: Environment, path: Path) -> None:
    content = {_ENVIRONMENT: environment.model_dump(exclude_none=True), "samples": _json_rows(columns)}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_jsonl(columns: pa.Table, environment: Environment, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(environment_line(environment))
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in _json_rows(columns))


def _write_parquet(columns: pa.Table, environment: Environment, path: Path) -> None:
    metadata = {_ENVIRONMENT: environment.model_dump_json(exclude_none=True)}
    times = [field.name for field in columns.schema if pa.types.is_floating(field.type)]
    pq.write_table(
        columns.replace_schema_metadata(metadata),
        path,
        compression="zstd",
        compression_level=9,
        # Times hardly repeat, but their leading bytes do: apart from the others they take a quarter less room.
        use_dictionary=[name for name in columns.column_names if name not in times],
        column_encoding=dict.fromkeys(times, "BYTE_STREAM_SPLIT"),
    )


def environment_line(environment: Environment) -> str:
    """Return the first line of a JSON Lines profile."""
    return json.dumps({_ENVIRONMENT: environment.model_dump(exclude_none=True)}) + "\n"


READERS: Final[Mapping[str, Callable[[Path, RowReader], ProfileTable]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
WRITERS: Final[Mapping[str, Callable[[pa.Table, Environment, Path], None]]] = {
    ".json": _write_json,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
