"""Tables and JSON of what pruning found: how right chosen subsets are, how far searches stay below the best."""

from collections.abc import Mapping, Sequence
from typing import Any

from profiling.block_table import TableScore
from profiling.markup import Table
from profiling.pruning.results import Choice, Judgement, SearchResult, kl_regret, regret
from profiling.subsets.job import Blocks, whole


def recommendation_table(choices: Mapping[int, Choice], num_blocks: int, *, subject: str) -> Table:
    """Lay out the chosen subsets, most blocks first."""
    rows = []
    for count in sorted(choices, reverse=True):
        choice = choices[count]
        removed = [block for block in whole(num_blocks) if block not in choice.blocks]
        score = choice.score
        rows.append(
            (
                str(count),
                ", ".join(map(str, removed)) or "none",
                _mean_and_spread(score),
                f"{score.drop:.3f} [{score.drop_low:.3f}, {score.drop_high:.3f}]",
                _mean_and_spread(choice.even_score),
                str(choice.gain),
                str(score.num_datasets),
                choice.found_by,
            )
        )
    return Table(
        columns=(
            "blocks",
            "removed",
            "accuracy",
            "drop [95 %]",
            "evenly spread",
            "gain [95 %]",
            "datasets",
            "found by",
        ),
        rows=tuple(rows),
        caption=f"{subject}. Accuracy: mean +- standard deviation over datasets, on samples that no subset was "
        "chosen by. Drop: the whole model's accuracy minus the subset's; gain: the subset's minus that of as many "
        "evenly spread blocks; both on the same samples, intervals over samples.",
    )


def search_table(
    results: Sequence[SearchResult], judged: Mapping[Blocks, Judgement], *, pinned: Blocks, subject: str
) -> Table:
    """Lay out what each search found, what it is worth by either quantity, and its regret where it is known.

    Args:
        results: What the searches found.
        judged: What each subset found is worth.
        pinned: Blocks of the block table that always run; a subset without one is no candidate, which is shown.
        subject: What was measured.
    """
    rows = [
        (
            str(result.count),
            result.objective,
            result.search,
            ", ".join(map(str, result.blocks)),
            f"{result.score:.4g}",
            _number(regret(result, results)),
            f"{judged[result.blocks].accuracy:.4f}",
            f"{judged[result.blocks].kl:.4g}",
            _number(kl_regret(result, results, judged)),
            "yes" if set(pinned) <= set(result.blocks) else "no",
        )
        for result in sorted(results, key=lambda each: (-each.count, each.objective))
    ]
    return Table(
        columns=(
            "blocks",
            "objective",
            "search",
            "subset",
            "score",
            "regret",
            "accuracy",
            "kl",
            "kl regret",
            "candidate",
        ),
        rows=tuple(rows),
        caption=f"{subject}. Score: of the objective, the higher the better, on the samples of the search. Regret: "
        "score of the best of all subsets of that size with the same blocks pinned, minus this one. Accuracy, kl: of "
        "the subset on the same samples, whatever it was searched by. Kl regret: its kl minus the least of all subsets "
        "with the pinned blocks of the exhaustive search by kl. Unknown: not all were scored, or the subset lacks a "
        "pinned block. Candidate: whether the subset holds the block table's pinned blocks.",
    )


def results_json(results: Sequence[SearchResult], judged: Mapping[Blocks, Judgement]) -> list[dict[str, Any]]:
    """Return what ``searches.json`` holds."""
    return [
        {
            "search": result.search,
            "objective": result.objective,
            "pinned": list(result.pinned),
            "num_active_blocks": result.count,
            "active_blocks": list(result.blocks),
            "score": result.score,
            "is_exact": result.is_exact,
            "regret": regret(result, results),
            "accuracy": judged[result.blocks].accuracy,
            "kl": judged[result.blocks].kl,
            "kl_regret": kl_regret(result, results, judged),
        }
        for result in results
    ]


def _mean_and_spread(score: TableScore) -> str:
    return f"{score.accuracy_mean:.3f} +- {score.accuracy_std:.3f}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
