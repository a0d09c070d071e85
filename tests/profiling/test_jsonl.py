import os
from pathlib import Path

import pytest

from profiling.jsonl import JsonlWriter, existing_keys
from profiling.records import read_profile
from profiling.schema import Environment, ProfileRecord
from tests.profile_rows import legal_row

H200 = Environment(device="H200", engine="graph", model_shape={"d_model": 64}, commit="abc")
KEY = ("sample_id", "tier", "top_k", "num_active_blocks", "run_id")


def record(run_id: int) -> ProfileRecord:
    return ProfileRecord.model_validate(legal_row(active_blocks=[0, 3], run_id=run_id))


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with JsonlWriter(tmp_path / "a.jsonl", H200) as writer:
        writer.write(record(0))
        table = read_profile(tmp_path / "a.jsonl")
        assert len(synced) == 2
    assert len(table) == 1
    assert table.environment == H200


def test_a_run_continues_after_a_crash_that_cut_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    with JsonlWriter(path, H200) as writer:
        writer.write(record(0))
        writer.write(record(1))
    path.write_bytes(path.read_bytes()[:-20])
    assert existing_keys(path, KEY) == {("q1", "low", 8, 2, 0)}
    with JsonlWriter(path, H200) as writer:
        writer.write(record(2))
    assert "dropped the last line" in caplog.text
    assert read_profile(path).numbers("run_id").tolist() == [0.0, 2.0]


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with JsonlWriter(path, H200) as writer:
        with pytest.raises(ValueError, match=r"a\.jsonl: another run is writing to this file"):
            JsonlWriter(path, H200)
        writer.write(record(0))
    with JsonlWriter(path, H200) as writer:
        writer.write(record(1))
    assert len(read_profile(path)) == 2


@pytest.mark.parametrize("content", [b"", b'{"environ'])
def test_a_file_that_died_at_its_first_line_starts_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert existing_keys(path, KEY) == set()
    with JsonlWriter(path, H200) as writer:
        writer.write(record(0))
    assert read_profile(path).environment == H200


def test_nothing_is_measured_yet_in_a_new_file(tmp_path: Path) -> None:
    assert existing_keys(tmp_path / "a.jsonl", KEY) == set()
    JsonlWriter(tmp_path / "a.jsonl", H200).close()
    assert existing_keys(tmp_path / "a.jsonl", KEY) == set()


def test_another_environment_is_refused_and_the_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    JsonlWriter(path, H200).close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="environment: device: the file was measured with 'H200' and this run has 'A'"):
        JsonlWriter(path, Environment(device="A"))
    with pytest.raises(ValueError, match=r"environment: engine: .*'graph' and this run has 'eager'"):
        JsonlWriter(path, H200.model_copy(update={"engine": "eager"}))
    assert path.read_bytes() == before


def test_another_day_and_commit_may_continue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    JsonlWriter(path, H200).close()
    JsonlWriter(path, H200.model_copy(update={"commit": "def", "date": "tomorrow"})).close()
    assert "continuing a run of commit abc with commit def" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not json\n", "line 1: not JSON .* will not be appended to"),
        (b'{"tier": "low"}\n', "line 1: expected the environment"),
        (b'{"environment": {"gpu": 1}}\n', "environment: gpu: unknown field"),
    ],
)
def test_a_file_that_is_no_measured_profile_is_not_appended_to(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        JsonlWriter(path, H200)
    assert path.read_bytes() == content


def test_wrong_endings_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file name must end in .jsonl, got '.json'"):
        JsonlWriter(tmp_path / "a.json", H200)
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        JsonlWriter(tmp_path / "gone" / "a.jsonl", H200)
