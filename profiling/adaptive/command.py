"""The ``compare-runs`` command: finished runs of the same requests side by side."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from profiling.adaptive.run_comparison import compare
from profiling.adaptive.run_files import read_run


def compare_runs(
    runs: list[Path],
    output_dir: Path,
    *,
    names: list[str] | None = None,
    reference: str | None = None,
    seed: int = 42,
) -> None:
    """Compare finished runs of adaptive inference that answered the same requests under the same budgets.

    Goodput is compared request by request with that of one run, with intervals over images and corrected p-values, over
    all budgets and under each. Writes ``comparison.json``, ``.md`` and ``.tex``, and ``comparison.png``.

    Args:
        runs: Folders of ``requests.parquet`` and ``totals.json``, as ``test`` writes them.
        output_dir: Where to write.
        names: What to call the runs, in their order; as their folders if null.
        reference: Name of the run that the others are compared with; the first one if null.
        seed: Of the resamplings.

    Raises:
        ValueError: If there are fewer than two runs, names are not one for each or not all different, no run is called
            like the reference, a folder cannot be read, requests differ, or an answer has no accuracy.
    """
    called = _check_names(runs, names)
    if reference is None:
        reference = called[0]
    if reference not in called:
        raise ValueError(f"reference: must be one of the runs {', '.join(called)}, got {reference!r}")
    found = [read_run(folder, name=name) for folder, name in zip(runs, called, strict=True)]
    comparison = compare(found, reference=reference, seed=seed)
    comparison.write(output_dir)
    console = Console()
    for table in comparison.summaries():
        table.show(console)
    console.print(f"wrote the comparison to {output_dir}", highlight=False)


def _check_names(runs: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    if len(runs) < 2:
        raise ValueError(f"runs: needs two or more to compare, got {len(runs)}")
    called = [folder.resolve().name for folder in runs] if names is None else list(names)
    if len(called) != len(runs):
        raise ValueError(f"names: must be one for each of the {len(runs)} runs, got {len(called)}: {', '.join(called)}")
    twice = [name for place, name in enumerate(called) if name in called[:place]]
    if twice:
        raise ValueError(f"names: two runs are called {twice[0]!r}; give each a name of its own")
    return called
