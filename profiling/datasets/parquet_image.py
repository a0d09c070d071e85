"""An image in a column of a Parquet file, as Hugging Face writes it."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from profiling.datasets.sample import decode_rgb


@dataclass(frozen=True, kw_only=True)
class ParquetImage:
    """An image that is read from its row group when it is opened.

    Args:
        path: The file.
        row_group: Number of the row group.
        row: Row within the row group.
        column: Name of a column of structs with the encoded image in ``bytes``.
    """

    path: Path
    row_group: int
    row: int
    column: str

    def open(self) -> Image.Image:
        """See ``ImageSource``."""
        name = f"{self.path}: row group {self.row_group}, row {self.row}: {self.column}"
        try:
            with pq.ParquetFile(self.path) as file:
                column = file.read_row_group(self.row_group, columns=[f"{self.column}.bytes"]).column(0)
        except (OSError, pa.ArrowException) as err:
            raise ValueError(f"{name}: cannot be read: {err}") from err
        encoded = column[self.row].as_py()
        if encoded is None or encoded["bytes"] is None:
            raise ValueError(f"{name}: expected an encoded image, found none")
        return decode_rgb(io.BytesIO(encoded["bytes"]), name=name)
