from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from models.config import released_config
from models.cost import component_costs
from profiling.bench.cells import Benchmark, BenchStage, Cell, StagePlan
from profiling.bench.hardware import Hardware
from profiling.model_source import ModelSource

MODEL = ModelSource(name="molmoe-1b-0924", random_weights=True)
CONFIG = released_config("molmoe-1b-0924")
ANCHOR = Hardware(bandwidth_bytes_per_s=4.29e12, flops_per_s=780e12)  # what one H200 was measured at


def plan(*sizes: int, **changes: Any) -> StagePlan:
    return StagePlan(**{"sizes": sizes, "contestants": ("ours_eager",), **changes})


def benchmark(**changes: Any) -> Benchmark:
    stages = {"prefill": plan(600), "decode": plan(300, 2000), "vision": plan(1, 13), "request": plan(13)}
    return Benchmark(**{"model": MODEL, **stages, **changes})


def test_language_stages_are_measured_at_every_setting_and_vision_once() -> None:
    cells = benchmark().cells()
    assert len(cells) == len(set(cells)) == 2 + 9 * (1 + 2 + 1)
    assert str(cells[0]) == "vision, 1 crops"
    assert str(cells[-1]) == "request, 13 crops, top_k 12, 16 blocks"
    settings = [cell.setting(CONFIG) for cell in cells if cell.stage == BenchStage.DECODE]
    assert {(setting.top_k, setting.num_active_blocks) for setting in settings} == {
        (top_k, blocks) for top_k in (4, 8, 12) for blocks in (8, 12, 16)
    }


@pytest.mark.parametrize(
    ("top_k", "blocks", "floor_ms"), [(4, 16, 0.36), (8, 16, 0.55), (12, 16, 0.74), (8, 12, 0.42), (8, 8, 0.30)]
)
def test_decode_floors_are_those_of_the_weights(top_k: int, blocks: int, floor_ms: float) -> None:
    """The recorded figures count weights only; the cache adds its share."""
    cell = Cell(stage=BenchStage.DECODE, size=600, top_k=top_k, num_active_blocks=blocks)
    cache_ms = 2 * 2048 * 602 * blocks * 2 / 4.29e12 * 1e3
    assert benchmark().floor_ms(cell, CONFIG, ANCHOR) == pytest.approx(floor_ms + cache_ms, abs=0.02)


def test_a_decode_cell_counts_its_context_and_the_token_itself() -> None:
    cell = Cell(stage=BenchStage.DECODE, size=300, top_k=8, num_active_blocks=16)
    bytes_only = Hardware(bandwidth_bytes_per_s=1e12, flops_per_s=1e30)
    longer = benchmark().floor_ms(replace(cell, size=301), CONFIG, bytes_only)
    assert longer - benchmark().floor_ms(cell, CONFIG, bytes_only) == pytest.approx(2 * 2048 * 2 * 16 / 1e12 * 1e3)


def test_a_decode_cell_is_the_only_step_of_an_answer_of_two_tokens() -> None:
    cell = Cell(stage=BenchStage.DECODE, size=300, top_k=8, num_active_blocks=16)
    costs = component_costs(
        CONFIG, num_crops=0, vision_tokens=0, text_tokens=300, output_tokens=2, top_k=8, num_active_blocks=16
    )
    assert costs["decode"] == costs["decode_per_token"]
    bytes_only = Hardware(bandwidth_bytes_per_s=1e12, flops_per_s=1e30)
    assert benchmark().floor_ms(cell, CONFIG, bytes_only) == pytest.approx(float(costs["decode"].num_bytes) / 1e9)


def test_a_request_needs_the_sum_of_its_components() -> None:
    costs = component_costs(
        CONFIG,
        num_crops=13,
        vision_tokens=13 * 144,
        text_tokens=40,
        output_tokens=20,
        top_k=8,
        num_active_blocks=12,
    )
    expected_ms = sum(
        max(float(cost.flops) / ANCHOR.flops_per_s, float(cost.num_bytes) / ANCHOR.bandwidth_bytes_per_s) * 1e3
        for name, cost in costs.items()
        if name != "decode_per_token"
    )
    cell = Cell(stage=BenchStage.REQUEST, size=13, top_k=8, num_active_blocks=12)
    assert benchmark().floor_ms(cell, CONFIG, ANCHOR) == pytest.approx(expected_ms)


def test_wider_numbers_take_twice_the_bytes() -> None:
    cell = Cell(stage=BenchStage.DECODE, size=300, top_k=8, num_active_blocks=16)
    wide = benchmark(model=replace(MODEL, dtype="float32"))
    assert wide.floor_ms(cell, CONFIG, ANCHOR) == pytest.approx(2 * benchmark().floor_ms(cell, CONFIG, ANCHOR))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (plan, r"sizes: needs at least one and none twice, got \[\]"),
        (lambda: plan(3, 3), r"sizes: needs at least one and none twice, got \[3, 3\]"),
        (lambda: plan(0), "sizes: must be 1 or more, got 0"),
        (lambda: plan(1, contestants=()), "contestants: needs at least one"),
        (lambda: plan(1, rounds=0), "rounds: must be 1 or more, got 0"),
        (lambda: plan(1, repeats=0), "repeats: must be 1 or more, got 0"),
        (lambda: plan(1, warmup=0), "warmup: must be 1 or more, or the first run would be timed, got 0"),
        (lambda: Benchmark(model=MODEL), "needs at least one stage of prefill, decode, vision, request, got none"),
        (lambda: benchmark(top_k=()), "top_k: needs at least one level"),
        (lambda: benchmark(num_active_blocks=(8, 8)), r"num_active_blocks: needs .* got \[8, 8\]"),
        (lambda: benchmark(output_tokens=0), "output_tokens: must be 1 or more, got 0"),
    ],
)
def test_a_benchmark_that_measures_nothing_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": (65,)}, r"top_k: must be 1 to 64 \(the model's experts\), got 65"),
        ({"num_active_blocks": (17,)}, "num_active_blocks: must be 1 to 16, got 17"),
        ({"prefill": plan(32769)}, "prefill.sizes: 32769 needs 32769 positions, the model has 32768"),
        ({"decode": plan(32768)}, "decode.sizes: 32768 needs 32769 positions, the model has 32768"),
        ({"request": plan(228)}, "request.sizes: 228 needs 32892 positions, the model has 32768"),
        ({"vision": plan(1, contestants=("me",))}, "vision.contestants: must be of ours_eager, got 'me'"),
    ],
)
def test_what_a_model_has_not_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark(**changes).check(CONFIG, ["ours_eager"])
