"""Measuring into JSON Lines: every row is on disk before the next is measured, so a crash loses one row."""

import fcntl
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from profiling.formats import environment_line, parse_lines
from profiling.rows import RowReader, read_environment
from profiling.schema import Environment, ProfileError, ProfileRecord

_log = logging.getLogger(__name__)

# A resumed run is another day's, perhaps after a commit that touched something else.
_MAY_DIFFER: Final = {"date", "commit"}


class JsonlWriter:
    """Appends records to a profile, one line each.

    A new file begins with the environment. An existing one is continued: what follows its last line feed was cut by a
    crash and is dropped.

    Args:
        path: A ``.jsonl`` file in an existing folder.
        environment: Where the records are measured.

    Raises:
        ProfileError: If the file was measured in another environment, is no profile, or is being written to.
    """

    def __init__(self, path: Path | str, environment: Environment) -> None:
        self.path = Path(path)
        if self.path.suffix != ".jsonl":
            raise ProfileError(f"{path}: file name must end in .jsonl, got {self.path.suffix!r}")
        if not self.path.parent.is_dir():
            raise ProfileError(f"{path}: the folder {self.path.parent} does not exist")
        whole_bytes = _whole_bytes(self.path)
        if whole_bytes:
            _check_same_environment(self.path, environment)
        self._file = self.path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            self._file.close()
            raise ProfileError(f"{path}: another run is writing to this file; wait for it or stop it") from err
        drop_cut_line(self.path)
        if not whole_bytes:
            self._append(environment_line(environment))

    def write(self, record: ProfileRecord) -> None:
        """Append a record and wait until it is on disk."""
        self._append(json.dumps(record.model_dump(exclude_none=True), allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: str) -> None:
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def existing_keys(path: Path | str, fields: Sequence[str]) -> set[tuple[object, ...]]:
    """Return what a run has already measured, to resume it; nothing when the file does not exist.

    A last line that was cut does not count.

    Args:
        path: A ``.jsonl`` file.
        fields: Columns that together name a measurement.

    Raises:
        ProfileError: If the file is no profile, or a whole line of it is bad.
    """
    path = Path(path)
    if not path.exists():
        return set()
    whole_lines = path.read_bytes()[: _whole_bytes(path)].splitlines(keepends=True)
    records, _ = parse_lines(whole_lines, RowReader(path=path, strict=True))
    return {tuple(getattr(record, field) for field in fields) for record in records}


def drop_cut_line(path: Path) -> None:
    """Drop what follows the last line feed of an existing file: a crash cut it."""
    whole_bytes = _whole_bytes(path)
    if path.stat().st_size > whole_bytes:
        _log.warning("%s: dropped the last line, which was cut", path)
        os.truncate(path, whole_bytes)


def _whole_bytes(path: Path) -> int:
    """Count the bytes up to and with the last line feed."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def _check_same_environment(path: Path, environment: Environment) -> None:
    with path.open("rb") as file:
        line = file.readline()
    try:
        content = json.loads(line)
    except ValueError as err:
        raise ProfileError(f"{path}: line 1: not JSON ({err}); it will not be appended to") from err
    if not isinstance(content, dict) or set(content) != {"environment"}:
        raise ProfileError(f"{path}: line 1: expected the environment, so that new rows can be told from old")
    found = read_environment(content["environment"], path)
    for field in Environment.model_fields:
        old, new = getattr(found, field), getattr(environment, field)
        if old == new:
            continue
        if field not in _MAY_DIFFER:
            raise ProfileError(
                f"{path}: environment: {field}: the file was measured with {old!r} and this run has {new!r}; "
                "write to another file"
            )
        if field == "commit":
            _log.warning("%s: continuing a run of commit %s with commit %s", path, old, new)
