from collections import Counter
from typing import Any

import pytest

from models.engine import EagerEngine
from models.generation import Generation, generate
from models.inputs import ModelInputs
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo
from profiling.levels.timing import LevelTimer, Timing
from tests.small_models import tiny_inputs, tiny_molmo


def test_every_meaning_is_timed_on_every_request_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_molmo(num_experts=4, top_k=2)
    requests = [tiny_inputs(model.config, num_words=words) for words in (3, 6)]
    meanings = [ExpertCounts.uniform(2, 2), ExpertCounts(text=(4, 4), vision=(1, 1)), ExpertCounts.uniform(2, 2)]
    calls: list[tuple[int, ExpertCounts | None]] = []

    def noted(model: Molmo, inputs: ModelInputs, *, setting: KnobSetting, **options: Any) -> Generation:
        calls.append((int(inputs is requests[1]), setting.experts))
        return generate(model, inputs, setting=setting, **options)

    monkeypatch.setattr("profiling.levels.timing.generate", noted)
    ticks: list[None] = []
    timer = LevelTimer(model, EagerEngine(model), requests, Timing(new_tokens=2, repeats=3))
    times_ms = timer.times_ms(meanings, seed=0, advance=lambda: ticks.append(None))
    assert [time_ms.shape for time_ms in times_ms] == [(2,)] * 3
    assert all((time_ms > 0).all() for time_ms in times_ms)
    assert len(ticks) == 3 * 2
    warm_up, timed = calls[: 2 * 2], calls[2 * 2 :]
    assert set(Counter(warm_up).values()) == {1}
    plain, other = meanings[:2]
    assert Counter(timed) == {(0, plain): 6, (1, plain): 6, (0, other): 3, (1, other): 3}
    firsts = {timed[start : start + 3][0][1] for start in range(0, len(timed), 3)}
    assert len(firsts) == 2  # not always the same one


@pytest.mark.parametrize("name", ["num_requests", "new_tokens", "repeats"])
def test_something_must_be_timed(name: str) -> None:
    with pytest.raises(ValueError, match=f"timing.{name}: must be 1 or more, got 0"):
        Timing(**{name: 0})  # type: ignore[arg-type]
