"""The ``convert-profile`` command: from one profile format to another."""

from pathlib import Path

import numpy as np
from rich.console import Console

from profiling.records import read_profile, write_profile


def convert_profile(
    source: Path,
    target: Path,
    *,
    num_rows: int | None = None,
    lineage_names: bool = False,
    strict: bool = True,
) -> None:
    """Write a profile in another format, all of it or rows spread evenly over it.

    Args:
        source: A profile: .json, .jsonl or .parquet.
        target: New file; its ending says the format.
        num_rows: How many rows to keep; all if null.
        lineage_names: Write the older ``T_*`` keys instead of the native names.
        strict: Stop at the first bad row; otherwise skip bad rows and say how many and why.
    """
    if target.exists():
        raise ValueError(f"target: {target} exists already; choose another file")
    table = read_profile(source, strict=strict)
    if num_rows is not None:
        if not 1 <= num_rows <= len(table):
            raise ValueError(f"num_rows: must be 1 to {len(table)}, the rows of {source}, got {num_rows}")
        table = table.take(np.linspace(0, len(table) - 1, num_rows).round().astype(np.int64))
    write_profile(table, target, lineage_names=lineage_names)
    Console().print(f"wrote {len(table)} rows to {target}")
