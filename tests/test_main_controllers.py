"""The command line of the controllers, mostly in this process: every config, every objective, every command."""

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from datamodules.controller import ControllerDataModule
from lightning_modules.controller import ControllerModule
from models.knobs import spread_grid
from profiling.controllers.feature_file import FeatureFile
from profiling.controllers.outcomes import read_outcomes
from tests.controller_world import GRID, world_rows, world_table, write_world

CONFIGS = Path(main.__file__).parent / "configs"
MODULES = ("supervised_controller", "two_stage_controller", "grpo_controller")
RECIPES = [f"{module}/{name}.yaml" for module, name in product(MODULES, ("default", "original"))]
OVERLAYS = sorted(
    path.relative_to(CONFIGS).as_posix() for kind in ("objective", "reward") for path in (CONFIGS / kind).iterdir()
)
KNOBS = {"tier": ["low", "medium", "high"], "top_k": ["4", "8"], "num_active_blocks": ["8", "12", "16"]}
EDGES = ("0", "20", "40", "60", "80")
PRICES = {f"price/from_{edge}_ms" for edge in EDGES}


@pytest.fixture
def small_world() -> Path:
    """Write a small world, and a config that puts it in place of the shipped profile."""
    write_world(Path("world.parquet"), num_images=40)
    arguments = {
        "files": ["world.parquet"],
        "features": None,
        "answers": None,
        "split_by": "image",
        "train_fraction": 0.4,
        "val_fraction": 0.2,
        "calibration_fraction": 0.1,
        "budgets_ms": [18.0, 30.0],
        "batch_size": 8,
    }
    trainer = {"max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False}
    best = {"class_path": "ModelCheckpoint", "init_args": {"filename": "best", "monitor": "val/goodput", "mode": "max"}}
    content = {"data": {"init_args": arguments}, "trainer": {**trainer, "callbacks": [best]}}
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def words_of(*configs: str, small_world: Path) -> list[str]:
    named = [str(CONFIGS / config) for config in configs]
    return [word for config in [*named, str(small_world)] for word in ("--config", config)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_built_and_takes_a_step(recipe: str, small_world: Path) -> None:
    cli = main.cli_main([*words_of(recipe, small_world=small_world), "--trainer.fast_dev_run=true"], run=False)
    assert cli is not None
    assert isinstance(cli.model, ControllerModule)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert cli.trainer.global_step == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_objective_and_reward_trains_when_one_file_names_it(overlay: str, small_world: Path) -> None:
    words = words_of("supervised_controller/default.yaml", overlay, small_world=small_world)
    cli = main.cli_main([*words, "--trainer.fast_dev_run=true"], run=False)
    assert cli is not None
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    kind, content = overlay.partition("/")[0], yaml.safe_load((CONFIGS / overlay).read_text())
    named = content["model"]["init_args"][kind]["class_path"]
    described = cli.model.hparams[kind]["class_path"]
    assert described.rpartition(".")[2] == named


def test_a_controller_looks_at_the_overview_unless_one_file_says_not_to(small_world: Path) -> None:
    outcomes = read_outcomes(["world.parquet"])
    rng = np.random.default_rng(0)
    FeatureFile(
        model_digest="d",
        model_shape={},
        tiers=tuple(tier.name for tier in GRID.tiers),
        tiling="target",
        samples=tuple(outcomes.samples[["dataset", "split", "sample_id"]].itertuples(index=False, name=None)),
        question_ND=rng.normal(size=(len(outcomes), 5)).astype(np.float16),
        glance_ND=rng.normal(size=(len(outcomes), 6)).astype(np.float16),
        vision_NTD=rng.normal(size=(len(outcomes), 3, 6)).astype(np.float16),
    ).write(Path("f.safetensors"))
    for overlays, sees in (([], True), (["supervised_controller/no_glance.yaml"], False)):
        words = words_of("supervised_controller/default.yaml", *overlays, small_world=small_world)
        words += ["--data.init_args.features=f.safetensors", "--trainer.fast_dev_run=true"]
        cli = main.cli_main(words, run=False)
        assert cli is not None
        assert cli.model.feature_widths == {"free": 19, "question": 5, "glance": 6 * sees, "vision": 0}
        batch = next(iter(cli.datamodule.train_dataloader()))
        known = (batch.budget_ms_B, batch.free_BF, batch.question_BD)
        seen, other = (cli.model.before_image(*known, glance) for glance in (batch.glance_BD, -batch.glance_BD))
        assert torch.allclose(seen, other) != sees
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)


def test_the_original_recipes_hold_the_original_hyper_parameters() -> None:
    for module, batch_size, max_epochs in (*zip(MODULES, (64, 32, 32), (50, 100, 100), strict=True),):
        config = yaml.safe_load((CONFIGS / module / "original.yaml").read_text())
        trainer = yaml.safe_load((CONFIGS / module / config["trainer"]).read_text())
        assert config["seed_everything"] == config["data"]["init_args"]["split_seed"] == 42
        assert config["optimizer"]["init_args"]["lr"] == 1e-4
        assert config["data"]["init_args"]["batch_size"] == batch_size
        assert config["data"]["init_args"]["train_fraction"] == 0.8
        assert trainer["max_epochs"] == max_epochs
        if module != "supervised_controller":
            learning = config["model"]["init_args"]
            grpo = learning.get("objective", learning.get("setting_objective"))["init_args"]
            assert (grpo["group_size"], grpo["advantage"]) == (5, "zscore")
            assert learning["reward"]["init_args"] == {"alpha": 1.0, "beta": 0.5}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_data_of_each_recipe_is_accepted_as_it_ships(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    cli = main.cli_main(["--config", str(CONFIGS / recipe)], run=False)
    assert cli is not None
    assert isinstance(cli.datamodule, ControllerDataModule)
    assert bool(cli.datamodule.answers) == recipe.endswith("default.yaml")
    assert cli.datamodule.fractions.train == (0.5 if cli.datamodule.answers else 0.8)
    trained, measured = (len(part) for part in (cli.datamodule.trained, cli.datamodule.parts["train"]))
    assert trained > 10 * measured if cli.datamodule.answers else trained == measured


def _logged_keys(folder: Path) -> set[str]:
    keys: set[str] = set()
    for file in folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        keys |= set(events.Tags()["scalars"])
    return keys - {"epoch"}


def _documented_keys(parts: list[str]) -> set[str]:
    page = (CONFIGS.parent / "docs" / "metrics.md").read_text()
    text = page.split("## Controllers\n")[1].split("\n## ")[0]
    keys: set[str] = set()
    listed = re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE)
    prices = [key.replace("<edge>", edge) for key in listed if "<edge>" in key for edge in EDGES]
    for key in [*(key for key in listed if "<edge>" not in key), *prices]:
        for stage, part, knob, budget in product(("val", "test"), parts, [*KNOBS, "all_knobs"], ("18", "30")):
            for level in KNOBS.get(knob, [""]):
                filled = key.replace("<stage>", stage).replace("[/<part>]", part).replace("<budget>", budget)
                filled = filled.replace("<knob>", knob).replace("<level>", level)
                if not filled.startswith(("val/share/all", "test/share/all")):
                    keys.add(filled)
    return keys


@pytest.mark.parametrize(
    ("configs", "parts", "without"),
    [
        (["grpo_controller/default.yaml"], [""], PRICES),
        (["grpo_controller/default.yaml", "reward/lagrangian.yaml"], [""], set()),
        (
            ["two_stage_controller/original.yaml"],
            ["/tier", "/setting"],
            # The tier's cross-entropy draws no groups.
            {"reward_std/tier", "frac_groups_zero_std/tier", "kl/tier", "clipped_fraction/tier", *PRICES},
        ),
    ],
)
def test_a_fit_logs_what_the_documentation_lists(
    configs: list[str], parts: list[str], without: set[str], small_world: Path
) -> None:
    main.cli_main(["fit", *words_of(*configs, small_world=small_world), "--observers=[]"])
    missing = {f"train/{name}" for name in without}
    assert _logged_keys(Path("runs/version_0")) == _documented_keys(parts) - missing


def test_a_fit_ends_with_its_report_and_its_checkpoint_is_tested_again(
    small_world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of("two_stage_controller/default.yaml", small_world=small_world)
    main.cli_main(["fit", *words])
    report = Path("runs/version_0/report")
    names = {
        *("controllers.json", "controllers.md", "controllers.tex", "goodput.png", "by_budget.md", "by_budget.tex"),
        *("tier_confusion.png", "tier_confusion_by_budget.png", "levels.png"),
    }
    assert {path.name for path in report.iterdir()} == names
    assert re.search(r"oracle_realised +\d\.\d{3} +(better|tie)", capsys.readouterr().out)
    first = json.loads((report / "controllers.json").read_text())
    checkpoint = "--ckpt_path=runs/version_0/checkpoints/best.ckpt"
    main.cli_main(["test", *words, checkpoint, "--verbose=false"])
    again = json.loads(Path("runs/version_1/report/controllers.json").read_text())
    assert again == first
    cli = main.cli_main(["predict", *words, checkpoint, "--return_predictions=true"])
    assert cli is not None


def _failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["main.py", *words])
    with pytest.raises(SystemExit) if "text" in words[-1] else _nothing():
        assert main.main() != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line or "budgets_ms" in line]
    return " ".join(lines)


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ("[0.0, 20.0]", r"budgets_ms\[0\]: must be a positive number of milliseconds, got 0.0"),
        ("[20.0, -5.0]", r"budgets_ms\[1\]: must be a positive number of milliseconds, got -5.0"),
        ("[.nan]", r"budgets_ms\[0\]: must be a positive number of milliseconds, got nan"),
        ("[]", "budgets_ms: needs at least one budget"),
        ("[text]", "budgets_ms"),
    ],
)
def test_a_wrong_budget_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_world: Path, budgets: str, said: str
) -> None:
    words = words_of("supervised_controller/default.yaml", small_world=small_world)
    assert re.search(said, _failure(monkeypatch, capsys, "fit", *words, f"--data.init_args.budgets_ms={budgets}"))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "said"), [(None, "error: a.parquet: no such file"), (b"PAR1", "error: a.parquet: not a Parquet file")]
)
def test_answers_that_cannot_be_read_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small_world: Path,
    content: bytes | None,
    said: str,
) -> None:
    if content is not None:
        Path("a.parquet").write_bytes(content)
    words = words_of("supervised_controller/default.yaml", small_world=small_world)
    assert _failure(monkeypatch, capsys, "fit", *words, "--data.init_args.answers=[a.parquet]").startswith(said)
    assert not Path("runs").exists()


def test_a_profile_that_lacks_settings_and_one_of_another_grid_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_world: Path
) -> None:
    words = words_of("supervised_controller/default.yaml", small_world=small_world)
    main.cli_main(["fit", *words, "--observers=[]"])
    checkpoint = "--ckpt_path=runs/version_0/checkpoints/best.ckpt"
    write_world(Path("other.parquet"), num_images=40, grid=spread_grid(16, top_k=(4, 6), block_counts=(8, 12, 16)))
    said = _failure(monkeypatch, capsys, "test", *words, checkpoint, "--data.init_args.files=[other.parquet]")
    assert re.search(r"chooses among .*top_k \[4, 8\].* but the profile has .*top_k \[4, 6\]", said)
    from profiling.records import write_profile  # noqa: PLC0415

    rows = world_rows(num_images=40)
    full = GRID.settings()[-1]
    is_full = (rows["tier"] == full.tier) & (rows["top_k"] == full.top_k) & (rows["num_active_blocks"] == 16)
    write_profile(world_table(rows[~is_full]), Path("lacking.parquet"))
    said = _failure(monkeypatch, capsys, "fit", *words, "--data.init_args.files=[lacking.parquet]")
    assert "lacks 1 of the 18 settings of its grid, first tier high, top_k 8, 16 active blocks" in said


def _compare(small_world: Path, **changes: Any) -> list[str]:
    recipes = [
        {"name": "exact", "configs": [str(CONFIGS / "supervised_controller/default.yaml")]},
        {"name": "two_stage", "configs": [str(CONFIGS / "two_stage_controller/default.yaml")]},
    ]
    content = {
        "recipes": recipes,
        "shared": [str(CONFIGS / "trainer/quiet.yaml"), str(small_world)],
        "seeds": [0, 1],
        "curves": ["exact"],
        "output_dir": "compared",
        "fits_dir": "fits",
        **changes,
    }
    Path("compare.yaml").write_text(yaml.safe_dump(content))
    return ["compare-controllers", "--config", "compare.yaml"]


def test_controllers_are_compared_and_a_second_start_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_world: Path
) -> None:
    words = _compare(small_world)
    main.cli_main(words)
    out = Path("compared")
    written = {path.name for path in out.iterdir()}
    assert written >= {
        "controllers.md",
        "controllers.json",
        "seeds.md",
        "knobs.tex",
        "goodput.png",
        "learning_curves.png",
    }
    content = json.loads((out / "controllers.json").read_text())
    names = {policy["name"] for policy in content["policies"]}
    assert names >= {"exact", "two_stage", "knn", "plug_in", "lut_mean", "oracle_realised", "best_static_per_budget"}
    seeds = json.loads((out / "seeds.json").read_text())
    assert seeds["default"] == content["reference"] == seeds["rows"][0]["row"]
    assert max(seeds["rows"], key=lambda row: row["val_goodput"]["mean"]) == seeds["rows"][0]
    times = {path: path.stat().st_mtime_ns for path in Path("fits").rglob("seed_*.json")}
    assert len(times) == 4
    fits = [json.loads(path.read_text()) for path in times]
    assert len({json.dumps(fit["chosen"]) for fit in fits if fit["row"] == "exact"}) == 2  # seeds differ
    main.cli_main(words)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    small_world.write_text(small_world.read_text() + "\n# changed\n")
    assert "was trained by other configs" in _failure(monkeypatch, capsys, *words)
    assert "curves: must be of the recipes exact, two_stage, got 'grpo'" in _failure(
        monkeypatch, capsys, *_compare(small_world, curves=["grpo"])
    )


@pytest.mark.slow
def test_fits_side_by_side_are_those_in_turn(small_world: Path) -> None:
    recipe = {"name": "exact", "configs": [str(CONFIGS / "supervised_controller/default.yaml")]}
    for processes in (1, 2):
        folders = {"fits_dir": f"fits_{processes}", "output_dir": f"compared_{processes}"}
        main.cli_main(_compare(small_world, recipes=[recipe], processes=processes, **folders))
    in_turn, side_by_side = (
        [json.loads(path.read_text()) for path in sorted(Path(f"fits_{processes}").rglob("seed_*.json"))]
        for processes in (1, 2)
    )
    assert len(in_turn) == 2
    for one, other in zip(in_turn, side_by_side, strict=True):
        assert {**one, "seconds": 0.0} == {**other, "seconds": 0.0}


def test_the_shipped_comparison_names_configs_that_are_there() -> None:
    content = yaml.safe_load((CONFIGS / "compare_controllers.yaml").read_text())
    for recipe in content["recipes"]:
        for config in [*recipe["configs"], *content["shared"]]:
            assert (CONFIGS.parent / config).is_file(), config
    assert len(content["seeds"]) >= 5


def test_every_objective_and_reward_that_ships_is_a_row_of_the_comparison() -> None:
    content = yaml.safe_load((CONFIGS / "compare_controllers.yaml").read_text())
    compared = {config for recipe in content["recipes"] for config in recipe["configs"]}
    assert {f"configs/{overlay}" for overlay in OVERLAYS} <= compared


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(small_world: Path) -> None:
    words = words_of("supervised_controller/default.yaml", small_world=small_world)
    common = [sys.executable, str(CONFIGS.parent / "main.py"), "fit", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    two = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.init_args.batch_size=4"]
    for more in ([], two):
        subprocess.run([*common, *more], check=True, env=environment, capture_output=True, timeout=200)
    one, both = (json.loads(Path(f"runs/version_{v}/report/controllers.json").read_text()) for v in range(2))
    for policy, other in zip(one["policies"], both["policies"], strict=True):
        assert policy["name"] == other["name"]
        assert policy["goodput"]["value"] == pytest.approx(other["goodput"]["value"], rel=1e-3)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--data.init_args.batch_size=0", "error: batch_size: must be 1 or more, got 0"),
        (
            "--model.init_args.reads=[vision]",
            "error: reads: vision is not known before the tier is chosen, got ['vision']",
        ),
    ],
)
def test_what_a_class_says_of_its_arguments_is_all_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_world: Path, word: str, said: str
) -> None:
    words = words_of("supervised_controller/default.yaml", small_world=small_world)
    assert _failure(monkeypatch, capsys, "fit", *words, word).splitlines()[-1] == said
