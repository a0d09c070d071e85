"""The command line, mostly in this process: everything a person starts."""

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from datamodules import ProfileDataModule
from lightning_modules import LatencyEstimatorModule
from models.latency_estimator import TARGETS
from profiling.records import write_profile
from profiling.splits import TEST_GROUPS
from tests.profile_law import profile_table
from tests.served_rows import served_row, write_run

ROOT = Path(main.__file__).parent
DEFAULT = str(ROOT / "configs" / "latency_estimator" / "default.yaml")
FAST = str(ROOT / "configs" / "latency_estimator" / "fast.yaml")


@pytest.fixture
def small_data() -> list[str]:
    """Arguments that put a small synthetic profile in place of the shipped one, and keep the console quiet."""
    write_profile(profile_table(num_images=40, settings_per_image=12), Path("profile.parquet"))
    return [
        "--data.init_args.files=[profile.parquet]",
        "--data.init_args.held_out_files=null",
        "--data.init_args.val_split=0.1",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]


def _fit(arguments: list[str], *more: str) -> None:
    main.cli_main(["fit", "--config", DEFAULT, *arguments, *more])


def _logged_keys(folder: Path) -> set[str]:
    keys: set[str] = set()
    for file in folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        keys |= set(events.Tags()["scalars"])
    return keys


def _documented_keys() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text()
    text = page.split("## Latency estimator\n")[1].split("\n## ")[0]
    keys = set()
    for key in re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE):
        for target, group in product(TARGETS, TEST_GROUPS):
            keys.add(key.replace("<target>", target).replace("<group>", group))
    return keys


def test_a_fit_logs_what_the_documentation_lists_and_leaves_a_whole_run(small_data: list[str]) -> None:
    _fit(small_data)
    run = Path("runs/version_0")
    assert _logged_keys(run) - {"epoch"} == _documented_keys()
    assert (run / "config.yaml").is_file()
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (run / "report" / "errors.md").is_file()


def test_a_second_run_overwrites_nothing(small_data: list[str]) -> None:
    _fit(small_data)
    before = Path("runs/version_0/checkpoints/best.ckpt").stat().st_mtime_ns
    _fit(small_data)
    assert Path("runs/version_0/checkpoints/best.ckpt").stat().st_mtime_ns == before
    assert Path("runs/version_1/checkpoints/best.ckpt").is_file()


def test_a_checkpoint_is_validated_tested_and_predicted_with(small_data: list[str]) -> None:
    # Sizes come from the checkpoint, so the commands after the fit need not repeat them.
    _fit(small_data, "--model.init_args.hidden_dim=30")
    checkpoint = "runs/version_0/checkpoints/best.ckpt"
    common = ["--config", DEFAULT, *small_data, "--ckpt_path", checkpoint]
    for command in ("validate", "test"):
        main.cli_main([command, *common, "--verbose=false"])
    cli = main.cli_main(["predict", *common, "--return_predictions=true"])
    assert cli is not None
    module = LatencyEstimatorModule.load_from_checkpoint(checkpoint)
    assert module.hparams["hidden_dim"] == 30


@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_a_development_run_goes_through_with_every_loss(small_data: list[str], loss: str) -> None:
    _fit(small_data, "--trainer.fast_dev_run=true", f"--model.init_args.loss={loss}")
    assert not Path("runs").exists()


@pytest.mark.parametrize("configs", [[DEFAULT], [DEFAULT, FAST]])
def test_every_estimator_config_builds(small_data: list[str], configs: list[str]) -> None:
    named = [word for config in configs for word in ("--config", config)]
    cli = main.cli_main([*named, *small_data[:3]], run=False)
    assert cli is not None
    assert isinstance(cli.model, LatencyEstimatorModule)
    assert isinstance(cli.datamodule, ProfileDataModule)
    assert cli.datamodule.batch_size == (64 if configs == [DEFAULT] else 256)


def test_the_default_config_holds_the_original_hyper_parameters() -> None:
    config = yaml.safe_load(Path(DEFAULT).read_text())
    trainer = yaml.safe_load((ROOT / "configs" / "trainer" / "cpu.yaml").read_text())
    assert config["seed_everything"] == 42
    assert config["optimizer"]["init_args"]["lr"] == 1e-3
    assert config["data"]["init_args"]["batch_size"] == 64
    assert config["data"]["init_args"]["train_split"] == 0.8
    assert trainer["max_epochs"] == 50


def test_the_config_is_printed_with_later_files_winning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.cli_main(["fit", "--config", DEFAULT, "--config", FAST, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["batch_size"] == 256
    assert printed["data"]["init_args"]["train_split"] == 0.8
    assert printed["trainer"]["accelerator"] == "cpu"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.cli_main(arguments) is None
    printed = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", *main.TOOLS):
        assert re.search(rf"^  {command} +\S+", printed, flags=re.MULTILINE), command


def _failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail, and return the one line that it says."""
    monkeypatch.setattr("sys.argv", ["main.py", *words])
    assert main.main() != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_an_unknown_command_lists_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _failure(monkeypatch, capsys, "fitt")
    assert "fitt: no such command, choose one of fit, validate, test, predict" in said


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("cut.json", '[{"sample_id": "a", ', "cut.json: "),
        ("types.json", '[{"sample_id": "a", "tier": 5}]', "tier"),
        ("empty.json", "", "empty.json: the file is empty"),
        ("nothing.json", "[]", "nothing.json"),
    ],
)
def test_a_bad_profile_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, content: str, expected: str
) -> None:
    Path(name).write_text(content)
    said = _failure(
        monkeypatch,
        capsys,
        "fit",
        *("--config", DEFAULT, f"--data.init_args.files=[{name}]", "--data.init_args.held_out_files=null"),
    )
    assert expected in said
    assert not Path("runs").exists()


def test_a_missing_profile_folder_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _failure(monkeypatch, capsys, "fit", "--config", DEFAULT, "--data.init_args.files=[nowhere/x.json]")
    assert "nowhere/x.json: no such file" in said


def test_a_checkpoint_of_another_model_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_data: list[str]
) -> None:
    torch.save({"made_by": "ControllerModule", "state_dict": {}, "hyper_parameters": {}}, "other.ckpt")
    words = ("test", "--config", DEFAULT, *small_data, "--ckpt_path", "other.ckpt")
    said = _failure(monkeypatch, capsys, *words)
    assert "other.ckpt: was made by ControllerModule, expected one of LatencyEstimatorModule" in said


def test_from_a_measurement_to_an_estimator_of_another_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_data: list[str]
) -> None:
    """The tools, one after the other, as a user with a new device would call them."""
    _fit(small_data)
    shape = str(ROOT / "tests" / "golden" / "moe")
    Path("sweep.yaml").write_text(
        yaml.safe_dump(
            {
                "sweep": {
                    "model": {"name": shape, "random_weights": True, "dtype": "float32"},
                    "workload": {"image_sizes": [[64, 48], [90, 30]], "images_per_size": 3, "output_tokens": [1, 4]},
                    "levels": {"top_k": [1, 2], "num_active_blocks": [2, 4]},
                },
                "output_dir": "measured",
            }
        )
    )
    main.cli_main(["profile", "--config", "sweep.yaml", "--sweep.repeats=2"])
    main.cli_main(
        ["convert-profile", "--source=measured/profile.parquet", "--target=measured.json", "--lineage_names=true"]
    )
    best = "runs/version_0/checkpoints/best.ckpt"
    calibrate = ["calibrate-estimator", "--checkpoint", best, "--files=[measured.json]", "--output=both.ckpt"]
    main.cli_main(calibrate)
    main.cli_main(["knob-control", "--profiles=[measured/profile.parquet]", "--output_dir=knobs"])
    main.cli_main(["bench-data", "--files=[measured/profile.parquet]", "--num_rows=1000", "--repeats=1"])
    printed = capsys.readouterr().out
    assert "wrote 144 rows to measured.json" in printed
    assert "error on 72 rows after calibration from 50" in printed
    assert "1,000 rows, n = 1" in printed
    assert Path("knobs/knob_control.png").stat().st_size > 0
    known = LatencyEstimatorModule.load_from_checkpoint("both.ckpt").estimator.devices
    assert len(known) == 2
    assert "both.ckpt: exists already" in _failure(monkeypatch, capsys, *calibrate)


def test_the_generated_suite_is_looked_at_and_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = ["suite-sheet", "--family", "text", "--output", "sheet.png"]
    main.cli_main([*sheet, "--num_samples=2"])
    main.cli_main(["bench-suite", "--num_samples=2", "--canvas_pixels=32"])
    printed = capsys.readouterr().out
    assert "wrote 2 pictures of text/test to sheet.png" in printed
    assert Path("sheet.png").stat().st_size > 0
    assert re.search(r"captions\W+[\d,]+\W+[\d,]+", printed)
    assert "output: sheet.png exists already" in _failure(monkeypatch, capsys, *sheet)


def test_finished_runs_are_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [served_row(sample_id=f"s{place}", image_id=f"i{place}", budget_ms=50.0 + place % 2) for place in range(40)]
    write_run(Path("prompt"), rows, policy="mine")
    write_run(Path("late"), [replace(row, latency_ms=60.0) for row in rows[::-1]], policy="cheapest")
    words = ["compare-runs", "--runs", "[prompt, late]", "--output_dir", "compared"]
    main.cli_main([*words, "--reference", "late"])
    printed = capsys.readouterr().out
    assert re.search(r"prompt +1\.000 +\+1\.000 +better", printed)
    assert re.search(r"late +0\.000 +reference", printed)
    assert {path.suffix for path in Path("compared").iterdir()} == {".json", ".md", ".tex", ".png"}
    main.cli_main([*words, "--names", "[mine, cheapest]"])
    assert [run["name"] for run in json.loads(Path("compared/comparison.json").read_text())["runs"]] == [
        *("mine", "cheapest"),
    ]
    for more, message in (
        (["--names", "[a, a]"], "names: two runs are called 'a'; give each a name of its own"),
        (["--names", "[a]"], "names: must be one for each of the 2 runs, got 1: a"),
        (["--reference", "early"], "reference: must be one of the runs prompt, late, got 'early'"),
        (["--runs", "[late]"], "runs: needs two or more to compare, got 1"),
        (["--runs", "[late, nowhere]"], "nowhere/requests.parquet: no such file"),
    ):
        assert message in _failure(monkeypatch, capsys, *words, *more)


def test_an_interrupt_is_one_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "cli_main", interrupted)
    assert main.main() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_tool_reports_a_mistake_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("calibrate-estimator", "--checkpoint", "nowhere.ckpt", "--files", "[x.parquet]", "--output", "o.ckpt")
    assert "nowhere.ckpt: no such checkpoint file" in _failure(monkeypatch, capsys, *words)


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(small_data: list[str]) -> None:
    common = [
        sys.executable,
        str(ROOT / "main.py"),
        "fit",
        *("--config", DEFAULT, *small_data),
        "--model.init_args.loss=mse",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    two = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.init_args.batch_size=32"]
    for more in ([], two):
        subprocess.run([*common, *more], check=True, env=environment, capture_output=True, timeout=120)
    one, both = (json.loads(Path(f"runs/version_{v}/report/errors.json").read_text()) for v in range(2))
    assert len(one) == len(both) == 75
    for row, other in zip(one, both, strict=True):
        assert row["n"] == other["n"]
        assert row["mape"] == pytest.approx(other["mape"], rel=1e-3), row


def test_who_asks_a_question_hears_nothing_of_lightning_but_its_warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")

    def command() -> None:
        logger.info("GPU available: False")
        logger.warning("a warning")

    monkeypatch.setattr(main, "cli_main", command)
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    for words, heard in ((["predict"], ["a warning"]), (["fit"], ["GPU available: False", "a warning"])):
        monkeypatch.setattr(sys, "argv", ["main.py", *words])
        caplog.clear()
        assert main.main() == 0
        assert caplog.messages == heard
