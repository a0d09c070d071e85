"""The ``importance`` command: how much each block matters, by seven scores, and whether they agree over data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from rich.console import Console

from profiling.files import write_json, written_whole
from profiling.importance.consistency import Consistency, consistency
from profiling.importance.dataset_scores import DatasetScores
from profiling.importance.figures import (
    plot_comparison,
    plot_correlation_matrix,
    plot_correlations,
    plot_heat_map,
    plot_scatter,
)
from profiling.importance.report import (
    comparison_json,
    correlation_json,
    correlation_table,
    importance_table,
    merged_json,
)
from profiling.importance.scores import BlockScore, PartScores, importance_jobs, part_scores
from profiling.subsets.evaluations import Evaluations, Machine, open_evaluations
from profiling.subsets.job import Job, Outcome, Part
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.progress import counted
from profiling.subsets.retry import Retries


def importance(
    evaluated: EvaluatedModel,
    output_dir: Path,
    *,
    num_samples: int = 5000,
    parts: tuple[Part, ...] = ("train", "validation"),
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    num_threads: int | None = None,
    retries: Retries | None = None,
    ray_address: str | None = None,
    seed: int = 42,
) -> None:
    """Score how much each block matters on each dataset, and how far the scores agree between datasets.

    Measures the whole model and the model without each block, on the same samples of every dataset. Each result has a
    file of its own in ``output_dir/results``: started again, the command goes on where it stopped. Writes
    ``importance_comparison_<dataset>.json`` and ``.png``, ``merged_scores.json``, ``cross_dataset_correlation.json``,
    the tables ``importance`` and ``correlations`` as ``.md`` and ``.tex``, heat maps, scatter plots and correlation
    matrices of accuracy drop and divergence, and ``correlations.png``; failures go to ``failures.jsonl``.

    Args:
        evaluated: The model, the datasets and the way that it is asked.
        output_dir: Folder of the results.
        num_samples: Samples of each part of each dataset.
        parts: Parts of the datasets.
        device: Where to run.
        devices: How many devices of that kind; measurements are shared out among them, one process each.
        num_threads: CPU threads of each process; PyTorch's choice if null.
        retries: What to do after a CUDA error; three times after a minute each if null.
        ray_address: Of a Ray cluster, whose devices are used instead of this machine's; ``auto`` on one of its own.
        seed: Of the intervals and the random score.

    Raises:
        ValueError: If the model, a dataset or a number is not there or out of range, there are too few devices or
            samples, or a result file is damaged.
        RuntimeError: If a measurement failed as often as it may.
    """
    console = Console()
    num_blocks = evaluated.config().num_blocks
    if not parts or len(set(parts)) != len(parts):
        raise ValueError(f"parts: needs at least one and none twice, got {list(parts)}")
    if len(parts) > 1:
        evaluated.data.check_parts_differ()
    machine = Machine(
        device=device,
        devices=devices,
        num_threads=num_threads,
        retries=retries or Retries(),
        ray_address=ray_address,
    )
    jobs_of_parts = [importance_jobs(part, num_blocks=num_blocks, num_samples=num_samples) for part in parts]
    with open_evaluations(
        evaluated, output_dir, machine, num_samples={part: [num_samples] for part in parts}
    ) as evaluations:
        try:
            measured = _measure(evaluations, console, jobs_of_parts)
        except KeyboardInterrupt:
            console.print("interrupted: what was measured is kept, the same command goes on with the rest")
            raise
    label = f"{evaluated.label}, {machine.hardware}"
    scored = [
        part_scores(jobs, outcomes, label=label, num_blocks=num_blocks, seed=seed)
        for jobs, outcomes in zip(jobs_of_parts, measured, strict=True)
    ]
    found = {score: consistency(score, scored, seed=seed) for score in BlockScore}
    _write_json(scored, found, output_dir, seed=seed)
    draw_figures(output_dir)
    correlations = correlation_table(found, label=label)
    correlations.write(output_dir / "correlations")
    table = importance_table(scored[-1], seed=seed)
    table.write(output_dir / "importance")
    table.show(console)
    correlations.show(console)
    console.print(f"wrote tables, figures and merged_scores.json into {output_dir}")


def draw_figures(output_dir: Path) -> None:
    """Draw all figures of a folder from its JSON files.

    Args:
        output_dir: Folder of the results of a run.
    """
    names = _read(output_dir / "merged_scores.json")["dataset_names"]
    datasets = [DatasetScores.from_json(_read(_path(output_dir, name, ".json"))) for name in names]
    correlations = _read(output_dir / "cross_dataset_correlation.json")
    found = {BlockScore(score): Consistency.from_json(each) for score, each in correlations.items()}
    for each in datasets:
        _save(plot_comparison(each), _path(output_dir, each.dataset, ".png"))
    for score in (BlockScore.ACCURACY_DROP, BlockScore.KL):
        _save(plot_heat_map(score, datasets), output_dir / f"heat_map_{score}.png")
        _save(plot_scatter(score, datasets), output_dir / f"scatter_{score}.png")
        _save(plot_correlation_matrix(found[score], datasets), output_dir / f"correlation_matrix_{score}.png")
    _save(plot_correlations(found, datasets), output_dir / "correlations.png")


def _measure(evaluations: Evaluations, console: Console, jobs_of_parts: Sequence[Sequence[Job]]) -> list[list[Outcome]]:
    start = perf_counter()
    with counted(console, "measuring", sum(map(len, jobs_of_parts))) as advance:
        measured = [evaluations.outcomes(jobs, advance) for jobs in jobs_of_parts]
    cost, wall_s = evaluations.spent, perf_counter() - start
    console.print(f"{evaluations.num_found} results found on disk")
    if cost.forward_passes:
        console.print(
            f"{cost.forward_passes} forward passes of batches in {wall_s:.1f} s, loading and encoding included, "
            f"{cost.forward_passes / wall_s:.1f} a second"
        )
    if cost.peak_memory_mib:
        console.print(f"most memory of a GPU: {cost.peak_memory_mib:,.0f} MiB")
    return measured


def _write_json(
    scored: Sequence[PartScores], found: Mapping[BlockScore, Consistency], output_dir: Path, *, seed: int
) -> None:
    for name in scored[0].values:
        write_json(_path(output_dir, name, ".json"), comparison_json(name, scored, seed=seed))
    write_json(output_dir / "merged_scores.json", merged_json(scored, seed=seed))
    write_json(output_dir / "cross_dataset_correlation.json", correlation_json(found))


def _path(output_dir: Path, name: str, suffix: str) -> Path:
    """Return the file of a dataset, which may be named by a path."""
    return output_dir / f"importance_comparison_{name.replace('/', '_')}{suffix}"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _save(figure: Figure, path: Path) -> None:
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
