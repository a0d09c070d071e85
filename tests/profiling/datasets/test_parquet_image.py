from pathlib import Path

import pytest

from profiling.datasets.parquet_image import ParquetImage
from tests.dataset_files import mmmu_row, write_mmmu_shard


def _image(tmp_path: Path, **place: object) -> ParquetImage:
    rows = [mmmu_row(str(number), num_images=2) for number in range(3)]
    rows[1]["image_1"] = {"bytes": b"no picture", "path": "1.png"}
    rows[2]["image_2"] = {"bytes": None, "path": "2.png"}
    write_mmmu_shard(tmp_path / "a.parquet", rows, row_group_size=2)
    defaults: dict[str, object] = {"row_group": 0, "row": 0, "column": "image_1"}
    return ParquetImage(path=tmp_path / "a.parquet", **(defaults | place))  # type: ignore[arg-type]


def test_the_image_is_that_of_its_row_and_column(tmp_path: Path) -> None:
    assert _image(tmp_path).open().size == (10, 6)
    assert _image(tmp_path, row=1, column="image_2").open().size == (20, 6)
    assert _image(tmp_path, row_group=1).open().size == (10, 6)


def test_a_broken_or_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0, row 1: image_1: cannot be decoded as an image"):
        _image(tmp_path, row=1).open()
    with pytest.raises(ValueError, match=r"a\.parquet: row group 1, row 0: image_2: expected an encoded image, found"):
        _image(tmp_path, row_group=1, column="image_2").open()
    with pytest.raises(ValueError, match=r"row group 0, row 0: image_3: expected an encoded image, found none"):
        _image(tmp_path, column="image_3").open()


def test_a_file_that_was_removed_is_named(tmp_path: Path) -> None:
    image = _image(tmp_path)
    image.path.unlink()
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0, row 0: image_1: cannot be read: "):
        image.open()
