from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest

from profiling.pruning.plans import Halving, SearchPlan
from profiling.pruning.searches import Fitness, Space, beam, evolutionary, exhaustive, halved, one_shot
from profiling.subsets.job import Blocks

WORTH = (9.0, 4.0, 7.0, 1.0, 3.0, 8.0, 2.0, 6.0)  # of each block, where blocks add up
SPACE = Space(num_blocks=8, pinned=(0,))


class Law:
    """A fitness that adds up what blocks are worth, and bonuses for pairs; counts what it is asked."""

    def __init__(self, pairs: dict[tuple[int, int], float] | None = None) -> None:
        self.pairs = pairs or {}
        self.asked: Counter[Blocks] = Counter()

    def __call__(self, subsets: Sequence[Blocks]) -> list[float]:
        self.asked.update(subsets)
        return [self.value(blocks) for blocks in subsets]

    def value(self, blocks: Blocks) -> float:
        bonus = sum(worth for pair, worth in self.pairs.items() if set(pair) <= set(blocks))
        return sum(WORTH[block] for block in blocks) + bonus


class StandIns(Law):
    """Neither 3 nor 6 is missed alone, for each can stand in for the other; without both much is lost."""

    def value(self, blocks: Blocks) -> float:
        return super().value(blocks) - (20.0 if not {3, 6} & set(blocks) else 0.0)


def best_by_hand(law: Law, count: int) -> Blocks:
    return max((tuple(sorted((0, *chosen))) for chosen in combinations(range(1, 8), count - 1)), key=law.value)


@pytest.mark.parametrize("law", [Law(), StandIns()])
@pytest.mark.parametrize("count", [7, 5, 3])
def test_exhaustive_search_scores_every_subset_once(law: Law, count: int) -> None:
    law.asked.clear()
    found = exhaustive(law, SPACE, count)
    assert found.blocks == best_by_hand(law, count)
    assert found.score == law.value(found.blocks)
    assert len(law.asked) == law.asked.total() == SPACE.num_subsets(count)
    assert all(0 in blocks and len(blocks) == count for blocks in law.asked)


def test_there_are_as_many_subsets_as_said() -> None:
    space = Space(num_blocks=16, pinned=(0,))
    assert [space.num_subsets(count) for count in (14, 12, 10, 8)] == [105, 1365, 5005, 6435]
    assert len(space.subsets(14)) == len(set(space.subsets(14))) == 105


def test_where_blocks_add_up_every_search_finds_the_best() -> None:
    for count in (7, 5, 3):
        best = best_by_hand(Law(), count)
        for width in (1, 3):
            assert beam(Law(), SPACE, fewest=3, width=width)[count].blocks == best
        assert one_shot(Law(), SPACE, [7, 5, 3])[count].blocks == best
        found = evolutionary(Law(), SPACE, count, generations=30, offspring=8, seed=0)
        assert found.blocks == best


def test_a_beam_that_is_wide_enough_is_exhaustive() -> None:
    found = beam(StandIns(), SPACE, fewest=3, width=SPACE.num_subsets(4))
    for count in range(3, 8):
        assert found[count].score == exhaustive(StandIns(), SPACE, count).score


def test_removing_stand_ins_together_is_one_shots_regret_alone() -> None:
    # All 40, minus 1 and 3 for the blocks 3 and 4 at best; one shot removes 3 and 6.
    assert exhaustive(StandIns(), SPACE, 6).score == 36
    assert one_shot(StandIns(), SPACE, [6])[6].score == 17
    assert beam(StandIns(), SPACE, fewest=6, width=1)[6].score == 36


def test_a_pair_that_is_worth_something_together_only_is_greedys_regret_but_not_a_beams() -> None:
    # Greedy removes 4 (3) and then 1 (4). At best 3 and 6 go (3) with what they are worth together (3).
    law = Law({(3, 6): 3.0})
    assert exhaustive(law, SPACE, 6).score == 43 - 6
    assert beam(law, SPACE, fewest=6, width=1)[6].score == 43 - 7
    assert beam(law, SPACE, fewest=6, width=3)[6].score == 43 - 6


def test_the_originators_beam_extends_142_times_to_depth_four() -> None:
    plan = SearchPlan(method="beam", width=3)
    assert plan.most_subsets(Space(num_blocks=16), [12]) == 16 + 3 * (15 + 14 + 13) == 142
    asked: list[int] = []

    def fitness(subsets: Sequence[Blocks]) -> list[float]:
        asked.append(len(subsets))
        assert len(set(subsets)) == len(subsets)
        return [float(sum(block**2 for block in blocks)) for blocks in subsets]

    assert sorted(beam(fitness, Space(num_blocks=16), fewest=12, width=3)) == [12, 13, 14, 15]
    assert asked[0] == 16
    assert sum(asked) <= 142


def test_no_search_removes_a_pinned_block() -> None:
    space = Space(num_blocks=8, pinned=(0, 3))
    for plan in (
        SearchPlan(method="one_shot"),
        SearchPlan(method="greedy"),
        SearchPlan(method="beam"),
        SearchPlan(method="evolutionary", generations=3),
        SearchPlan(method="exhaustive"),
        SearchPlan(method="exhaustive", halving=Halving(first_samples=1, fewest=2)),
    ):
        law = Law()
        found = plan.run(lambda subsets, _, law=law: law(subsets), space, [6, 4], 4)  # type: ignore[misc]
        assert sorted(found) == [4, 6]
        for count, each in found.items():
            assert len(each.blocks) == count
            assert {0, 3} <= set(each.blocks)
        if plan.halving is None:
            assert law.asked.total() <= plan.most_subsets(space, [6, 4])


def test_a_search_looks_for_its_own_counts_only() -> None:
    plan = SearchPlan(method="exhaustive", counts=(6,))
    assert list(plan.run(lambda subsets, _: Law()(subsets), SPACE, [7, 6, 5], 4)) == [6]
    assert plan.most_subsets(SPACE, [7, 6, 5]) == SPACE.num_subsets(6)
    assert plan.run(lambda subsets, _: Law()(subsets), SPACE, [7], 4) == {}
    assert plan.most_subsets(SPACE, [7]) == 0


def test_an_evolution_is_the_same_for_the_same_seed() -> None:
    laws = [StandIns(), StandIns()]
    found = [evolutionary(law, SPACE, 4, generations=3, offspring=4, seed=7) for law in laws]
    assert found[0] == found[1]
    assert laws[0].asked == laws[1].asked


def test_halving_gives_all_samples_to_the_better_half_only() -> None:
    asked: list[tuple[int, int]] = []

    def fitness_at(subsets: Sequence[Blocks], num_samples: int) -> list[float]:
        asked.append((len(subsets), num_samples))
        return Law()(subsets)

    fitness: Fitness = halved(fitness_at, [2, 4, 8, 16], fewest=3)
    subsets = SPACE.subsets(5)
    scores = fitness(subsets)
    assert asked == [(35, 2), (18, 4), (9, 8), (5, 16)]
    assert sum(score > float("-inf") for score in scores) == 5
    assert subsets[scores.index(max(scores))] == best_by_hand(Law(), 5)
    asked.clear()
    fitness(subsets[:3])
    assert asked == [(3, 16)]


def test_a_halved_beam_keeps_scored_subsets_only() -> None:
    plan = SearchPlan(method="beam", width=3, halving=Halving(first_samples=2, fewest=3))
    scored_on_all: set[Blocks] = set()
    parents: list[Blocks] = []

    def fitness_at(subsets: Sequence[Blocks], num_samples: int) -> list[float]:
        if num_samples == 2 and len(subsets[0]) < 7:
            parents.extend(kept for kept in scored_on_all if any(set(blocks) < set(kept) for blocks in subsets))
            assert all(any(set(blocks) < set(kept) for kept in scored_on_all) for blocks in subsets)
        if num_samples == 4:
            scored_on_all.update(subsets)
        return Law()(subsets)

    plan.run(fitness_at, SPACE, [5], 4)
    assert parents
    SearchPlan(method="greedy", halving=Halving(fewest=1))  # keeps one
    SearchPlan(method="evolutionary", halving=Halving(fewest=1))


def test_halving_doubles_samples() -> None:
    assert Halving(first_samples=16).sizes(128) == [16, 32, 64, 128]
    assert Halving(first_samples=100).sizes(128) == [100, 128]
    assert Halving(first_samples=200).sizes(128) == [128]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "beam", "width": 0}, "searches.width: must be 1 or more, got 0"),
        ({"method": "evolutionary", "offspring": 0}, "searches.offspring: must be 1 or more"),
        ({"method": "one_shot", "halving": Halving()}, "searches.halving: one_shot needs the order"),
        (
            {"method": "beam", "width": 3, "halving": Halving(fewest=2)},
            "searches.halving.fewest: must be 3 or more, the subsets that a beam keeps, got 2",
        ),
    ],
)
def test_a_search_that_cannot_be_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchPlan(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"halving.fewest: must be 1 or more, got 0"):
        Halving(fewest=0)
