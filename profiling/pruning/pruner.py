"""Search subsets of a model's blocks, choose one of each size, and score them on samples that no search has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from models.knobs import spread_blocks
from profiling.pruning.plans import Objective, SearchPlan, measure_of, objective_score
from profiling.pruning.results import Choice, Judgement, SearchResult, scored_choice
from profiling.pruning.searches import Space
from profiling.subsets.evaluations import Advance, Evaluations
from profiling.subsets.job import Blocks, Job, Measure, whole
from profiling.subsets.parts import REPORT_PART, SEARCH_PART
from profiling.subsets.progress import counted


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """Everything but the searches.

    Args:
        evaluations: Gives outcomes.
        space: The subsets that may become the block table's.
        counts: Numbers of active blocks.
        trained: Sets of blocks that the model was trained with, by their size.
        num_samples: Samples of each dataset that subsets are chosen by.
        report_samples: Other samples of each dataset, that they are scored on.
        console: Where progress is shown.
    """

    evaluations: Evaluations
    space: Space
    counts: Sequence[int]
    trained: Mapping[int, Blocks]
    num_samples: int
    report_samples: int
    console: Console

    def search(self, plan: SearchPlan) -> list[SearchResult]:
        """Run a search, with the blocks pinned that it names itself, else the block table's."""
        smaller = [count for count in self.counts if count < self.space.num_blocks]
        space = plan.space(self.space)
        with counted(self.console, plan.name, plan.most_subsets(space, smaller)) as advance:

            def fitness_at(subsets: Sequence[Blocks], num_samples: int) -> list[float]:
                return self._scores(plan.objective, subsets, num_samples, advance)

            found_by_count = plan.run(fitness_at, space, smaller, self.num_samples)
        return [
            SearchResult(
                search=plan.name,
                objective=plan.objective,
                pinned=space.pinned,
                count=count,
                blocks=found.blocks,
                score=found.score,
                is_exact=plan.method == "exhaustive" and plan.halving is None,
            )
            for count, found in found_by_count.items()
        ]

    def judge(self, results: Sequence[SearchResult]) -> dict[Blocks, Judgement]:
        """Judge what the searches found, and all that else may be chosen, by accuracy and by divergence."""
        subsets = list(
            dict.fromkeys(
                [result.blocks for result in results]
                + [blocks for count in self.counts for blocks in self._known(count).values()]
            )
        )
        with counted(self.console, "judging what was found", 2 * len(subsets)) as advance:
            accuracies = self._scores("accuracy", subsets, self.num_samples, advance)
            closeness = self._scores("kl", subsets, self.num_samples, advance)
        return {
            blocks: Judgement(accuracy=accuracy, kl=-close)
            for blocks, accuracy, close in zip(subsets, accuracies, closeness, strict=True)
        }

    def choose(
        self, results: Sequence[SearchResult], judged: Mapping[Blocks, Judgement]
    ) -> dict[int, tuple[Blocks, str]]:
        """Choose one subset of each size, and name who found it.

        The most right one on the samples of the searches, of equals the one closest to the whole model. Candidates are
        what searches found and holds all blocks that the table pins, evenly spread blocks and those that the model was
        trained with.
        """
        return {count: self._chosen(count, results, judged) for count in self.counts}

    def score(self, chosen: Mapping[int, tuple[Blocks, str]]) -> dict[int, Choice]:
        """Score the chosen subsets on samples that they were not chosen by, beside as many evenly spread blocks."""
        subsets = [whole(self.space.num_blocks)]
        for count, (blocks, _) in chosen.items():
            subsets += [blocks, spread_blocks(self.space.num_blocks, count)]
        jobs = [
            Job(blocks=blocks, measure=Measure.ANSWERS, part=REPORT_PART, num_samples=self.report_samples)
            for blocks in subsets
        ]
        with counted(self.console, "scoring what was chosen", len(set(jobs))) as advance:
            full, *others = self.evaluations.outcomes(jobs, advance)
        return {
            count: scored_choice(full, found, even, blocks=blocks, found_by=found_by)
            for (count, (blocks, found_by)), found, even in zip(chosen.items(), others[::2], others[1::2], strict=True)
        }

    def _chosen(
        self, count: int, results: Sequence[SearchResult], judged: Mapping[Blocks, Judgement]
    ) -> tuple[Blocks, str]:
        finders: dict[Blocks, list[str]] = {}
        for result in results:
            if result.count == count:
                finders.setdefault(result.blocks, []).append(result.search)
        for name, blocks in self._known(count).items():
            finders.setdefault(blocks, []).append(name)
        candidates = [blocks for blocks in finders if set(self.space.pinned) <= set(blocks)]
        best = max(candidates, key=lambda blocks: (judged[blocks].accuracy, -judged[blocks].kl))
        return best, "; ".join(finders[best])

    def _known(self, count: int) -> dict[str, Blocks]:
        """Return the sets of a size that need no search, by what they are known as."""
        if count == self.space.num_blocks:
            return {"whole model": whole(count)}
        known = {"evenly spread": spread_blocks(self.space.num_blocks, count)}
        return known | ({"own grid": self.trained[count]} if count in self.trained else {})

    def _scores(
        self, objective: Objective, subsets: Sequence[Blocks], num_samples: int, advance: Advance
    ) -> list[float]:
        jobs = [
            Job(blocks=blocks, measure=measure_of(objective), part=SEARCH_PART, num_samples=num_samples)
            for blocks in subsets
        ]
        return [objective_score(objective, outcome) for outcome in self.evaluations.outcomes(jobs, advance)]
