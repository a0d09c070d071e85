from pathlib import Path

import pytest

from profiling.datasets.official import DatasetError
from profiling.datasets.root import find_root


def test_the_argument_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLMO_DATA_DIR", str(tmp_path / "elsewhere"))
    assert find_root(str(tmp_path)) == tmp_path
    (tmp_path / "elsewhere").mkdir()
    assert find_root() == tmp_path / "elsewhere"


def test_no_root_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    with pytest.raises(DatasetError, match="root: no folder of datasets is named; give root or set MOLMO_DATA_DIR"):
        find_root()


def test_a_root_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLMO_DATA_DIR", "gone")
    with pytest.raises(DatasetError, match="MOLMO_DATA_DIR: expected the folder that holds the datasets, found no"):
        find_root()
    with pytest.raises(DatasetError, match=r"^root: expected the folder that holds the datasets, found no folder away"):
        find_root("away")
