import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.knobs import (
    GRID_KEY,
    MOLMOE_1B_GRID,
    ExpertCounts,
    KnobGrid,
    KnobSetting,
    Tier,
    check_top_k,
    own_grid,
    spread_blocks,
    spread_grid,
)

TIER = Tier(name="only", min_crops=1, max_crops=2)


def test_the_spread_grid_has_75_distinct_settings_tiers_outermost() -> None:
    settings = MOLMOE_1B_GRID.settings()
    assert len(set(settings)) == 75
    assert [setting.tier for setting in settings[::25]] == ["low", "medium", "high"]
    assert [setting.top_k for setting in settings[:25:5]] == [4, 6, 8, 10, 12]
    assert [setting.num_active_blocks for setting in settings[:5]] == [8, 10, 12, 14, 16]


def test_a_setting_is_found_by_its_levels() -> None:
    setting = MOLMOE_1B_GRID.setting(tier="medium", top_k=10, num_active_blocks=16)
    assert setting == KnobSetting(tier="medium", top_k=10, active_blocks=tuple(range(16)))
    assert MOLMOE_1B_GRID.tier("high") == Tier(name="high", min_crops=9, max_crops=12)


@pytest.mark.parametrize(
    ("tier", "top_k", "num_active_blocks", "message"),
    [
        ("huge", 8, 16, "tier: must be one of low, medium, high, got 'huge'"),
        ("low", 5, 16, "top_k: must be one of 4, 6, 8, 10, 12, got 5"),
        ("low", 8, 9, "num_active_blocks: must be one of 8, 10, 12, 14, 16, got 9"),
    ],
)
def test_a_level_outside_the_grid_is_refused_with_the_choices(
    tier: str, top_k: int, num_active_blocks: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MOLMOE_1B_GRID.setting(tier=tier, top_k=top_k, num_active_blocks=num_active_blocks)


@pytest.mark.parametrize(
    ("active_blocks", "message"),
    [
        ((), "active_blocks: at least one block must run"),
        ((1, 0), r"active_blocks: must be sorted, distinct and not negative, got \(1, 0\)"),
        ((0, 0), r"active_blocks: must be sorted, distinct and not negative, got \(0, 0\)"),
        ((-1, 0), r"active_blocks: must be sorted, distinct and not negative, got \(-1, 0\)"),
    ],
)
def test_impossible_blocks_are_refused(active_blocks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KnobSetting(tier="low", top_k=1, active_blocks=active_blocks)


def test_a_negative_top_k_is_refused() -> None:
    with pytest.raises(ValueError, match=r"top_k: must be 1 or more \(0 for a dense model\), got -1"):
        KnobSetting(tier="low", top_k=-1, active_blocks=(0,))


def test_a_block_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="active_blocks: the model has blocks 0 to 3, got 4"):
        KnobSetting(tier="low", top_k=1, active_blocks=(0, 4)).check(num_blocks=4, num_experts=8)


@pytest.mark.parametrize("top_k", [0, 9])
def test_a_number_of_experts_that_the_model_lacks_is_refused(top_k: int) -> None:
    with pytest.raises(ValueError, match=rf"top_k: must be 1 to 8 \(the model's experts\), got {top_k}"):
        check_top_k(top_k, num_experts=8)


def test_a_dense_model_takes_no_top_k() -> None:
    check_top_k(0, num_experts=0)
    with pytest.raises(ValueError, match="top_k: a dense model has no experts, so top_k must be 0, got 2"):
        check_top_k(2, num_experts=0)


@pytest.mark.parametrize(("min_crops", "max_crops"), [(0, 3), (4, 3), (-2, -1)])
def test_an_empty_tier_is_refused(min_crops: int, max_crops: int) -> None:
    with pytest.raises(ValueError, match=f"tier 'odd': needs 1 <= min_crops <= max_crops, got {min_crops}"):
        Tier(name="odd", min_crops=min_crops, max_crops=max_crops)


@pytest.mark.parametrize(
    ("tiers", "top_k", "blocks_by_count", "message"),
    [
        ((), (1,), {1: (0,)}, "tiers: needs at least one level"),
        ((TIER, TIER), (1,), {1: (0,)}, "tiers: .* no level twice"),
        ((TIER,), (2, 2), {1: (0,)}, "top_k: .* no level twice"),
        ((TIER,), (1,), {}, "blocks_by_count: needs at least one level"),
        ((TIER,), (1,), {2: (0,)}, r"blocks_by_count\[2\]: must name 2 blocks"),
    ],
)
def test_an_impossible_grid_is_refused(
    tiers: tuple[Tier, ...], top_k: tuple[int, ...], blocks_by_count: dict[int, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        KnobGrid(tiers=tiers, top_k=top_k, blocks_by_count=blocks_by_count)


def test_blocks_spread_evenly_from_first_to_last() -> None:
    assert spread_blocks(16, 16) == tuple(range(16))
    assert spread_blocks(16, 2) == (0, 15)
    assert spread_blocks(16, 1) == (0,)
    assert spread_blocks(9, 3) == (0, 4, 8)


@given(st.integers(1, 80).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_any_spread_is_a_legal_setting_that_keeps_block_0(counts: tuple[int, int]) -> None:
    num_blocks, num_active = counts
    blocks = spread_blocks(num_blocks, num_active)
    KnobSetting(tier="low", top_k=0, active_blocks=blocks).check(num_blocks=num_blocks, num_experts=0)
    assert blocks[0] == 0
    assert len(blocks) == num_active


@pytest.mark.parametrize("count", [0, 5])
def test_more_blocks_than_exist_or_none_cannot_be_spread(count: int) -> None:
    with pytest.raises(ValueError, match=f"num_active_blocks: must be 1 to 4, got {count}"):
        spread_blocks(4, count)


def test_a_dense_grid_has_top_k_0_only() -> None:
    grid = spread_grid(4, top_k=(0,), block_counts=(2, 4))
    assert len(grid.settings()) == 6
    assert grid.setting(tier="low", top_k=0, num_active_blocks=2).active_blocks == (0, 3)


def test_a_models_own_grid_is_read_as_it_was_written() -> None:
    grid = KnobGrid(tiers=(TIER,), top_k=(1, 4), blocks_by_count={2: (0, 3), 4: (0, 1, 2, 3)})
    config = json.loads(json.dumps({GRID_KEY: grid.to_json(), "d_model": 8}))
    assert own_grid(config) == grid
    assert own_grid({"d_model": 8}) is None


@pytest.mark.parametrize("content", [{"tiers": []}, 5, {"tiers": [{"size": 1}], "top_k": [1], "blocks_by_count": {}}])
def test_a_broken_grid_names_its_file(content: object) -> None:
    with pytest.raises(ValueError, match=r"x.json: knob_grid: not a grid of tiers, top_k and blocks_by_count"):
        own_grid({GRID_KEY: content}, source="x.json")


def test_a_level_without_a_meaning_is_the_same_number_everywhere() -> None:
    setting = KnobSetting(tier="only", top_k=3, active_blocks=(0, 2))
    assert (setting.text_top_k(2), setting.vision_top_k(2)) == (3, 3)
    assert ExpertCounts.uniform(3, 4) == ExpertCounts(text=(3, 3, 3, 3), vision=(3, 3, 3, 3))
    assert ExpertCounts.uniform(3, 4).is_uniform
    assert not ExpertCounts(text=(3, 3), vision=(2, 3)).is_uniform


def test_a_level_with_a_meaning_keeps_its_name_and_goes_through_json() -> None:
    experts = ExpertCounts(text=(5, 4, 3), vision=(1, 2, 3))
    grid = KnobGrid(tiers=(TIER,), top_k=(2, 3), blocks_by_count={2: (0, 2)}, experts_by_top_k={3: experts})
    uniform, other = grid.settings()
    assert uniform == KnobSetting(tier="only", top_k=2, active_blocks=(0, 2))
    assert other == grid.setting(tier="only", top_k=3, num_active_blocks=2)
    assert (other.top_k, other.text_top_k(0), other.vision_top_k(1)) == (3, 5, 2)
    assert len({uniform, other}) == 2
    assert own_grid({GRID_KEY: json.loads(json.dumps(grid.to_json()))}) == grid


@pytest.mark.parametrize(
    ("text", "vision", "message"),
    [
        ((1, 2), (1,), "experts: text and vision must name as many blocks, got 2 and 1"),
        ((), (), "experts: text and vision must name as many blocks, got 0 and 0"),
        ((1, 2), (1, 0), "experts: must be 1 or more in every block, got 0"),
    ],
)
def test_impossible_numbers_of_experts_are_refused(
    text: tuple[int, ...], vision: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ExpertCounts(text=text, vision=vision)


def test_numbers_of_experts_must_fit_the_model() -> None:
    setting = KnobSetting(tier="only", top_k=2, active_blocks=(0,), experts=ExpertCounts(text=(2, 9), vision=(2, 1)))
    with pytest.raises(ValueError, match=r"experts: must name 3 blocks \(the model's\), got 2"):
        setting.check(num_blocks=3, num_experts=9)
    with pytest.raises(ValueError, match="top_k: must be 1 to 8"):
        setting.check(num_blocks=2, num_experts=8)
    with pytest.raises(ValueError, match=r"experts_by_top_k: expected some of top_k, \[2\], got 3"):
        KnobGrid(tiers=(TIER,), top_k=(2,), blocks_by_count={1: (0,)}, experts_by_top_k={3: ExpertCounts.uniform(3, 2)})
