"""A run of requests on disk, row by row: what has been answered once is not asked again."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from profiling.adaptive.request import Key
from profiling.adaptive.served import Served
from profiling.jsonl import drop_cut_line

_MAY_DIFFER: Final = ("date", "commit")  # a resumed run is another day's


class Journal:
    """Appends records to a file of JSON Lines whose first line says what run it is of.

    A file that is there is continued; a last line that a crash cut is dropped.

    Args:
        path: A ``.jsonl`` file; its folder is made.
        run: What the run is of: plain values, among them its environment.
        option: The command line's option that names another place, for messages.

    Raises:
        ValueError: If the file is of another run, or a line of it is broken.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, option: str) -> None:
        self.path = path
        self.served: dict[Key, Served] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            drop_cut_line(path)
        lines = path.read_text().splitlines() if path.exists() else []
        if lines:
            _check_same_run(_parsed(lines[0], path, 1), json.loads(json.dumps(run)), path, option)
        for number, line in enumerate(lines[1:], start=2):
            served = _served(_parsed(line, path, number), path, number)
            self.served[served.key] = served
        if not lines:
            self._append(dict(run))

    def write(self, served: Served) -> None:
        """Append a record and wait until it is on disk."""
        self._append(asdict(served))
        self.served[served.key] = served

    def _append(self, content: Mapping[str, Any]) -> None:
        # Opened for each row: a run that breaks off leaves no open file behind.
        with self.path.open("a") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as err:
        raise ValueError(f"{path}: line {number}: not JSON ({err}); remove the file or write to another place") from err
    if not isinstance(content, dict):
        raise ValueError(f"{path}: line {number}: expected an object, got {content!r}")
    return content


def _served(content: Mapping[str, Any], path: Path, number: int) -> Served:
    expected = {field.name for field in fields(Served)}
    if set(content) != expected:
        wrong = ", ".join(sorted(expected ^ set(content)))
        raise ValueError(f"{path}: line {number}: fields missing or unknown: {wrong}")
    return Served(**content)


def _check_same_run(found: Mapping[str, Any], run: Mapping[str, Any], path: Path, option: str) -> None:
    old, new = _flat(found), _flat(run)
    for name in new | old:  # first what this run says first
        if name.rpartition(".")[2] not in _MAY_DIFFER and old.get(name) != new.get(name):
            raise ValueError(
                f"{path}: {name}: the file is of a run with {old.get(name)!r} and this one has {new.get(name)!r}; "
                f"write to another place with {option}"
            )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested values by their path."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
