import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import auto_parser

import main
from profiling.environment import cpu_name
from profiling.importance.command import importance
from profiling.importance.scores import BlockScore
from profiling.subsets.model_evaluator import EvaluatedModel, ModelEvaluator
from tests.block_models import write_block_model

ROOT = Path(main.__file__).parent
OUT = Path("out")
WORKING = 1


def config(**changes: Any) -> Path:
    content: dict[str, Any] = {
        "evaluated": {
            "model": {"name": "model", "dtype": "float32"},
            "data": {"dataset_names": ["suite_scenes", "suite_counting"], "names_style": False},
            "tier": {"name": "one", "min_crops": 1, "max_crops": 1},
            "batch_size": 4,
        },
        "output_dir": str(OUT),
        "num_samples": 3,
        "num_threads": 1,
    }
    Path("importance.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return Path("importance.yaml")


def run(**changes: Any) -> None:
    main.cli_main(["importance", "--config", str(config(**changes))])


def test_a_run_leaves_scores_correlations_tables_and_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_block_model(Path("model"), 3, working=WORKING)
    run()
    assert sorted(path.name for path in OUT.iterdir()) == [
        "correlation_matrix_accuracy_drop.png",
        "correlation_matrix_kl.png",
        "correlations.md",
        "correlations.png",
        "correlations.tex",
        "cross_dataset_correlation.json",
        "evaluated.json",
        "heat_map_accuracy_drop.png",
        "heat_map_kl.png",
        "importance.md",
        "importance.tex",
        "importance_comparison_suite_counting.json",
        "importance_comparison_suite_counting.png",
        "importance_comparison_suite_scenes.json",
        "importance_comparison_suite_scenes.png",
        "merged_scores.json",
        "results",
        "samples-train-3.json",
        "samples-validation-3.json",
        "scatter_accuracy_drop.png",
        "scatter_kl.png",
    ]
    merged = json.loads((OUT / "merged_scores.json").read_text())
    assert merged["model"] == f"model, float32, tier one, {cpu_name()}"
    assert merged["dataset_names"] == ["suite_scenes", "suite_counting"]
    for part in ("train", "validation"):
        scores = merged["parts"][part]["scores"]
        assert set(scores) == set(BlockScore)
        for score in ("kl", "block_influence", "angular_distance", "taylor"):
            values = [block["value"] for block in scores[score]]
            assert values.index(max(values)) == WORKING, score
            assert all(block["low"] <= block["value"] <= block["high"] for block in scores[score])
        costs = merged["parts"][part]["costs"]
        assert costs["kl"]["forward_passes"] == 4 * 2
        assert costs["taylor"]["backward_passes"] == 2
    one = json.loads((OUT / "importance_comparison_suite_counting.json").read_text())
    assert one["task"] == "counting"
    assert one["parts"]["train"]["num_samples"] == 3
    assert one["parts"]["train"]["angular_spans"][-1]["last"] == 2
    correlations = json.loads((OUT / "cross_dataset_correlation.json").read_text())
    assert [pair["relation"] for pair in correlations["kl"]["pairs"]] == ["splits", "splits", "between_tasks"]
    assert "'data-agnostic' cannot be judged" in correlations["kl"]["sentence"]
    assert r"\begin{tabular}" in (OUT / "importance.tex").read_text()
    results = [json.loads(path.read_text()) for path in OUT.glob("results/*/*/*.json")]
    passes = sum(result["cost"]["forward_passes"] for result in results)
    assert re.search(rf"\b0 results found on disk\n{passes} forward passes of batches in", capsys.readouterr().out)
    monkeypatch.delattr(ModelEvaluator, "evaluate")
    run()  # from what is on disk
    printed = capsys.readouterr().out
    assert f"{len(results)} results found on disk\n" in printed
    assert "forward passes of batches" not in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": []}, "parts: needs at least one and none twice"),
        ({"parts": ["train", "train"]}, "parts: needs at least one and none twice"),
        ({"retries": {"most": -1}}, "retries.most: must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_measured_is_named(
    changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_block_model(Path("model"), 2)
    with pytest.raises((ValueError, SystemExit)) as ending:
        run(**changes)
    assert message in f"{ending.value} {capsys.readouterr().err}"
    assert not OUT.exists()


def test_a_dataset_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"dataset_names: expected some of .*, found 'suite_chess'"):
        main.cli_main(["importance", "--config", str(config()), "--evaluated.data.dataset_names=[suite_chess]"])


def test_two_workers_measure_what_one_does() -> None:
    write_block_model(Path("model"), 2)
    run(parts=["validation"], num_samples=2)
    alone = json.loads((OUT / "merged_scores.json").read_text())["parts"]["validation"]["scores"]
    run(parts=["validation"], num_samples=2, devices=2, output_dir="two")
    assert json.loads(Path("two/merged_scores.json").read_text())["parts"]["validation"]["scores"] == alone


def test_what_is_printed_is_what_this_run_did(capsys: pytest.CaptureFixture[str]) -> None:
    write_block_model(Path("model"), 2)
    run(parts=["validation"], num_samples=2)
    found = list(OUT.glob("results/*/*/*.json"))
    for path in OUT.glob("results/*/likelihood/*.json"):
        path.unlink()
    capsys.readouterr()
    run(parts=["validation"], num_samples=2)
    # Three subsets on two datasets of a batch each.
    assert f"{len(found) - 3} results found on disk\n6 forward passes of batches in" in capsys.readouterr().out


@pytest.mark.parametrize("files", [["nano"], ["nano", "nano_cpu"], ["molmoe_1b"]])
def test_every_config_builds(files: list[str]) -> None:
    folder = ROOT / "configs" / "importance"
    assert {path.stem for path in folder.glob("*.yaml")} == {"nano", "nano_cpu", "molmoe_1b"}
    parser = auto_parser(importance, as_positional=False)
    arguments = [word for name in files for word in ("--config", str(folder / f"{name}.yaml"))]
    built = parser.instantiate_classes(parser.parse_args(arguments))
    assert isinstance(built.evaluated, EvaluatedModel)
    assert built.parts == ("train", "validation")
    assert len(built.evaluated.data.dataset_names) >= 5
    assert built.device == ("cpu" if "nano_cpu" in files else "cuda")
