from collections import Counter
from typing import cast

import pytest

from lightning_modules.elastic import ElasticDraw, LevelDraw
from models.knobs import KnobSetting, spread_grid

GRID = spread_grid(6, top_k=(1, 2, 4), block_counts=(3, 5, 6))
FULL = KnobSetting(tier="high", top_k=2, active_blocks=tuple(range(6)))


def draw(
    full_fraction: float = 0.25, seed: int = 0, levels: LevelDraw = "mostly_high", own_blocks_fraction: float = 0.5
) -> ElasticDraw:
    return ElasticDraw(
        grid=GRID,
        full=FULL,
        full_fraction=full_fraction,
        levels=levels,
        own_blocks_fraction=own_blocks_fraction,
        seed=seed,
    )


def test_every_level_and_every_block_is_drawn_and_block_0_always_runs() -> None:
    settings = [draw(0).setting(step) for step in range(400)]
    assert {setting.tier for setting in settings} == {"low", "medium", "high"}
    assert {setting.top_k for setting in settings} == {1, 2, 4}
    assert {setting.num_active_blocks for setting in settings} == {3, 5, 6}
    assert all(setting.active_blocks[0] == 0 for setting in settings)
    assert {block for setting in settings if setting.num_active_blocks == 3 for block in setting.active_blocks} == set(
        range(6)
    )


def test_higher_levels_come_more_often_and_tiers_equally() -> None:
    settings = [draw(0).setting(step) for step in range(6000)]
    counts = Counter(setting.num_active_blocks for setting in settings)
    assert counts == pytest.approx({3: 1000, 5: 2000, 6: 3000}, abs=150)
    assert Counter(setting.top_k for setting in settings) == pytest.approx({1: 1000, 2: 2000, 4: 3000}, abs=150)
    tiers = Counter(setting.tier for setting in settings)
    assert tiers == pytest.approx(dict.fromkeys(["low", "medium", "high"], 2000), abs=150)


def test_levels_may_come_evenly() -> None:
    settings = [draw(0, levels="even").setting(step) for step in range(6000)]
    for counts in (Counter(s.num_active_blocks for s in settings), Counter(s.top_k for s in settings)):
        assert list(counts.values()) == pytest.approx([2000] * 3, abs=150)


@pytest.mark.parametrize(("fraction", "number"), [(1.0, 1), (0.0, 10)])
def test_none_or_all_of_the_draws_may_be_of_other_blocks(fraction: float, number: int) -> None:
    settings = [draw(0, own_blocks_fraction=fraction).setting(step) for step in range(3000)]
    assert len({s.active_blocks for s in settings if s.num_active_blocks == 3}) == number


def test_the_blocks_that_are_served_run_in_half_of_the_draws_and_others_in_the_rest() -> None:
    blocks = Counter(
        setting.active_blocks
        for setting in (draw(0).setting(step) for step in range(12000))
        if setting.num_active_blocks == 3
    )
    assert len(blocks) == 10  # block 0 and two of the five others
    shares = {chosen: count / blocks.total() for chosen, count in blocks.items()}
    served = shares.pop(GRID.blocks_by_count[3])
    assert served == pytest.approx(0.5 + 0.5 / 10, abs=0.04)
    assert list(shares.values()) == pytest.approx([0.5 / 10] * 9, abs=0.02)


def test_a_share_of_the_steps_runs_with_everything_on() -> None:
    assert all(draw(1).setting(step) == FULL for step in range(50))
    assert sum(draw(0.25).setting(step) == FULL for step in range(2000)) == pytest.approx(500, abs=70)


def test_a_step_always_draws_the_same() -> None:
    assert [draw().setting(step) for step in range(20)] == [draw().setting(step) for step in range(20)]
    assert [draw().setting(step) for step in range(20)] != [draw(seed=1).setting(step) for step in range(20)]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"full_fraction: must be between 0 and 1, got 1.5"):
        draw(1.5)
    with pytest.raises(ValueError, match=r"own_blocks_fraction: must be between 0 and 1, got -1"):
        draw(own_blocks_fraction=-1)
    with pytest.raises(ValueError, match=r"levels: must be one of mostly_high, even, got 'odd'"):
        draw(levels=cast("LevelDraw", "odd"))
