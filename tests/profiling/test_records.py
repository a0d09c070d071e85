import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiling.records import read_profile, read_profiles, write_profile
from profiling.schema import AnswerRecord, Environment, ProfileError, ProfileRecord
from profiling.table import ProfileTable
from tests.profile_rows import legal_row

SUFFIXES = [".json", ".jsonl", ".parquet"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as they are, unchecked."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(raw) + "\n" for raw in rows))
    else:
        names = list(dict.fromkeys(name for raw in rows for name in raw))
        pq.write_table(pa.table({name: [raw.get(name) for raw in rows] for name in names}), path)
    return path


def profile(*rows: dict[str, Any], **environment: Any) -> ProfileTable:
    return ProfileTable.from_records([ProfileRecord.model_validate(raw) for raw in rows], Environment(**environment))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("lineage_names", [False, True])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, lineage_names: bool) -> None:
    table = profile(
        legal_row(active_blocks=[0, 3], accuracy=0.3, question="Wie groß?", total_ms=21.5, image_width=640),
        legal_row(sample_id="q2", image_id="i2", output_tokens=1, decode_ms=0.0, run_id=4, projector_ms=0.5),
        device="H200",
        engine="graph",
        model_shape={"d_model": 2048, "vision_backbone": {"image_patch_size": 14}},
    )
    write_profile(table, tmp_path / f"a{suffix}", lineage_names=lineage_names)
    back = read_profile(tmp_path / f"a{suffix}")
    assert back.columns.to_pylist() == table.columns.to_pylist()
    assert back.columns.schema == table.columns.schema
    assert back.environment == table.environment
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


def test_the_older_layout_is_written_with_its_names(tmp_path: Path) -> None:
    write_profile(profile(legal_row(active_blocks=[0, 3])), tmp_path / "a.json", lineage_names=True)
    (sample,) = json.loads((tmp_path / "a.json").read_text())["samples"]
    assert sample["T_LLM_prefill"] == 10.0
    assert sample["active_block_indices"] == [0, 3]
    assert "prefill_ms" not in sample


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_answers_may_lack_their_times_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    untimed = {name: value for name, value in legal_row().items() if not name.endswith("_ms")}
    path = write_rows(tmp_path / f"a{suffix}", [untimed])
    (row,) = read_profile(path, record=AnswerRecord).columns.to_pylist()
    assert (row["output_tokens"], row["decode_ms"], row["decode_per_token_ms"], row["run_id"]) == (5, None, None, 0)
    with pytest.raises(ProfileError, match=r"vision_encoder_ms: required field is missing \(and 2 more\)"):
        read_profile(path)
    write_rows(path, [untimed, untimed | {"output_tokens": 0}])
    with pytest.raises(ProfileError, match=r"output_tokens: Input should be greater than or equal to 1, got 0"):
        read_profile(path, record=AnswerRecord)


@pytest.mark.parametrize("key", ["samples", "results"])
def test_an_object_may_hold_the_rows(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({key: [legal_row()], "environment": {"device": "H100"}}))
    assert read_profile(path).environment.device == "H100"


def test_a_bare_list_of_older_rows_is_read_one_record_per_run(tmp_path: Path) -> None:
    older = legal_row(T_LLM_prefill=[10.0, 10.5, 11.0], T_vision_total=[3.0, 3.1, 3.2])
    del older["prefill_ms"], older["vision_encoder_ms"]
    table = read_profile(write_rows(tmp_path / "a.json", [older]))
    assert table.numbers("run_id").tolist() == [0.0, 1.0, 2.0]
    assert table.numbers("prefill_ms").tolist() == [10.0, 10.5, 11.0]
    assert table.numbers("vision_encoder_ms").tolist() == [3.0, 3.1, 3.2]
    assert np.isnan(table.numbers("projector_ms")).all()
    assert table.environment.device == "unknown"


@pytest.mark.parametrize(
    ("suffix", "where"), [(".json", r"records\[1\]"), (".jsonl", "line 2"), (".parquet", r"records\[1\]")]
)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefill_ms": -1.0}, "prefill_ms: Input should be greater than or equal to 0, got -1.0"),
        ({"prefill_ms": float("nan")}, "prefill_ms: Input should be a finite number, got nan"),
        ({"total_ms": 12.0}, "total_ms: must not be below the sum of its parts, 21 ms, got 12.0"),
        ({"decode_ms": 0.0}, "decode_ms: must be above 0 when output_tokens is 5"),
        ({"tier": None}, "tier: required field is missing"),
    ],
)
def test_a_bad_row_gives_the_same_message_in_every_format(
    tmp_path: Path, suffix: str, where: str, changes: dict[str, Any], message: str
) -> None:
    path = write_rows(tmp_path / f"a{suffix}", [legal_row(), legal_row(**changes), legal_row()])
    with pytest.raises(ValueError, match=rf"a\{suffix}: {where}: {message}"):
        read_profile(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_rows_are_skipped_and_counted_when_not_strict(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        legal_row(prefill_ms=-1.0),
        legal_row(top_k=4),
        legal_row(prefill_ms=-2.0),
        legal_row(output_tokens=0),
        legal_row(top_k=6),
    ]
    table = read_profile(write_rows(tmp_path / f"a{suffix}", rows), strict=False)
    assert table.numbers("top_k").tolist() == [4.0, 6.0]
    assert "skipped 3 bad rows: 2 x prefill_ms: Input should be greater than or equal to 0 (first: " in caplog.text
    assert "1 x output_tokens: Input should be greater than or equal to 1" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_with_only_bad_rows_is_an_error_even_when_not_strict(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"a{suffix}", [legal_row(prefill_ms=-1.0)])
    with pytest.raises(ValueError, match="holds no records that can be used: 1 x prefill_ms"):
        read_profile(path, strict=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"tier": "low"},\n {"tie', "line 2, column 3: not JSON: .*may be cut short"),
        ("a.json", b"[{},]", r"line 1, column \d: not JSON"),
        ("a.json", b'["\xff"]', "not UTF-8"),
        ("a.json", b"", "the file is empty"),
        ("a.json", b"[]", "holds no records"),
        ("a.json", b"3", "records: expected a list of records, got int"),
        ("a.json", b"[3]", r"records\[0\]: expected an object with fields, got 3"),
        ("a.json", b'{"rows": []}', "an object with one of samples, results, got an object with rows"),
        ("a.json", b'{"samples": [], "results": []}', "with one of samples, results, got"),
        ("a.json", b'{"samples": [], "extra": 1}', "extra: unknown key, expected samples and environment"),
        ("a.json", b'{"samples": [], "environment": {"gpu": 1}}', "environment: gpu: unknown field, got 1"),
        ("a.json", b'{"samples": [], "environment": {"schema_version": 2}}', "environment: schema_version: .* got 2"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b'{"environment": {}}\n', "holds no records"),
        ("a.jsonl", b'{"environment": {}}\n{"tier": "lo', "line 2: cut short, the file's last line is incomplete"),
        ("a.jsonl", b'{"tier": }\n', "line 1: not JSON"),
        ("a.parquet", b"", "the file is empty"),
        ("a.parquet", b"PAR1 but not really", "not a Parquet file, or cut short"),
        ("a.csv", b"tier", "file name must end in .json, .jsonl, .parquet, got '.csv'"),
    ],
)
def test_a_broken_file_gives_one_clear_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_whole_number_beyond_64_bits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a whole number is too large"):
        read_profile(write_rows(tmp_path / "a.json", [legal_row(seed=2**70)]))


def test_an_unknown_column_in_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.parquet: column 'latency': unknown"):
        read_profile(write_rows(tmp_path / "a.parquet", [legal_row(latency=1.0)]))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone.json: no such file"):
        read_profile(tmp_path / "gone.json")
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        read_profile(tmp_path)
    with pytest.raises(ValueError, match="holds no file ending in"):
        read_profiles(tmp_path)
    with pytest.raises(ValueError, match="no file matches the pattern"):
        read_profiles(tmp_path / "*.json")
    with pytest.raises(ValueError, match=r"no such folder \(results_dir\)"):
        read_profiles(results_dir=tmp_path / "gone", dataset_names=["vqa"])
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        write_profile(profile(legal_row()), tmp_path / "gone" / "a.json")
    with pytest.raises(ValueError, match="file name must end in"):
        write_profile(profile(legal_row()), tmp_path / "a.txt")


def test_nothing_is_overwritten_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="disk full"):
        write_profile(profile(legal_row()), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_files_folders_and_patterns_are_joined_once_each(tmp_path: Path) -> None:
    for i, suffix in enumerate(SUFFIXES):
        write_profile(profile(legal_row(top_k=i)), tmp_path / f"p{suffix}")
    assert read_profiles(tmp_path).numbers("top_k").tolist() == [0.0, 1.0, 2.0]
    assert len(read_profiles([tmp_path / "p.json", tmp_path / "*.json*", str(tmp_path)])) == 3


def test_datasets_are_found_by_name_and_named(tmp_path: Path) -> None:
    write_profile(profile(legal_row()), tmp_path / "vqa.json")
    (tmp_path / "doc").mkdir()
    write_profile(profile(legal_row(dataset="docs")), tmp_path / "doc" / "part0.parquet")
    write_profile(profile(legal_row()), tmp_path / "doc" / "part1.jsonl")
    table = read_profiles(results_dir=tmp_path, dataset_names=["vqa", "doc"])
    assert table.columns["dataset"].to_pylist() == ["vqa", "docs", "doc"]


def test_a_dataset_that_is_missing_or_ambiguous_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset 'vqa': expected one file .* found nothing"):
        read_profiles(results_dir=tmp_path, dataset_names=["vqa"])
    write_profile(profile(legal_row()), tmp_path / "vqa.json")
    write_profile(profile(legal_row()), tmp_path / "vqa.parquet")
    with pytest.raises(ValueError, match=r"dataset 'vqa': expected one file .* found .*vqa.json, .*vqa.parquet"):
        read_profiles(results_dir=tmp_path, dataset_names=["vqa"])
    with pytest.raises(ValueError, match="give both or neither"):
        read_profiles(results_dir=tmp_path)
    with pytest.raises(ValueError, match="no profile to read"):
        read_profiles()


def test_files_of_two_devices_need_leave(tmp_path: Path) -> None:
    write_profile(profile(legal_row(), device="H200"), tmp_path / "a.json")
    write_profile(profile(legal_row(), device="Xeon"), tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"different devices .* 'H200' \(.*a.json\) and 'Xeon' \(.*b.json\)"):
        read_profiles(tmp_path)
    table = read_profiles(tmp_path, allow_mixed_devices=True)
    assert table.codes("device")[1] == ["H200", "Xeon"]
    with pytest.raises(ValueError, match="the table mixes devices"):
        write_profile(table, tmp_path / "c.json")
