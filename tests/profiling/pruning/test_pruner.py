from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.console import Console

from profiling.pruning.figure import plot_choices
from profiling.pruning.plans import SearchPlan
from profiling.pruning.pruner import Pruner
from profiling.pruning.report import recommendation_table, results_json, search_table
from profiling.pruning.results import SearchResult, kl_regret, regret
from profiling.pruning.searches import Space
from profiling.subsets.evaluations import Advance, Evaluations
from profiling.subsets.job import NO_COST, Blocks, Job, Measure, Outcome

NUM_BLOCKS = 6
EVEN = (0, 2, 3, 5)  # spread_blocks(6, 4)
RIGHT_OF_100 = {0: 1, 1: 10, 2: 9, 3: 12, 4: 14, 5: 20}  # answers that a block makes right
NEARNESS = {0: 1.0, 1: 9.0, 2: 3.0, 3: 4.0, 4: 8.0, 5: 2.0}  # by which it brings the model's distributions nearer


class LawEvaluations(Evaluations):
    """Outcomes by a law: answers and divergences add up what blocks are worth. Notes what it is asked."""

    def __init__(self, right: Mapping[int, int] = RIGHT_OF_100) -> None:
        self.right = right
        self.asked: list[Job] = []

    def outcomes(self, jobs: Sequence[Job], advance: Advance = lambda: None) -> list[Outcome]:
        self.asked += jobs
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job: Job) -> Outcome:
        if job.measure is Measure.ANSWERS:
            right = sum(self.right[block] for block in job.blocks)
            values = {
                name: {"accuracy": (np.arange(100) < right + more).astype(float)} for name, more in (("a", 0), ("b", 4))
            }
        else:
            kl = sum(NEARNESS.values()) - sum(NEARNESS[block] for block in job.blocks)
            values = {name: {"kl": np.full(3, kl), "nll": np.full(3, kl)} for name in ("a", "b")}
        return Outcome(values=values, cost=NO_COST)


def pruner(evaluations: Evaluations, *, trained: Mapping[int, Blocks] | None = None) -> Pruner:
    return Pruner(
        evaluations=evaluations,
        space=Space(num_blocks=NUM_BLOCKS, pinned=(0,)),
        counts=(4, 6),
        trained=trained or {},
        num_samples=8,
        report_samples=100,
        console=Console(quiet=True),
    )


def test_a_search_may_pin_other_blocks_than_the_table() -> None:
    evaluations = LawEvaluations()
    subject = pruner(evaluations)
    beam = SearchPlan(method="beam", objective="accuracy", pinned=())
    (free,) = subject.search(beam)
    first_step = {job.blocks for job in evaluations.asked if len(job.blocks) == NUM_BLOCKS - 1}
    assert len(first_step) == NUM_BLOCKS  # every block by itself, block 0 as well
    assert free.blocks == (1, 3, 4, 5)
    assert (free.search, free.pinned) == ("beam 3 (accuracy, pinned none)", ())
    (held,) = subject.search(SearchPlan(method="beam", objective="accuracy"))
    assert (held.search, held.pinned, held.blocks) == ("beam 3 (accuracy)", (0,), (0, 3, 4, 5))


def test_what_lacks_a_pinned_block_is_shown_but_never_chosen() -> None:
    subject = pruner(LawEvaluations())
    plans = [SearchPlan(method="beam", objective="accuracy", pinned=()), SearchPlan(method="greedy")]
    results = [result for plan in plans for result in subject.search(plan)]
    judged = subject.judge(results)
    assert judged[1, 3, 4, 5].accuracy > max(
        judged[blocks].accuracy for blocks in judged if 0 in blocks and len(blocks) == 4
    )
    blocks, _ = subject.choose(results, judged)[4]
    assert 0 in blocks
    table = search_table(results, judged, pinned=(0,), subject="a model")
    assert [(row[2], row[-1]) for row in table.rows] == [
        ("beam 3 (accuracy, pinned none)", "no"),
        ("greedy (kl)", "yes"),
    ]


def test_regret_is_told_against_the_same_objective_and_pins_only() -> None:
    subject = pruner(LawEvaluations())
    plans = [
        SearchPlan(method="exhaustive", objective="accuracy"),
        SearchPlan(method="greedy", objective="accuracy"),
        SearchPlan(method="greedy", objective="accuracy", pinned=()),
        SearchPlan(method="greedy", objective="kl"),
    ]
    results = [result for plan in plans for result in subject.search(plan)]
    assert [regret(result, results) for result in results] == [0.0, 0.0, None, None]


def test_a_search_by_accuracy_has_a_kl_regret() -> None:
    subject = pruner(LawEvaluations())
    plans = [
        SearchPlan(method="exhaustive", objective="kl"),
        SearchPlan(method="greedy", objective="accuracy"),
        SearchPlan(method="greedy", objective="accuracy", pinned=()),
    ]
    results = [result for plan in plans for result in subject.search(plan)]
    judged = subject.judge(results)
    best, held, free = results
    assert best.blocks == (0, 1, 3, 4)
    assert held.blocks == (0, 3, 4, 5)
    assert judged[held.blocks].kl == pytest.approx(9 + 3)
    assert kl_regret(best, results, judged) == 0.0
    assert kl_regret(held, results, judged) == pytest.approx(9 - 2)  # block 1 would bring 9, block 5 brings 2
    assert 0 not in free.blocks
    assert kl_regret(free, results, judged) is None
    rows = results_json(results, judged)
    assert [row["kl_regret"] for row in rows] == [0.0, pytest.approx(7.0), None]
    assert [row["pinned"] for row in rows] == [[0], [0], []]
    assert rows[1]["accuracy"] == pytest.approx(judged[held.blocks].accuracy)
    table = search_table(results, judged, pinned=(0,), subject="a model")
    column = table.columns.index("kl regret")
    assert [row[column] for row in table.rows] == ["7", "unknown", "0"]  # by the name of the objective
    assert [row[1] for row in table.rows] == ["accuracy", "accuracy", "kl"]


def test_evenly_spread_blocks_are_chosen_where_searches_found_worse() -> None:
    right = {**RIGHT_OF_100, 1: 0, 4: 0}  # divergence thinks highly of 1 and 4, answers do not
    subject = pruner(LawEvaluations(right))
    results = subject.search(SearchPlan(method="exhaustive", objective="kl"))
    assert results[0].blocks == (0, 1, 3, 4)
    assert subject.choose(results, subject.judge(results))[4] == (EVEN, "evenly spread")


def test_blocks_that_the_model_was_trained_with_are_candidates() -> None:
    right = {**RIGHT_OF_100, 1: 0, 4: 0, 2: 30}
    subject = pruner(LawEvaluations(right), trained={4: (0, 2, 4, 5)})
    assert subject.choose([], subject.judge([]))[4] == (EVEN, "evenly spread")
    same = pruner(LawEvaluations(right), trained={4: EVEN})
    assert same.choose([], same.judge([]))[4] == (EVEN, "evenly spread; own grid")
    better = pruner(LawEvaluations({**right, 4: 20}), trained={4: (0, 2, 4, 5)})
    assert better.choose([], better.judge([]))[4] == ((0, 2, 4, 5), "own grid")


def test_the_gain_over_evenly_spread_blocks_is_paired() -> None:
    subject = pruner(LawEvaluations())
    choices = subject.score({4: ((0, 3, 4, 5), "greedy (kl)"), 6: (tuple(range(6)), "whole model")})
    gain = choices[4].gain
    assert gain.value == pytest.approx(0.05)  # block 4 makes 14 of 100 right, block 2 makes 9
    assert 0 < gain.low < 0.05 < gain.high < 0.1  # unpaired, it would be 0.14 to either side
    assert (choices[6].gain.value, choices[6].gain.low, choices[6].gain.high) == (0.0, 0.0, 0.0)
    assert choices[4].accuracies == pytest.approx({"a": 0.47, "b": 0.51})
    table = recommendation_table(choices, NUM_BLOCKS, subject="a model")
    assert [row[5] for row in table.rows] == ["0.000 [0.000, 0.000]", str(gain)]
    assert table.columns[5] == "gain [95 %]"


def test_the_figure_shows_datasets_and_the_paired_interval() -> None:
    subject = pruner(LawEvaluations())
    choices = subject.score({4: ((0, 3, 4, 5), "greedy (kl)"), 6: (tuple(range(6)), "whole model")})
    figure = plot_choices(choices, "a model on a machine; 100 samples of each of a, b")
    left, right = figure.axes
    assert len(left.lines) == 2 * (2 + 1)  # two datasets and their mean, chosen and evenly spread
    assert np.asarray(right.lines[-1].get_ydata()).tolist() == pytest.approx([0.05, 0.0])
    (bars,) = right.collections
    low, high = np.asarray(bars.get_paths()[0].vertices)[:, 1].tolist()
    assert (low, high) == pytest.approx((choices[4].gain.low, choices[4].gain.high))
    title = figure.get_suptitle()
    assert title.startswith("a model on a machine; 100 samples of each of a, b.")
    assert "95 % interval of the drop against the whole model" in " ".join(title.split())
    plt.close(figure)


def test_a_regret_needs_an_exact_result() -> None:
    exact = SearchResult(
        search="exhaustive (kl)", objective="kl", pinned=(0,), count=4, blocks=EVEN, score=-1.0, is_exact=True
    )
    subject = pruner(LawEvaluations())
    (greedy,) = subject.search(SearchPlan(method="greedy"))
    judged = subject.judge([exact, greedy])
    assert kl_regret(greedy, [greedy], judged) is None
    assert regret(greedy, [greedy]) is None
    assert regret(greedy, [greedy, exact]) == pytest.approx(-1.0 - greedy.score)
