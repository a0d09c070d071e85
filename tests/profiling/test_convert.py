import json
from pathlib import Path

import pytest

from profiling.convert import convert_profile
from profiling.records import read_profile, write_profile
from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable
from tests.profile_rows import legal_row


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [ProfileRecord(**legal_row(sample_id=f"q{i}", prefill_ms=10.0 + i)) for i in range(10)]
    path = tmp_path / "all.parquet"
    write_profile(ProfileTable.from_records(records, Environment(device="test")), path)
    return path


def test_a_profile_keeps_its_rows_in_every_format(source: Path, tmp_path: Path) -> None:
    convert_profile(source, tmp_path / "all.json")
    convert_profile(tmp_path / "all.json", tmp_path / "all.jsonl")
    assert read_profile(tmp_path / "all.jsonl").columns == read_profile(source).columns


def test_rows_are_spread_over_the_file_and_named_as_in_older_files(source: Path, tmp_path: Path) -> None:
    convert_profile(source, tmp_path / "few.json", num_rows=4, lineage_names=True)
    rows = json.loads((tmp_path / "few.json").read_text())["samples"]
    assert [row["sample_id"] for row in rows] == ["q0", "q3", "q6", "q9"]
    assert [row["T_LLM_prefill"] for row in rows] == [10.0, 13.0, 16.0, 19.0]


def test_an_existing_file_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.json"
    target.write_text("mine")
    with pytest.raises(ValueError, match=r"target: .*kept\.json exists already"):
        convert_profile(source, target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("num_rows", [0, 11])
def test_more_rows_than_there_are_cannot_be_kept(source: Path, tmp_path: Path, num_rows: int) -> None:
    with pytest.raises(ValueError, match=f"num_rows: must be 1 to 10, .* got {num_rows}"):
        convert_profile(source, tmp_path / "few.json", num_rows=num_rows)
