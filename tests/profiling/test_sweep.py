import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import main
from models.config import released_config
from models.knobs import MOLMOE_1B_GRID, KnobGrid, Tier, spread_blocks
from profiling.jsonl import JsonlWriter, existing_keys
from profiling.level_table import LevelEntry, LevelTable
from profiling.model_source import GridLevels, ModelSource
from profiling.profiler import KEY_FIELDS, Key, Profiler
from profiling.questions import Questions
from profiling.records import read_profile
from profiling.schema import ProfileRecord
from profiling.sweep import Sweep, profile
from profiling.sweep_workers import Worker, _listen, _work
from profiling.workload import Workload
from tests.helpers import golden_config

ROOT = Path(main.__file__).parent
OUT = Path("out")
pytestmark = pytest.mark.usefixtures("tiny_model_folder")


def sweep(**changes: Any) -> Sweep:
    fields: dict[str, Any] = {
        "model": ModelSource(name="tiny", random_weights=True, dtype="float32"),
        "workload": Workload(image_sizes=((64, 48), (30, 90), (50, 50)), text_tokens=(3, 12), output_tokens=(1, 4)),
        "levels": GridLevels(tiers=(Tier(name="low", min_crops=1, max_crops=2),), top_k=(2,), num_active_blocks=(2, 4)),
        "repeats": 2,
    }
    return Sweep(**{**fields, **changes})


def keys_of(the_sweep: Sweep) -> set[Key]:
    plan = the_sweep.plan()
    return set.union(*map(plan.keys, plan.requests))


def rows(path: Path) -> list[str]:
    """Measured rows of a file, without the environment."""
    return path.read_text().splitlines()[1:]


def keys_in(folder: Path) -> Counter[Key]:
    """How often each measurement was written, in all files."""
    lines = [json.loads(row) for path in folder.glob("measurements-*.jsonl") for row in rows(path)]
    return Counter(tuple(line[field] for field in KEY_FIELDS) for line in lines)


def once(the_sweep: Sweep) -> Counter[Key]:
    return Counter(dict.fromkeys(keys_of(the_sweep), 1))


class Stop(BaseException):
    """Ends a sweep in the middle, as nothing in it expects."""


def run_until(num_rows: int, error: type[BaseException] = Stop) -> None:
    """Start the sweep and let it fail once so many rows are written."""
    write, left = JsonlWriter.write, [num_rows]

    def limited(self: JsonlWriter, record: ProfileRecord) -> None:
        if not left[0]:
            raise error
        left[0] -= 1
        write(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonlWriter, "write", limited)
        with pytest.raises(error):
            profile(sweep(), OUT)


def test_a_sweep_leaves_rows_a_profile_a_figure_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    profile(sweep(), OUT)
    assert sorted(path.name for path in OUT.iterdir()) == [
        "components.png",
        "measurements-0.jsonl",
        "profile.parquet",
        "sweep.json",
    ]
    assert keys_in(OUT) == once(sweep())
    table = read_profile(OUT / "profile.parquet")
    assert len(table) == 3 * 2 * 2
    assert table.environment.model == "tiny"
    assert table.environment.random_weights
    assert table.environment.dtype == "float32"
    assert table.environment.model_shape == json.loads(Path("tiny/config.json").read_text())
    printed = capsys.readouterr().out
    assert "12 measurements of 3 requests, 0 done before" in printed
    assert "decode_per_token" in printed
    assert "wrote out/profile.parquet" in printed


def test_a_stopped_sweep_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    run_until(5)
    before = rows(OUT / "measurements-0.jsonl")
    assert len(before) == 5
    profile(sweep(), OUT)
    assert rows(OUT / "measurements-0.jsonl")[:5] == before
    assert keys_in(OUT) == once(sweep())
    assert "12 measurements of 3 requests, 5 done before" in capsys.readouterr().out


def test_an_interrupt_keeps_the_rows_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run_until(3, KeyboardInterrupt)
    assert "interrupted: what was measured is kept, the same command goes on" in capsys.readouterr().out
    assert len(rows(OUT / "measurements-0.jsonl")) == 3


def test_a_finished_sweep_measures_nothing_again_and_needs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    profile(sweep(), OUT)
    before = (OUT / "measurements-0.jsonl").read_bytes()
    (OUT / "profile.parquet").unlink()
    monkeypatch.delattr(Worker, "run")
    profile(sweep(), OUT, devices=2)
    assert (OUT / "measurements-0.jsonl").read_bytes() == before
    assert len(read_profile(OUT / "profile.parquet")) == 12


def test_what_other_workers_left_is_used() -> None:
    run_until(4)
    # As if a run with more devices had been killed: in one worker before its first row, in one within a row.
    first = OUT / "measurements-0.jsonl"
    environment, *_ = first.read_text().splitlines()
    first.rename(OUT / "measurements-2.jsonl")
    (OUT / "measurements-1.jsonl").write_text(environment + "\n")
    with (OUT / "measurements-2.jsonl").open("a") as file:
        file.write('{"sample_id": "seed42-0')
    profile(sweep(), OUT)
    assert keys_in(OUT) == once(sweep())
    assert len(read_profile(OUT / "profile.parquet")) == 12


def test_records_name_the_engine_that_ran_not_the_one_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("asks for what a CPU cannot run")
    profile(sweep(engine="graph"), OUT)
    assert read_profile(OUT / "profile.parquet").environment.engine == "eager"
    assert "engine: graph needs a CUDA device, got cpu, eager takes its place" in caplog.messages


def test_another_sweep_in_the_folder_is_refused_and_nothing_changes() -> None:
    profile(sweep(), OUT)
    before = {path: path.read_bytes() for path in OUT.iterdir()}
    for other in (sweep(seed=43), sweep(repeats=3), sweep(model=replace(sweep().model, router_skew=0.5))):
        with pytest.raises(ValueError, match=r"output_dir: out/sweep.json describes another sweep"):
            profile(other, OUT)
    assert {path: path.read_bytes() for path in OUT.iterdir()} == before


def test_another_model_of_the_same_name_is_refused() -> None:
    run_until(2)
    before = (OUT / "measurements-0.jsonl").read_bytes()
    config = json.loads(Path("tiny/config.json").read_text())
    Path("tiny/config.json").write_text(json.dumps({**config, "moe_num_experts": 4}))
    with pytest.raises(ValueError, match=r"environment: model_shape: the file was measured with .* this run has"):
        profile(sweep(), OUT)
    assert (OUT / "measurements-0.jsonl").read_bytes() == before


def test_a_damaged_note_of_the_sweep_is_named() -> None:
    OUT.mkdir()
    (OUT / "sweep.json").write_text('{"model": ')
    with pytest.raises(ValueError, match=r"output_dir: out/sweep.json is not JSON"):
        profile(sweep(), OUT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": GridLevels(top_k=(2, 9), num_active_blocks=(2,))}, r"top_k: must be 1 to 8 .*, got 9"),
        ({"levels": GridLevels(top_k=(2,), num_active_blocks=(2, 5))}, r"num_active_blocks: must be 1 to 4, got 5"),
        ({"levels": GridLevels(top_k=(2, 2), num_active_blocks=(2,))}, r"top_k: needs at least one level and no level"),
        ({"levels": GridLevels(top_k=(), num_active_blocks=(2,))}, r"top_k: needs at least one level"),
        ({"model": ModelSource(name="nowhere", random_weights=True)}, "'nowhere' is neither a directory nor a hub id"),
        ({"model": ModelSource(name="tiny")}, "tiny: holds neither model.safetensors nor"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(sweep(**changes), OUT)
    assert not list(Path().glob("out/*.jsonl"))


def test_a_sweep_is_of_a_workload_or_of_questions() -> None:
    questions = Questions(datasets={"suite_facts": {"test": "test"}}, num_samples={"test": 1})
    with pytest.raises(ValueError, match="workload and questions: give one of them, got both"):
        sweep(questions=questions)
    with pytest.raises(ValueError, match="workload and questions: give one of them, got neither"):
        sweep(workload=None)


@pytest.mark.parametrize("field", ["repeats", "settings_per_request"])
def test_a_sweep_measures_something(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be 1 or more, got 0"):
        sweep(**{field: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda", "devices": 2}, "devices: 2 CUDA devices asked for, this machine has 0"),
        ({"devices": 0}, "devices: must be 1 or more, got 0"),
        ({"num_threads": 0}, "num_threads: must be 1 or more, got 0"),
    ],
)
def test_missing_devices_are_an_error(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=message):
        profile(sweep(), OUT, **options)
    assert not OUT.exists()


def test_two_workers_measure_what_one_does() -> None:
    profile(sweep(), OUT, devices=2, num_threads=1)
    assert len(list(OUT.glob("measurements-*.jsonl"))) == 2
    assert keys_in(OUT) == once(sweep())
    assert len(read_profile(OUT / "profile.parquet")) == 12
    by_file = [existing_keys(path, ("sample_id",)) for path in sorted(OUT.glob("measurements-*.jsonl"))]
    assert [len(samples) for samples in by_file] == [2, 1]


def test_a_mistake_that_a_worker_meets_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    failing = sweep(model=ModelSource(name="tiny"))
    worker = Worker(
        source=failing.model,
        engine=failing.engine,
        plan=failing.plan(),
        done=frozenset(),
        path=Path("rows.jsonl"),
        device="cpu",
        num_threads=None,
    )
    here, there = multiprocessing.Pipe(duplex=False)
    with pytest.raises(SystemExit, match="1"):
        _work(worker, there)
    there.close()
    (mistake,) = _listen([here], lambda: None)
    assert mistake.startswith("tiny: holds neither model.safetensors nor")


def _write_config(the_sweep: dict[str, Any]) -> Path:
    file = Path("sweep.yaml")
    file.write_text(yaml.safe_dump({"sweep": the_sweep, "output_dir": str(OUT), "num_threads": 1}))
    return file


KILLED = {
    "model": {"name": "tiny", "random_weights": True, "dtype": "float32"},
    "workload": {
        "image_sizes": [[64, 48], [30, 90], [50, 50], [90, 40]],
        "text_tokens": [3, 12],
        "output_tokens": [12, 20],
    },
    "levels": {
        "tiers": [{"name": "low", "min_crops": 1, "max_crops": 2}],
        "top_k": [2, 3],
        "num_active_blocks": [2, 4],
    },
    "repeats": 3,
}


@pytest.mark.slow
def test_a_killed_sweep_is_finished_by_the_same_command(caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["profile", "--config", str(_write_config(KILLED))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    file = OUT / "measurements-0.jsonl"
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not file.exists() or file.read_bytes().count(b"\n") < 6:
            assert process.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = [line.removesuffix("\n") for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")][1:]
    assert 5 <= len(kept) < 48
    with file.open("a") as cut:
        cut.write('{"sample_id": "seed42-')
    main.cli_main(arguments)
    assert "dropped the last line, which was cut" in caplog.text
    assert rows(file)[: len(kept)] == kept
    found = keys_in(OUT)
    assert len(found) == found.total() == 4 * 4 * 3
    assert len(read_profile(OUT / "profile.parquet")) == 48


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sweep.model.dtype=float8", "float8"),
        ("--sweep.levels.top_k=[2,many]", "many"),
        ("--device=tpu", "tpu"),
        ("--sweep.runs=3", "runs"),
        ("--sweep.repeats=three", "three"),
    ],
)
def test_a_wrong_argument_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    monkeypatch.setattr(Profiler, "run", None)
    with pytest.raises(SystemExit) as ending:
        main.cli_main(["profile", "--config", str(_write_config(KILLED)), argument])
    assert ending.value.code != 0
    assert message in capsys.readouterr().err
    assert not OUT.exists()


def test_levels_that_are_not_named_are_those_of_the_models_own_grid() -> None:
    config = golden_config("moe")
    own = KnobGrid(
        tiers=(Tier(name="low", min_crops=1, max_crops=2),), top_k=(1, 3), blocks_by_count={2: (0, 1), 3: (0, 1, 3)}
    )
    assert GridLevels().grid(config, own) == own
    assert GridLevels(top_k=(2,)).grid(config, own) == replace(own, top_k=(2,))
    assert GridLevels(num_active_blocks=(3,)).grid(config, own).blocks_by_count == {3: spread_blocks(4, 3)}
    released = released_config("molmoe-1b-0924")
    assert GridLevels().grid(released) == MOLMOE_1B_GRID


def test_levels_mean_what_their_table_says_and_the_profile_says_so_too() -> None:
    entry = LevelEntry(text=(3, 2, 2, 2), vision=(1, 1, 2, 2), found_by="modality")
    LevelTable(
        model="tiny",
        weights="",
        num_blocks=4,
        dataset_names=("a",),
        search_samples=1,
        report_samples=1,
        device="cpu",
        engine="eager",
        by_top_k={2: entry},
    ).write(Path("levels.json"))
    plain = sweep(repeats=1)
    the_sweep = replace(plain, levels=replace(plain.levels, level_table="levels.json"))
    assert {setting.experts for setting in the_sweep.plan().grid.settings()} == {entry.experts()}
    assert keys_of(the_sweep) == keys_of(plain)  # a level keeps its name
    profile(the_sweep, OUT)
    environment = read_profile(OUT / "profile.parquet").environment
    assert environment.experts_by_top_k == {"2": {"text": [3, 2, 2, 2], "vision": [1, 1, 2, 2]}}


def test_a_sweep_goes_on_after_an_option_was_added() -> None:
    profile(sweep(repeats=1), OUT)
    file = OUT / "sweep.json"
    content = json.loads(file.read_text())
    del content["levels"]["level_table"], content["model"]["match_router_mass"]
    file.write_text(json.dumps(content))
    profile(sweep(repeats=1), OUT)
    with pytest.raises(ValueError, match="describes another sweep"):
        profile(sweep(repeats=1, model=ModelSource(name="tiny", random_weights=True, match_router_mass=True)), OUT)
