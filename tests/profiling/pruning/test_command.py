import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import auto_parser
from safetensors.torch import load_file, save_file

import main
from models.config import MolmoConfig
from models.knobs import STANDARD_TIERS
from profiling.block_table import read_block_table
from profiling.environment import collect_environment
from profiling.pruning.command import prune
from profiling.subsets.job import Job, Outcome
from profiling.subsets.model_evaluator import EvaluatedModel, ModelEvaluator
from tests.block_models import block_hf_config, write_block_model

ROOT = Path(main.__file__).parent
CONFIGS = ROOT / "configs" / "pruning"
OUT = Path("out")
SEARCHES: list[dict[str, Any]] = [
    {"method": "one_shot"},
    {"method": "beam", "width": 2},
    {"method": "evolutionary", "generations": 1, "offspring": 2},
    {"method": "exhaustive", "counts": [3]},
]


@pytest.fixture(autouse=True)
def _snapshot() -> None:
    write_block_model(Path("model"), 4, working=2)


def config(**changes: Any) -> Path:
    content: dict[str, Any] = {
        "evaluated": {
            "model": {"name": "model", "dtype": "float32"},
            "data": {"dataset_names": ["suite_scenes", "suite_counting"], "names_style": False},
            "tier": {"name": "one", "min_crops": 1, "max_crops": 1},
            "batch_size": 4,
        },
        "output_dir": str(OUT),
        "searches": SEARCHES,
        "counts": [2, 3, 4],
        "num_samples": 3,
        "report_samples": 2,
        "num_threads": 1,
    }
    Path("prune.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return Path("prune.yaml")


def run(**changes: Any) -> None:
    main.cli_main(["prune", "--config", str(config(**changes))])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that a model was asked for in this process."""
    jobs: list[Job] = []
    evaluate = ModelEvaluator.evaluate

    def counted(self: ModelEvaluator, job: Job) -> Outcome:
        jobs.append(job)
        return evaluate(self, job)

    monkeypatch.setattr(ModelEvaluator, "evaluate", counted)
    return jobs


def result_files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in OUT.glob("results/*/*/*.json")}


def test_a_run_leaves_a_block_table_tables_and_a_figure(
    capsys: pytest.CaptureFixture[str], measured: list[Job]
) -> None:
    run()
    assert sorted(path.name for path in OUT.iterdir()) == [
        "block_table.json",
        "evaluated.json",
        "pruning.png",
        "recommendation.md",
        "recommendation.tex",
        "results",
        "samples-train-3.json",
        "samples-validation-2.json",
        "searches.json",
        "searches.md",
        "searches.tex",
    ]
    table = read_block_table(OUT / "block_table.json")
    assert sorted(table.by_count) == [2, 3, 4]
    assert table.by_count[4].active_blocks == (0, 1, 2, 3)
    assert table.by_count[2].active_blocks == (0, 2)  # the block that does the work, and the pinned one
    assert table.by_count[2].score.num_datasets == 2
    assert table.dataset_names == ("suite_scenes", "suite_counting")
    grid = table.grid(MolmoConfig.from_hf(block_hf_config(4)), tiers=STANDARD_TIERS, top_k=(1, 2))
    assert grid.blocks_by_count[2] == (0, 2)
    machine = collect_environment("cpu", engine="eager", dtype="float32", model="model").device
    recommendation = (OUT / "recommendation.md").read_text()
    assert f"model, float32, tier one, on {machine}; 2 samples of each of" in recommendation
    gain = table.by_count[2].gain
    assert gain is not None
    assert f"{gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}]" in recommendation
    found = json.loads((OUT / "searches.json").read_text())
    regrets = {(row["search"], row["num_active_blocks"]): row["regret"] for row in found}
    assert regrets["exhaustive (kl)", 3] == 0.0
    assert regrets["beam 2 (kl)", 3] == 0.0  # a first step scores every removal
    assert regrets["beam 2 (kl)", 2] is None
    assert "kl_regret" in found[0]
    assert len(measured) == len(set(measured)) == len(result_files())
    assert "exhaustive (kl)" in capsys.readouterr().out
    before = result_files()
    (OUT / "block_table.json").unlink()
    measured.clear()
    run()
    assert not measured
    assert result_files() == before
    assert read_block_table(OUT / "block_table.json").by_count == table.by_count


def test_a_killed_run_is_finished_by_the_same_command_and_nothing_is_measured_twice(measured: list[Job]) -> None:
    arguments = ["prune", "--config", str(config())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(result_files()) < 4:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = result_files()
    main.cli_main(arguments)
    after = result_files()
    assert {path: after[path] for path in kept} == kept
    assert len(measured) == len(set(measured)) == len(after) - len(kept) > 0
    assert read_block_table(OUT / "block_table.json").by_count[2].active_blocks == (0, 2)


def test_a_damaged_result_is_named_and_others_stay(measured: list[Job]) -> None:
    run(searches=SEARCHES[:1])
    path = OUT / "results/train-3/likelihood/0-2-3.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match=r"likelihood/0-2-3\.json: .*remove the file to measure it again"):
        run(searches=SEARCHES[:1])
    measured.clear()
    path.unlink()
    run(searches=SEARCHES[:1])
    assert [job.blocks for job in measured] == [(0, 2, 3)]


def test_other_weights_or_datasets_in_the_folder_are_refused() -> None:
    run(searches=SEARCHES[:1], counts=[3])
    with pytest.raises(ValueError, match=r"out/evaluated\.json describes results of another data;"):
        main.cli_main(["prune", "--config", str(config()), "--evaluated.data.dataset_names=[suite_scenes]"])
    weights = Path("model/model.safetensors")
    save_file({name: -tensor for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match=r"out/evaluated\.json describes results of another weights;"):
        run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [2, 5]}, r"counts: must be 1 \(the pinned blocks\) to 4 \(the model's\), got 5"),
        ({"counts": []}, "counts: needs at least one number of blocks"),
        ({"counts": [1, 4], "pinned": [0, 1]}, "counts: must be 2"),
        ({"pinned": [4]}, "pinned: the model has blocks 0 to 3, got 4"),
        ({"searches": SEARCHES[3:]}, "searches: none of them looks for 2 blocks"),
        ({"searches": [*SEARCHES, {"method": "exhaustive", "counts": [1]}]}, "searches.counts: expected some of"),
        (
            {"counts": [3, 4], "searches": [{"method": "beam", "pinned": []}]},
            r"searches: none of those for 3 blocks pins \[0\], which the block table does",
        ),
        ({"searches": [*SEARCHES, {"method": "beam", "pinned": [5]}]}, "pinned: the model has blocks 0 to 3, got 5"),
        ({"searches": [*SEARCHES, {"method": "beam", "pinned": [0, 1, 2]}]}, "searches.pinned: 3 blocks are more"),
        ({"devices": 0}, "devices: must be 1 or more, got 0"),
        ({"num_samples": 0}, "suite_scenes: train: num_samples: expected 1 or more, found 0"),
    ],
)
def test_what_cannot_be_pruned_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**changes)
    assert not (OUT / "results").exists()


@pytest.mark.parametrize("name", ["nano", "molmoe_1b"])
def test_every_config_builds(name: str) -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"nano", "molmoe_1b", "nano_cpu"}
    parser = auto_parser(prune, as_positional=False)
    built = parser.instantiate_classes(parser.parse_args(["--config", str(CONFIGS / f"{name}.yaml")]))
    assert isinstance(built.evaluated, EvaluatedModel)
    assert built.counts == (8, 10, 12, 14, 16)
    assert built.retries.wait_s == 60
    assert (built.pinned, [plan.name for plan in built.searches if plan.pinned is not None]) == (
        (0,),
        ["beam 3 (accuracy, pinned none)"],
    )
    assert {plan.method for plan in built.searches} == {"one_shot", "greedy", "beam", "evolutionary", "exhaustive"}


def test_a_cpus_config_changes_nanos() -> None:
    parser = auto_parser(prune, as_positional=False)
    files = [argument for name in ("nano", "nano_cpu") for argument in ("--config", str(CONFIGS / f"{name}.yaml"))]
    built = parser.instantiate_classes(parser.parse_args(files))
    assert (built.device, built.evaluated.model.dtype, built.pinned) == ("cpu", "float32", (0,))
    assert [plan.name for plan in built.searches] == ["greedy (kl)", "beam 3 (kl)"]
