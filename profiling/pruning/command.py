"""The ``prune`` command: search the blocks to leave out, and write the block table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
from rich.console import Console

from models.checkpoint import snapshot_directory
from models.knobs import own_grid
from models.weights_digest import weights_digest
from profiling.block_table import BlockTable, TableEntry, TableGain
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.pruning.figure import plot_choices
from profiling.pruning.plans import SearchPlan
from profiling.pruning.pruner import Pruner
from profiling.pruning.report import recommendation_table, results_json, search_table
from profiling.pruning.results import Choice, Judgement, SearchResult
from profiling.pruning.searches import Space
from profiling.subsets.evaluations import Machine, open_evaluations
from profiling.subsets.job import Blocks, check_pinned
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.parts import REPORT_PART, SEARCH_PART
from profiling.subsets.retry import Retries


@dataclass(frozen=True, kw_only=True)
class _Pruned:
    """What came out: what searches found, what each subset is worth on their samples, and the chosen ones."""

    results: Sequence[SearchResult]
    judged: Mapping[Blocks, Judgement]
    choices: Mapping[int, Choice]


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

    Every subset is scored on the same samples of every dataset. Of what the searches found, evenly spread blocks and
    those that the model was trained with, the subset whose answers are most right on the samples of the search is
    chosen (of equals the one closest to the whole model), and scored on other samples. A subset for the table holds all
    of ``pinned``: what a search with fewer pinned blocks of its own found without one is shown, but never chosen.

    Each result has a file of its own in ``output_dir/results``: started again, the command goes on where it stopped.
    Writes ``block_table.json``, ``recommendation.md`` and ``.tex``, ``searches.json``, ``.md`` and ``.tex``, and
    ``pruning.png``; failures go to ``failures.jsonl``.

    Args:
        evaluated: The model, the datasets and the way that it is asked.
        output_dir: Folder of the results.
        searches: How to search. Those of one objective and the same pinned blocks can be compared, and with an
            exhaustive one have a regret.
        counts: Numbers of active blocks in the table.
        pinned: Blocks that always run; a search may name its own.
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
    trained = own_grid(evaluated.model.hf_config(), source=evaluated.model.name)
    sizes = sorted({size for plan in searches for size in plan.sizes(num_samples)} | {num_samples})
    with open_evaluations(
        evaluated, output_dir, machine, num_samples={SEARCH_PART: sizes, REPORT_PART: [report_samples]}
    ) as evaluations:
        pruner = Pruner(
            evaluations=evaluations,
            space=space,
            counts=counts,
            trained={} if trained is None else trained.blocks_by_count,
            num_samples=num_samples,
            report_samples=report_samples,
            console=console,
        )
        try:
            pruned = _pruned(pruner, searches)
        except KeyboardInterrupt:
            console.print("interrupted: what was measured is kept, the same command goes on with the rest")
            raise
    table = _table(evaluated, pruner, pruned.choices)
    label = f"{evaluated.label}, {_hardware(evaluated, machine)}"
    _report(table, label, pruned, output_dir=output_dir, console=console)
    table.write(output_dir / "block_table.json")
    console.print(f"wrote {output_dir / 'block_table.json'} and its tables")


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
    for plan in searches:
        strangers = sorted(set(plan.counts or ()) - set(counts))
        if strangers:
            raise ValueError(f"searches.counts: expected some of counts, {list(counts)}, got {strangers[0]}")
        _check_pins(plan, space, counts)
    for count in counts:
        finders = [plan for plan in searches if plan.wanted([count])]
        if count < space.num_blocks and not finders:
            raise ValueError(f"searches: none of them looks for {count} blocks")
        if count < space.num_blocks and not any(set(space.pinned) <= set(plan.space(space).pinned) for plan in finders):
            raise ValueError(
                f"searches: none of those for {count} blocks pins {list(space.pinned)}, which the block table does"
            )


def _check_pins(plan: SearchPlan, space: Space, counts: Sequence[int]) -> None:
    if plan.pinned is None:
        return
    check_pinned(plan.pinned, space.num_blocks)
    too_few = [count for count in plan.wanted(counts) if count < len(plan.pinned)]
    if too_few:
        raise ValueError(f"searches.pinned: {len(plan.pinned)} blocks are more than {too_few[0]} of counts")


def _pruned(pruner: Pruner, searches: Sequence[SearchPlan]) -> _Pruned:
    results = [result for plan in searches for result in pruner.search(plan)]
    judged = pruner.judge(results)
    return _Pruned(results=results, judged=judged, choices=pruner.score(pruner.choose(results, judged)))


def _hardware(evaluated: EvaluatedModel, machine: Machine) -> str:
    """Name what measured; the devices of a cluster are not this machine's."""
    if machine.ray_address is not None:
        return "on a Ray cluster"
    model = evaluated.model
    environment = collect_environment(machine.names[0], engine="eager", dtype=model.dtype, model=model.name)
    return f"on {environment.device}"


def _table(evaluated: EvaluatedModel, pruner: Pruner, choices: Mapping[int, Choice]) -> BlockTable:
    return BlockTable(
        model=evaluated.model.name,
        weights=weights_digest(snapshot_directory(evaluated.model.name)),
        random_weights=evaluated.model.random_weights,
        num_blocks=pruner.space.num_blocks,
        pinned=pruner.space.pinned,
        dataset_names=evaluated.data.dataset_names,
        search_samples=pruner.num_samples,
        report_samples=pruner.report_samples,
        by_count={
            count: TableEntry(
                active_blocks=choice.blocks,
                found_by=choice.found_by,
                score=choice.score,
                gain=TableGain(value=choice.gain.value, low=choice.gain.low, high=choice.gain.high),
            )
            for count, choice in choices.items()
        },
    )


def _report(table: BlockTable, label: str, pruned: _Pruned, *, output_dir: Path, console: Console) -> None:
    names = ", ".join(table.dataset_names)
    subject = f"{label}; {table.report_samples} samples of each of {names}"
    recommendation = recommendation_table(pruned.choices, table.num_blocks, subject=subject)
    searched = search_table(
        pruned.results,
        pruned.judged,
        pinned=table.pinned,
        subject=f"{label}; {table.search_samples} samples of each of {names}",
    )
    recommendation.write(output_dir / "recommendation")
    searched.write(output_dir / "searches")
    write_json(output_dir / "searches.json", results_json(pruned.results, pruned.judged))
    figure = plot_choices(pruned.choices, subject)
    with written_whole(output_dir / "pruning.png") as partial_file:
        figure.savefig(partial_file, dpi=150)
    plt.close(figure)
    searched.show(console)
    recommendation.show(console)
