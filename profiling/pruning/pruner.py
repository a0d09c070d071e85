"""Search subsets of a model's blocks, choose one of each size, and score them on samples that no search has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from models.knobs import spread_blocks
from profiling.pruning.plans import Objective, SearchPlan, measure_of, objective_score
from profiling.pruning.report import Choice, SearchResult, table_score
from profiling.pruning.searches import Space
from profiling.subsets.evaluations import Advance, Evaluations
from profiling.subsets.job import Blocks, Job, Measure, Part, whole
from profiling.subsets.progress import counted

SEARCH_PART: Final[Part] = "train"
REPORT_PART: Final[Part] = "validation"
_CHOICE: Final[tuple[Objective, ...]] = ("accuracy", "kl")


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Everything but the searches.

    Args:
        evaluations: Gives outcomes.
        space: The subsets that there are.
        counts: Numbers of active blocks.
        num_samples: Samples of each dataset that subsets are chosen by.
        report_samples: Other samples of each dataset, that they are scored on.
        console: Where progress is shown.
    """

    evaluations: Evaluations
    space: Space
    counts: Sequence[int]
    num_samples: int
    report_samples: int
    console: Console

    def search(self, plan: SearchPlan) -> list[SearchResult]:
        """Run a search."""
        smaller = [count for count in self.counts if count < self.space.num_blocks]
        with counted(self.console, plan.name, plan.most_subsets(self.space, smaller)) as advance:

            def fitness_at(subsets: Sequence[Blocks], num_samples: int) -> list[float]:
                return self._scores(plan.objective, subsets, num_samples, advance)

            found_by_count = plan.run(fitness_at, self.space, smaller, self.num_samples)
        return [
            SearchResult(
                search=plan.name,
                objective=plan.objective,
                count=count,
                blocks=found.blocks,
                score=found.score,
                is_exact=plan.method == "exhaustive" and plan.halving is None,
            )
            for count, found in found_by_count.items()
        ]

    def choose(self, results: Sequence[SearchResult]) -> dict[int, Choice]:
        """Choose one subset of each size from what the searches found, by their samples, and score it by others."""
        most = 2 * (len(results) + 1) + 2 * len(self.counts) + 1
        with counted(self.console, "scoring what was found", most) as advance:
            chosen = {count: self._chosen(count, results, advance) for count in self.counts}
            return self._scored(chosen, advance)

    def _chosen(self, count: int, results: Sequence[SearchResult], advance: Advance) -> tuple[Blocks, str]:
        """Choose the most right subset, of equals the one closest to the whole model, and name who found it."""
        finders: dict[Blocks, list[str]] = {}
        for result in results:
            if result.count == count:
                finders.setdefault(result.blocks, []).append(result.search)
        if count == self.space.num_blocks:
            finders[whole(count)] = ["whole model"]
        subsets = list(finders)
        accuracy, closeness = (self._scores(objective, subsets, self.num_samples, advance) for objective in _CHOICE)
        best = max(range(len(subsets)), key=lambda place: (accuracy[place], closeness[place]))
        return subsets[best], "; ".join(finders[subsets[best]])

    def _scored(self, chosen: Mapping[int, tuple[Blocks, str]], advance: Advance) -> dict[int, Choice]:
        subsets = [whole(self.space.num_blocks)]
        for count, (blocks, _) in chosen.items():
            subsets += [blocks, spread_blocks(self.space.num_blocks, count)]
        jobs = [
            Job(blocks=blocks, measure=Measure.ANSWERS, part=REPORT_PART, num_samples=self.report_samples)
            for blocks in subsets
        ]
        full, *others = self.evaluations.outcomes(jobs, advance)
        scores = [table_score(full, outcome) for outcome in others]
        return {
            count: Choice(blocks=blocks, found_by=found_by, score=score, even_score=even_score)
            for (count, (blocks, found_by)), score, even_score in zip(
                chosen.items(), scores[::2], scores[1::2], strict=True
            )
        }

    def _scores(
        self, objective: Objective, subsets: Sequence[Blocks], num_samples: int, advance: Advance
    ) -> list[float]:
        jobs = [
            Job(blocks=blocks, measure=measure_of(objective), part=SEARCH_PART, num_samples=num_samples)
            for blocks in subsets
        ]
        return [objective_score(objective, outcome) for outcome in self.evaluations.outcomes(jobs, advance)]
