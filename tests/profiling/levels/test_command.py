import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import auto_parser

import main
from models.config import MolmoConfig
from models.molmo import Molmo
from profiling.level_table import read_level_table
from profiling.levels.command import levels
from profiling.model_source import GridLevels, ModelSource
from profiling.subsets.job import Job, Outcome
from profiling.subsets.model_evaluator import EvaluatedModel, ModelEvaluator
from tests.block_models import block_hf_config, write_block_model

ROOT = Path(main.__file__).parent
CONFIGS = ROOT / "configs" / "levels"
OUT = Path("out")
CONFIG: dict[str, Any] = {
    "evaluated": {
        "model": {"name": "model", "dtype": "float32"},
        "data": {"dataset_names": ["suite_scenes", "suite_counting"], "names_style": False},
        "tier": {"name": "one", "min_crops": 1, "max_crops": 1},
        "batch_size": 4,
    },
    "output_dir": str(OUT),
    "top_k": [1, 2],
    "num_samples": 3,
    "report_samples": 2,
    "timing": {"num_requests": 1, "new_tokens": 2, "repeats": 1},
    "num_threads": 1,
}


@pytest.fixture(autouse=True)
def _snapshot() -> None:
    write_block_model(Path("model"), 3)


def run(**changes: Any) -> None:
    Path("levels.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
    main.cli_main(["levels", "--config", "levels.yaml"])


def test_a_run_leaves_a_level_table_tables_and_a_figure_and_measures_no_answer_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs: list[Job] = []
    evaluate = ModelEvaluator.evaluate

    def counted(self: ModelEvaluator, job: Job) -> Outcome:
        jobs.append(job)
        return evaluate(self, job)

    monkeypatch.setattr(ModelEvaluator, "evaluate", counted)
    run()
    files = ["level_table.json", "levels.json", "levels.md", "levels.png", "levels.tex", "matched_mass.md"]
    assert {*files, "results", "matched_mass"} <= {path.name for path in OUT.iterdir()}
    table = read_level_table(OUT / "level_table.json")
    assert (sorted(table.by_top_k), table.num_blocks, table.engine) == ([1, 2], 3, "eager")
    found = json.loads((OUT / "levels.json").read_text())
    assert {each["candidate"]["kind"] for each in found["candidates"]} >= {"uniform"}
    assert all(each["mean_experts"] <= each["candidate"]["top_k"] + 1e-9 for each in found["candidates"])
    assert 0 < found["vision_share"] < 1
    # The block model was trained with one expert: matching its mass changes the other level only.
    assert found["matched_router_mass"]["1"]["change"]["value"] == 0
    measured = len(jobs)
    assert measured > 0
    run()
    assert len(jobs) == measured
    config = MolmoConfig.from_hf(block_hf_config(3))
    grid = GridLevels(top_k=(1, 2), num_active_blocks=(2,), level_table=str(OUT / "level_table.json")).grid(config)
    assert dict(grid.experts_by_top_k) == table.experts_by_top_k(config, (1, 2))


def test_the_model_is_let_go_of_before_others_load_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[Molmo]] = []
    alive: list[int] = []
    load = ModelSource.load

    def noted(self: ModelSource, device: str) -> Molmo:
        model = load(self, device)
        loaded.append(weakref.ref(model))
        return model

    def cleaned() -> None:
        gc.collect()
        alive.append(sum(model() is not None for model in loaded))

    monkeypatch.setattr(ModelSource, "load", noted)
    monkeypatch.setattr("profiling.levels.measurement.clean_memory", cleaned)
    run()
    assert alive == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": [3]}, "top_k: must be 1 to 2"),
        ({"block_counts": [0, 1]}, "top_k: must be 1 to 2"),
        ({"top_k": [1, 1]}, r"top_k: needs at least one level and none twice, got \[1, 1\]"),
    ],
)
def test_levels_that_the_model_cannot_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**changes)


@pytest.mark.parametrize("name", ["nano", "molmoe_1b"])
def test_every_config_builds(name: str) -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"nano", "molmoe_1b", "nano_cpu"}
    parser = auto_parser(levels, as_positional=False)
    built = parser.instantiate_classes(parser.parse_args(["--config", str(CONFIGS / f"{name}.yaml")]))
    assert isinstance(built.evaluated, EvaluatedModel)
    assert built.vision_reductions == (1, 2)
    assert built.timing.repeats == 5


def test_a_cpus_config_changes_nanos() -> None:
    parser = auto_parser(levels, as_positional=False)
    files = [argument for name in ("nano", "nano_cpu") for argument in ("--config", str(CONFIGS / f"{name}.yaml"))]
    built = parser.instantiate_classes(parser.parse_args(files))
    assert (built.device, built.evaluated.model.dtype, built.vision_reductions) == ("cpu", "float32", (1,))
    assert built.evaluated.model.name == "assets/models/molmoe-nano-elastic"
