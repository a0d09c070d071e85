"""The folder that holds the datasets."""

import os
from pathlib import Path
from typing import Final

from profiling.datasets.official import DatasetError

ROOT_VARIABLE: Final = "MOLMO_DATA_DIR"


def find_root(root: Path | str | None = None) -> Path:
    """Return the folder that holds one folder for each dataset.

    Args:
        root: The folder; ``None`` takes the environment variable ``MOLMO_DATA_DIR``.

    Raises:
        DatasetError: If neither names a folder.
    """
    given = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not given:
        raise DatasetError(
            f"root: no folder of datasets is named; give root or set {ROOT_VARIABLE} (docs/datasets.md shows the tree)"
        )
    folder = Path(given)
    if not folder.is_dir():
        source = "root" if root is not None else ROOT_VARIABLE
        raise DatasetError(f"{source}: expected the folder that holds the datasets, found no folder {given}")
    return folder
