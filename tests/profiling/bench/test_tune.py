"""Tuning, by a known law of times, and its timer by Triton's interpreter where there is no GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from triton.runtime.errors import OutOfResources

import main
from models.engine.recording import Call
from models.engine.tiles import Cut, Tiles
from profiling.bench.step_timer import StepTimer, try_all
from profiling.bench.tune import CANDIDATES, Tuning, changes
from profiling.model_source import ModelSource
from tests.engine_models import TILES, mixture

TUNING = Tuning(model=ModelSource(name="unused"), top_k=(1, 3), contexts=(2, 9), warmup=0, repeats=1, capacity=16)


def timer(law: Callable[[Tiles], float], monkeypatch: pytest.MonkeyPatch) -> StepTimer:
    """A timer whose times are a law of the cut, twice as long for the second level."""
    monkeypatch.setattr(StepTimer, "times_ms", lambda _, tiles: {"one": law(tiles), "two": 2 * law(tiles)})
    return StepTimer(mixture(), TUNING, lambda call: call)


def test_the_fastest_cut_comes_first_and_the_present_one_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[None] = []
    law = timer(lambda tiles: abs(tiles.qkv.rows - 8) + tiles.qkv.warps, monkeypatch)
    ranking = try_all(law, Tiles(), list(changes("qkv")), lambda: told.append(None))
    assert ranking[0].change == {"qkv": Cut(8, 4)}
    assert ranking[0].relative == pytest.approx(4 / 8)  # by default four rows and four warps
    assert {"qkv": Tiles().qkv} in [attempt.change for attempt in ranking if attempt.relative == 1]
    assert len(told) == len(CANDIDATES["qkv"]["qkv"])


def test_what_a_gpu_has_no_room_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def law(tiles: Tiles) -> float:
        if tiles.expert_out.rows == 8:
            raise OutOfResources(300_000, 232_448, "shared memory")
        return float(tiles.experts_ahead + 1)

    best = Tiles(expert_out=Cut(2), experts_ahead=2)
    monkeypatch.setattr("profiling.bench.step_timer.Tiles", lambda: best)
    ranking = try_all(timer(law, monkeypatch), best, list(changes("expert_out")), lambda: None)
    assert ranking[0].change["experts_ahead"] == 0
    assert all(attempt.change["expert_out"].rows != 8 for attempt in ranking)


def test_every_field_that_is_changed_is_one_of_the_tiles() -> None:
    for kernel in CANDIDATES:
        for change in changes(kernel):
            assert set(change) <= set(Tiles.__dataclass_fields__)


def test_a_step_is_timed_at_every_level_and_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiling.bench.step_timer.Tiles", lambda: TILES)  # which the interpreter is quick with
    recorded: list[Call] = []

    def record(call: Call) -> Call:
        recorded.append(call)
        return call

    model = mixture()
    times_ms = StepTimer(model, TUNING, record).times_ms(replace(TILES, qkv=Cut(32)))
    assert list(times_ms) == [f"top_k {k}, context {c}" for k in (1, 3) for c in (2, 9)]
    assert all(time_ms > 0 for time_ms in times_ms.values())
    assert len(recorded) == 2 * len(TUNING.top_k)  # the default cut was timed first


@pytest.mark.skipif(torch.cuda.is_available(), reason="would tune")
def test_without_a_gpu_the_command_says_so() -> None:
    config = Path(main.__file__).parent / "configs" / "bench" / "tune_h200.yaml"
    with pytest.raises(ValueError, match="tune-engine: this machine has no CUDA device"):
        main.cli_main(["tune-engine", "--config", str(config)])
