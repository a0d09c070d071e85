"""The ``prune`` command: search the blocks to leave out, and write the block table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
from rich.console import Console

from models.checkpoint import snapshot_directory
from models.weights_digest import weights_digest
from profiling.block_table import BlockTable, TableEntry
from profiling.files import write_json, written_whole
from profiling.pruning.plans import SearchPlan
from profiling.pruning.pruner import REPORT_PART, SEARCH_PART, Pruner
from profiling.pruning.report import (
    Choice,
    SearchResult,
    plot_choices,
    recommendation_table,
    results_json,
    search_table,
)
from profiling.pruning.searches import Space
from profiling.subsets.evaluations import Machine, open_evaluations
from profiling.subsets.job import check_pinned
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.retry import Retries


def prune(
    evaluated: EvaluatedModel,
    output_dir: Path,
    *,
    searches: list[SearchPlan],
    counts: tuple[int, ...] = (8, 10, 12, 14, 16),
    pinned: tuple[int, ...] = (0,),
    num_samples: int = 128,
    report_samples: int = 1000,
    device: Literal["cpu", "cuda"] = "cpu",
    devices: int = 1,
    num_threads: int | None = None,
    retries: Retries | None = None,
    ray_address: str | None = None,
) -> None:
    """Search the blocks to leave out for each number of active blocks, and write them as a block table.

    Every subset is scored on the same samples of every dataset. Of what the searches found, the subset whose answers
    are most right on the samples of the search is chosen (of equals the one closest to the whole model), and scored on
    other samples. Each result has a file of its own in ``output_dir/results``: started again, the command goes on where
    it stopped. Writes ``block_table.json``, ``recommendation.md`` and ``.tex``, ``searches.json``, ``.md`` and
    ``.tex``, and ``pruning.png``; failures go to ``failures.jsonl``.

    Args:
        evaluated: The model, the datasets and the way that it is asked.
        output_dir: Folder of the results.
        searches: How to search. Those of one objective can be compared, and with an exhaustive one have a regret.
        counts: Numbers of active blocks in the table.
        pinned: Blocks that always run.
        num_samples: Samples of each dataset's train part that subsets are chosen by.
        report_samples: Samples of each dataset's validation part that the chosen ones are scored on.
        device: Where to run.
        devices: How many devices of that kind; subsets are shared out among them, one process each.
        num_threads: CPU threads of each process; PyTorch's choice if null.
        retries: What to do after a CUDA error; three times after a minute each if null.
        ray_address: Of a Ray cluster, whose devices are used instead of this machine's; ``auto`` on one of its own.

    Raises:
        ValueError: If the model, a dataset, a block or a number is not there or out of range, there are too few devices
            or samples, or a result file is damaged.
        RuntimeError: If a subset failed as often as it may.
    """
    console = Console()
    space = Space(num_blocks=evaluated.config().num_blocks, pinned=tuple(sorted(pinned)))
    _check(space, counts, searches)
    evaluated.data.check_parts_differ()
    machine = Machine(
        device=device,
        devices=devices,
        num_threads=num_threads,
        retries=retries or Retries(),
        ray_address=ray_address,
    )
    sizes = sorted({size for plan in searches for size in plan.sizes(num_samples)} | {num_samples})
    with open_evaluations(
        evaluated, output_dir, machine, num_samples={SEARCH_PART: sizes, REPORT_PART: [report_samples]}
    ) as evaluations:
        pruner = Pruner(
            evaluations=evaluations,
            space=space,
            counts=counts,
            num_samples=num_samples,
            report_samples=report_samples,
            console=console,
        )
        try:
            results = [result for plan in searches for result in pruner.search(plan)]
            choices = pruner.choose(results)
        except KeyboardInterrupt:
            console.print("interrupted: what was measured is kept, the same command goes on with the rest")
            raise
    table = BlockTable(
        model=evaluated.model.name,
        weights=weights_digest(snapshot_directory(evaluated.model.name)),
        random_weights=evaluated.model.random_weights,
        num_blocks=space.num_blocks,
        pinned=space.pinned,
        dataset_names=evaluated.data.dataset_names,
        search_samples=num_samples,
        report_samples=report_samples,
        by_count={
            count: TableEntry(active_blocks=choice.blocks, found_by=choice.found_by, score=choice.score)
            for count, choice in choices.items()
        },
    )
    _write(table, evaluated.label, choices, results, output_dir=output_dir, console=console)


def _check(space: Space, counts: Sequence[int], searches: Sequence[SearchPlan]) -> None:
    check_pinned(space.pinned, space.num_blocks)
    if not counts or len(set(counts)) != len(counts):
        raise ValueError(f"counts: needs at least one number of blocks and none twice, got {list(counts)}")
    fewest = max(1, len(space.pinned))
    for count in counts:
        if not fewest <= count <= space.num_blocks:
            raise ValueError(
                f"counts: must be {fewest} (the pinned blocks) to {space.num_blocks} (the model's), got {count}"
            )
        if count < space.num_blocks and not any(plan.counts is None or count in plan.counts for plan in searches):
            raise ValueError(f"searches: none of them looks for {count} blocks")
    for plan in searches:
        strangers = sorted(set(plan.counts or ()) - set(counts))
        if strangers:
            raise ValueError(f"searches.counts: expected some of counts, {list(counts)}, got {strangers[0]}")


def _write(
    table: BlockTable,
    label: str,
    choices: Mapping[int, Choice],
    results: Sequence[SearchResult],
    *,
    output_dir: Path,
    console: Console,
) -> None:
    names = ", ".join(table.dataset_names)
    subject = f"{label}; {table.report_samples} samples of each of {names}"
    recommendation = recommendation_table(choices, table.num_blocks, subject=subject)
    searched = search_table(results, subject=f"{label}; {table.search_samples} samples of each of {names}")
    recommendation.write(output_dir / "recommendation")
    searched.write(output_dir / "searches")
    write_json(output_dir / "searches.json", results_json(results))
    figure = plot_choices(choices, subject)
    with written_whole(output_dir / "pruning.png") as partial_file:
        figure.savefig(partial_file, dpi=150)
    plt.close(figure)
    table.write(output_dir / "block_table.json")
    searched.show(console)
    recommendation.show(console)
    console.print(f"wrote {output_dir / 'block_table.json'} and its tables")
