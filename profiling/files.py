"""Files that appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file and rename it to the file's once it has been written.

    If the block fails, a file that was there before stays as it was. The temporary name ends as the file's does,
    because writers choose their format by it.

    Raises:
        OSError: If the folder is missing or cannot be written.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file for people to read.

    Raises:
        OSError: If the folder is missing or cannot be written.
        ValueError: If a number is not finite.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with written_whole(path) as partial:
        partial.write_text(text + "\n")


def switched_on(settings: Any) -> Any:
    """Leave out what is off or null, so that a run goes on as before when an option was added meanwhile."""
    if not isinstance(settings, dict):
        return settings
    return {name: switched_on(value) for name, value in settings.items() if value is not None and value is not False}
