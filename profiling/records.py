"""Profile files: JSON, JSON Lines and Parquet, read into and written from a ``ProfileTable``."""

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from profiling.columns import COLUMNS
from profiling.files import written_whole
from profiling.formats import READERS, WRITERS
from profiling.rows import RowReader
from profiling.schema import LINEAGE_NAMES, AnswerRecord, ProfileError, ProfileRecord
from profiling.table import ProfileTable, concat


def read_profile(path: Path | str, *, strict: bool = True, record: type[AnswerRecord] = ProfileRecord) -> ProfileTable:
    """Read and check one file; its ending says the format.

    JSON is a list of rows, or an object with ``samples`` or ``results`` and perhaps ``environment``. JSON Lines may
    begin with a line ``{"environment": {...}}``. Parquet keeps the environment in the schema's metadata.

    Args:
        path: A ``.json``, ``.jsonl`` or ``.parquet`` file.
        strict: Raise at the first bad row. Otherwise skip bad rows and log how many and why.
        record: What a row must be: a ``ProfileRecord``, or an ``AnswerRecord``, which may lack its times.

    Raises:
        ProfileError: If the file is missing, empty, cut or no profile, or a row is bad and ``strict`` is set.
    """
    path = Path(path)
    if not path.exists():
        raise ProfileError(f"{path}: no such file")
    if path.is_dir():
        raise ProfileError(f"{path}: is a folder, expected a file ending in {', '.join(READERS)}")
    reader = READERS.get(path.suffix)
    if reader is None:
        raise ProfileError(f"{path}: file name must end in {', '.join(READERS)}, got {path.suffix!r}")
    if path.stat().st_size == 0:
        raise ProfileError(f"{path}: the file is empty")
    return reader(path, RowReader(path=path, strict=strict, record=record))


def read_profiles(
    paths: Sequence[Path | str] | Path | str = (),
    *,
    results_dir: Path | str | None = None,
    dataset_names: Sequence[str] = (),
    strict: bool = True,
    allow_mixed_devices: bool = False,
    record: type[AnswerRecord] = ProfileRecord,
) -> ProfileTable:
    """Read several files into one table.

    Args:
        paths: Files, folders (every profile in them) or glob patterns.
        results_dir: Folder of result files by dataset.
        dataset_names: Read ``<results_dir>/<name>.json`` (or .jsonl, .parquet), or every profile in the folder
            ``<results_dir>/<name>``. Rows without a dataset get the name.
        strict: See ``read_profile``.
        allow_mixed_devices: Join files of different devices, told apart by the ``device`` column.
        record: See ``read_profile``.

    Raises:
        ProfileError: If a file is bad, nothing is found, or devices are mixed without leave.
    """
    if (results_dir is None) != (not dataset_names):
        raise ProfileError("results_dir and dataset_names: give both or neither")
    datasets_by_file: dict[Path, str | None] = dict.fromkeys(find_profiles(paths))
    if results_dir is not None:
        for name in dataset_names:
            datasets_by_file |= dict.fromkeys(_find_dataset(Path(results_dir), name), name)
    if not datasets_by_file:
        raise ProfileError("no profile to read: give paths, or results_dir and dataset_names")
    tables = []
    for file, dataset in datasets_by_file.items():
        table = read_profile(file, strict=strict, record=record)
        tables.append(table if dataset is None else _with_dataset(table, dataset))
    return concat(tables, names=[str(file) for file in datasets_by_file], allow_mixed_devices=allow_mixed_devices)


def find_profiles(paths: Sequence[Path | str] | Path | str) -> list[Path]:
    """Return the files that files, folders and glob patterns name, each once.

    Raises:
        ProfileError: If a pattern matches nothing.
    """
    patterns = [paths] if isinstance(paths, str | Path) else paths
    return list(dict.fromkeys(file for pattern in patterns for file in _find(Path(pattern))))


def write_profile(table: ProfileTable, path: Path | str, *, lineage_names: bool = False) -> None:
    """Write one device's table; the file appears whole or not at all.

    Args:
        table: What to write.
        path: A ``.json``, ``.jsonl`` or ``.parquet`` file; replaced if it exists.
        lineage_names: Use the older ``T_*`` keys where a column has one.

    Raises:
        ProfileError: If the ending is unknown, the folder missing, or the table mixes devices.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix)
    if writer is None:
        raise ProfileError(f"{path}: file name must end in {', '.join(WRITERS)}, got {path.suffix!r}")
    if not path.parent.is_dir():
        raise ProfileError(f"{path}: the folder {path.parent} does not exist")
    environment = table.environment
    columns = table.columns.select(list(COLUMNS))
    if lineage_names:
        columns = columns.rename_columns([LINEAGE_NAMES.get(name, name) for name in columns.column_names])
    with written_whole(path) as partial:
        writer(columns, environment, partial)


def _find(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        return _in_folder(pattern)
    if pattern.exists() or not glob.has_magic(str(pattern)):
        return [pattern]
    split = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    found = sorted(Path(*pattern.parts[:split]).glob(str(Path(*pattern.parts[split:]))))
    if not found:
        raise ProfileError(f"{pattern}: no file matches the pattern")
    return found


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if file.suffix in READERS)
    if not found:
        raise ProfileError(f"{folder}: the folder holds no file ending in {', '.join(READERS)}")
    return found


def _find_dataset(results_dir: Path, name: str) -> list[Path]:
    if not results_dir.is_dir():
        raise ProfileError(f"{results_dir}: no such folder (results_dir)")
    folder = results_dir / name
    files = [file for suffix in READERS if (file := results_dir / f"{name}{suffix}").is_file()]
    if len(files) + folder.is_dir() != 1:
        kinds = f"{name}{{{','.join(READERS)}}}"
        found = ", ".join(str(file) for file in files) or "nothing"
        raise ProfileError(f"{results_dir}: dataset {name!r}: expected one file {kinds} or a folder, found {found}")
    return files or _in_folder(folder)


def _with_dataset(table: ProfileTable, name: str) -> ProfileTable:
    index = table.columns.column_names.index("dataset")
    values = pc.fill_null(table.columns["dataset"], name)
    return replace(table, columns=table.columns.set_column(index, table.columns.schema.field(index), values))
