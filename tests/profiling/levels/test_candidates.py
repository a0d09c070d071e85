from itertools import product

import numpy as np
import pytest

from models.knobs import ExpertCounts
from profiling.levels.candidates import Kind, by_layer, by_modality, candidates, uniform


def test_the_mean_is_over_tokens_and_blocks() -> None:
    assert uniform(3, 4).mean_experts(0.9) == pytest.approx(3.0)
    (found,) = by_modality(3, vision_share=0.5, reductions=(1,), num_blocks=4, num_experts=32)
    assert found.experts == ExpertCounts(text=(4,) * 4, vision=(2,) * 4)
    assert found.mean_experts(0.5) == pytest.approx(3.0)


def test_text_tokens_get_what_vision_tokens_save_or_half_of_it() -> None:
    found = by_modality(4, vision_share=0.9, reductions=(1, 2), num_blocks=1, num_experts=16)
    pairs = [(each.experts.text[0], each.experts.vision[0]) for each in found]
    assert pairs == [(13, 3), (8, 3), (16, 2), (13, 2)]  # 9 more and 4 more; 18, of which 12 are to be had, and 9
    assert all(each.mean_experts(0.9) <= 4 + 1e-9 for each in found)


@pytest.mark.parametrize(("top_k", "share"), [(1, 0.9), (4, 0.0), (4, 1.0), (2, 0.4)])
def test_nothing_is_offered_where_nothing_can_be_saved(top_k: int, share: float) -> None:
    assert by_modality(top_k, vision_share=share, reductions=(1,), num_blocks=2, num_experts=8) == []


def test_shares_of_blocks_are_the_best_there_are() -> None:
    counts = (1, 2, 4)
    losses = np.random.default_rng(0).random((4, 3))
    found = by_layer(2, Kind.LAYER_WEIGHTS, losses_KC=losses, counts=counts)
    possible = [places for places in product(range(3), repeat=4) if sum(counts[place] for place in places) <= 2 * 4]
    best = min(possible, key=lambda places: sum(losses[block, place] for block, place in enumerate(places)))
    assert found is not None
    assert found.experts.text == found.experts.vision == tuple(counts[place] for place in best)
    assert found.mean_experts(0.5) <= 2


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
        (2, Kind.LAYER_WEIGHTS, (1, 3), (1, 3)),
    ]
