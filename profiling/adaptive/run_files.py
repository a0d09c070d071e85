"""What a finished run of requests leaves in its folder, and what is read from there again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter, ValidationError

from profiling.adaptive.served import Served
from profiling.checked_file import read_checked
from profiling.files import written_whole
from profiling.rows import explain

REQUESTS: Final = "requests.parquet"
TOTALS: Final = "totals.json"
_ROWS: Final = TypeAdapter(list[Served])
_WRITTEN_BY: Final = "`test` of adaptive inference writes it when all requests are answered"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A finished run.

    Args:
        name: What tables call it.
        policy: What answered.
        subject: Which model, engine and device.
        rows: What came of each request.
    """

    name: str
    policy: str
    subject: str
    rows: Sequence[Served]


class _Made(BaseModel, frozen=True):
    """What the totals say of the run besides numbers."""

    policy: str
    subject: str


def write_rows(rows: Sequence[Served], path: Path) -> None:
    """Write a row for each request as Parquet."""
    with written_whole(path) as partial:
        pd.DataFrame([asdict(row) for row in rows]).to_parquet(partial, index=False)


def read_run(folder: Path, *, name: str) -> Run:
    """Read the folder of a finished run.

    Args:
        folder: Holds ``requests.parquet`` and ``totals.json``.
        name: What tables call it.

    Raises:
        ValueError: If a file is missing or damaged, or there is no request.
    """
    rows = read_rows(folder / REQUESTS)
    made = read_checked(folder / TOTALS, _Made, error=ValueError, written_by=_WRITTEN_BY)
    return Run(name=name, policy=made.policy, subject=made.subject, rows=rows)


def read_rows(path: Path) -> list[Served]:
    """Read what ``write_rows`` wrote.

    Raises:
        ValueError: If the file is missing, no Parquet or empty, or lacks a column or a value.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {_WRITTEN_BY}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise ValueError(f"{path}: not a Parquet file, or cut short: {err}") from err
    names = [field.name for field in fields(Served)]
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: lacks the columns {', '.join(missing)}")
    if len(table) == 0:
        raise ValueError(f"{path}: holds no request")
    try:
        return _ROWS.validate_python(table.select(names).to_pylist())
    except ValidationError as err:
        raise ValueError(f"{path}: rows{explain(err)[0]}") from err
