from itertools import product

import numpy as np
import pytest

from models.knobs import ExpertCounts
from profiling.levels.candidates import Kind, by_layer, by_modality, candidates, uniform


def test_the_mean_is_over_tokens_and_blocks() -> None:
    assert uniform(3, 4).mean_experts(0.9) == pytest.approx(3.0)
    found, fewer = by_modality(3, vision_share=0.5, reductions=(1,), num_blocks=4, num_experts=32)
    assert found.experts == ExpertCounts(text=(4,) * 4, vision=(2,) * 4)
    assert found.mean_experts(0.5) == pytest.approx(3.0)
    assert fewer.experts == ExpertCounts(text=(3,) * 4, vision=(2,) * 4)
    assert fewer.mean_experts(0.5) == pytest.approx(2.5)


def test_text_tokens_get_what_vision_tokens_save_or_half_of_it_or_nothing() -> None:
    found = by_modality(4, vision_share=0.9, reductions=(1, 2), num_blocks=1, num_experts=16)
    pairs = [(each.experts.text[0], each.experts.vision[0]) for each in found]
    # 9 more, 4 more, none; 18, of which 12 are to be had, 9, none.
    assert pairs == [(13, 3), (8, 3), (4, 3), (16, 2), (13, 2), (4, 2)]
    assert all(each.mean_experts(0.9) <= 4 + 1e-9 for each in found)


@pytest.mark.parametrize(("top_k", "share"), [(1, 0.9), (4, 0.0)])
def test_nothing_is_offered_where_nothing_can_be_saved(top_k: int, share: float) -> None:
    assert by_modality(top_k, vision_share=share, reductions=(1,), num_blocks=2, num_experts=8) == []


def test_shares_of_blocks_are_the_best_there_are() -> None:
    counts = (1, 2, 4)
    losses = np.random.default_rng(0).random((4, 3))
    found = by_layer(2, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=counts)
    possible = [places for places in product(range(3), repeat=4) if sum(counts[place] for place in places) == 2 * 4]
    best = min(possible, key=lambda places: sum(losses[block, place] for block, place in enumerate(places)))
    assert found is not None
    assert found.experts.text == found.experts.vision == tuple(counts[place] for place in best)
    assert found.mean_experts(0.5) == 2


def test_levels_spend_what_they_have_so_that_no_two_mean_the_same() -> None:
    """The trained number, 3, loses least: levels above it give some blocks more all the same."""
    counts = (1, 2, 3, 4, 5, 6)
    losses = np.abs(np.asarray(counts, dtype=float) - 3) * np.asarray([[1.0], [2.0], [3.0], [4.0]])
    found = {level: by_layer(level, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=counts) for level in (2, 3, 4, 5)}
    assert found[3] is None  # the plain number is best there
    others = [found[level] for level in (2, 4, 5)]
    assert [each.mean_experts(0.5) for each in others if each is not None] == [2, 4, 5]
    assert others[1] is not None
    assert others[1].experts.text == (6, 4, 3, 3)  # the four more go where they harm least


def test_a_level_that_shares_do_not_add_up_to_is_met_from_below() -> None:
    losses = np.random.default_rng(1).random((3, 2))
    found = by_layer(4, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=(3, 5))  # 9, 11, 13 or 15; the level has 12
    assert found is not None
    assert sum(found.experts.text) == 11
    assert by_layer(3, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=(1, 2)) is None  # 6 at most, as level 2 has


def test_shares_that_are_the_plain_number_or_impossible_are_none() -> None:
    losses = np.asarray([[1.0, 0.0, 1.0]] * 3)
    assert by_layer(2, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=(1, 2, 3)) is None
    assert by_layer(2, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=(3, 4, 5)) is None


def test_each_level_begins_with_its_plain_number() -> None:
    losses = {Kind.LAYER_WEIGHTS: np.asarray([[0.0, 1.0, 2.0], [9.0, 9.0, 0.0]])}
    found = candidates((1, 2), vision_share=0.75, reductions=(1,), losses=losses, counts=(1, 2, 3), num_experts=8)
    assert [(each.top_k, each.kind, each.experts.text, each.experts.vision) for each in found] == [
        (1, Kind.UNIFORM, (1, 1), (1, 1)),
        (2, Kind.UNIFORM, (2, 2), (2, 2)),
        (2, Kind.MODALITY, (5, 5), (1, 1)),
        (2, Kind.MODALITY, (3, 3), (1, 1)),
        (2, Kind.MODALITY, (2, 2), (1, 1)),
        (2, Kind.LAYER_WEIGHTS, (1, 3), (1, 3)),
    ]
