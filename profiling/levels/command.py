"""The ``levels`` command: find what levels of top_k could better mean, and write the level table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from rich.console import Console

from models.checkpoint import snapshot_directory
from models.engine import EngineName
from models.knobs import MOLMOE_1B_GRID, check_top_k, own_grid
from models.weights_digest import weights_digest
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.level_table import LevelTable
from profiling.levels.candidates import candidates
from profiling.levels.comparison import Compared, Measured, adopted, compare
from profiling.levels.figure import plot_levels
from profiling.levels.measurement import MassChanges, Measurement
from profiling.levels.report import levels_json, levels_table, matched_mass_table
from profiling.levels.timing import Timing
from profiling.subsets.evaluations import Machine
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.parts import REPORT_PART, SEARCH_PART
from profiling.subsets.retry import Retries


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What came out: every candidate compared, what scaled router weights change, and what that was measured on."""

    compared: Sequence[Compared]
    mass_changes: MassChanges
    vision_share: float
    engine: EngineName


def levels(
    evaluated: EvaluatedModel,
    output_dir: Path,
    *,
    top_k: tuple[int, ...] | None = None,
    block_counts: tuple[int, ...] | None = None,
    vision_reductions: tuple[int, ...] = (1, 2),
    num_samples: int = 500,
    report_samples: int = 1000,
    timing: Timing | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    num_threads: int | None = None,
    retries: Retries | None = None,
    ray_address: str | None = None,
    seed: int = 42,
) -> None:
    """Find what each level of top_k could better mean at the same mean number of experts, and write a level table.

    Compares, level by level, the plain number with fewer experts for vision tokens than for text tokens, and with
    other numbers by block, shared out by the blocks' weights and by samples. Accuracy is that on two parts of each
    dataset, time is measured in one run in random order. A meaning is adopted where it answers better on samples that
    it was not chosen by, and is shown to take no more time, but for 1 %.

    Each result has a file of its own in ``output_dir/results``: started again, the command goes on where it stopped;
    times are measured anew. Writes ``level_table.json``, ``levels.json``,
    ``levels.md`` and ``.tex``, ``levels.png``, and ``matched_mass.md`` and ``.tex``; failures go to ``failures.jsonl``.

    Args:
        evaluated: The model, the datasets and the way that it is asked.
        output_dir: Folder of the results.
        top_k: The levels; those that the model was trained for, else MolmoE-1B's, if null.
        block_counts: Experts that a block may have where blocks differ; 1 to the highest level if null.
        vision_reductions: By how many experts fewer for a vision token.
        num_samples: Samples of each dataset's train part that meanings are chosen by.
        report_samples: Samples of each dataset's validation part that decide.
        timing: How times are measured; as usual if null.
        device: Where to run.
        devices: How many devices of that kind; measurements of accuracy are shared out among them, one process each.
        num_threads: CPU threads of each process; PyTorch's choice if null.
        retries: What to do after a CUDA error; three times after a minute each if null.
        ray_address: Of a Ray cluster, whose devices are used instead of this machine's; ``auto`` on one of its own.
        seed: Of random tokens, of the order of timed runs and of the intervals.

    Raises:
        ValueError: If the model is dense, a dataset or a number is not there or out of range, there are too few devices
            or samples, or a result file is damaged.
        RuntimeError: If a measurement failed as often as it may.
    """
    console = Console()
    if num_threads is not None:
        torch.set_num_threads(num_threads)  # this process cuts pictures and takes the times
    evaluated.data.check_parts_differ()
    measurement = Measurement(
        evaluated=evaluated,
        output_dir=output_dir,
        top_k=_levels(evaluated, top_k),
        num_samples={SEARCH_PART: num_samples, REPORT_PART: report_samples},
        timing=timing or Timing(),
        machine=Machine(
            device=device,
            devices=devices,
            num_threads=num_threads,
            retries=retries or Retries(),
            ray_address=ray_address,
        ),
        console=console,
        seed=seed,
    )
    counts = _block_counts(measurement, block_counts)
    try:
        found = _found(measurement, counts, vision_reductions)
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, the same command goes on with the rest")
        raise
    _report(measurement, found)


def _levels(evaluated: EvaluatedModel, top_k: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the levels to look at.

    Raises:
        ValueError: If the model is dense, or a level is named twice.
    """
    if not evaluated.config().is_moe:
        raise ValueError(f"levels: {evaluated.model.name} is a dense model, which has no experts")
    usual = own_grid(evaluated.model.hf_config(), source=evaluated.model.name) or MOLMOE_1B_GRID
    found = usual.top_k if top_k is None else top_k
    if not found or len(set(found)) != len(found):
        raise ValueError(f"top_k: needs at least one level and none twice, got {list(found)}")
    return found


def _block_counts(measurement: Measurement, block_counts: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the experts that a block may have where blocks differ, rising.

    Raises:
        ValueError: If the model has not so many, or not those of a level.
    """
    counts = tuple(sorted(set(block_counts or range(1, max(measurement.top_k) + 1))))
    for count in (*measurement.top_k, *counts):
        check_top_k(count, num_experts=measurement.evaluated.config().num_experts)
    return counts


def _found(measurement: Measurement, counts: Sequence[int], reductions: Sequence[int]) -> _Found:
    vision_share = measurement.vision_share()
    found = candidates(
        measurement.top_k,
        vision_share=vision_share,
        reductions=reductions,
        losses=measurement.losses(counts),
        counts=counts,
        num_experts=measurement.evaluated.config().num_experts,
    )
    answers = measurement.answers(found)
    mass_changes = measurement.mass_changes(found, answers)
    times_ms, engine = measurement.times_ms(found)
    measured = [
        Measured(candidate=each, train=train, validation=validation, time_ms=time_ms)
        for each, (train, validation), time_ms in zip(found, answers, times_ms, strict=True)
    ]
    compared = compare(measured, seed=measurement.seed)
    return _Found(compared=compared, mass_changes=mass_changes, vision_share=vision_share, engine=engine)


def _report(measurement: Measurement, found: _Found) -> None:
    output_dir, console, num_samples = measurement.output_dir, measurement.console, measurement.num_samples
    table = _table(measurement, found)
    subject = (
        f"{measurement.evaluated.label}, {table.engine} on {table.device}; {num_samples[SEARCH_PART]} train and "
        f"{num_samples[REPORT_PART]} validation samples of each of {', '.join(table.dataset_names)}, times of "
        f"{measurement.timing.num_requests} of each"
    )
    compared_table = levels_table(found.compared, vision_share=found.vision_share, subject=subject)
    mass_table = matched_mass_table(found.mass_changes, subject=subject)
    compared_table.write(output_dir / "levels")
    mass_table.write(output_dir / "matched_mass")
    content = levels_json(found.compared, found.mass_changes, vision_share=found.vision_share)
    write_json(output_dir / "levels.json", content)
    figure = plot_levels(found.compared, subject)
    with written_whole(output_dir / "levels.png") as partial_file:
        figure.savefig(partial_file, dpi=150)
    plt.close(figure)
    table.write(output_dir / "level_table.json")
    compared_table.show(console)
    mass_table.show(console)
    console.print(f"wrote {output_dir / 'level_table.json'}, its tables and levels.png")


def _table(measurement: Measurement, found: _Found) -> LevelTable:
    evaluated, num_samples = measurement.evaluated, measurement.num_samples
    model = evaluated.model
    environment = collect_environment(
        measurement.machine.names[0], engine=found.engine, dtype=model.dtype, model=model.name
    )
    return LevelTable(
        model=model.name,
        weights=weights_digest(snapshot_directory(model.name)),
        random_weights=model.random_weights,
        num_blocks=evaluated.config().num_blocks,
        dataset_names=evaluated.data.dataset_names,
        search_samples=num_samples[SEARCH_PART],
        report_samples=num_samples[REPORT_PART],
        device=environment.device,
        engine=found.engine,
        by_top_k=adopted(found.compared),
    )
