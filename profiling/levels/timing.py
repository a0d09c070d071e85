"""Time the meanings of levels against one another, in one run and in random order."""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, EngineName
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import ExpertCounts
from models.molmo import Molmo
from profiling.clock import CALL, StageClock, measure


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How meanings of levels are timed.

    Args:
        engine: How the model runs; where it cannot, eagerly, which the log and the level table say.
        num_requests: Requests of each dataset, of the part that is looked at afterwards.
        new_tokens: Tokens of each answer, as many for every meaning.
        repeats: Timed runs of each request and meaning.

    Raises:
        ValueError: If a number is below 1.
    """

    engine: EngineName = "eager"
    num_requests: int = 8
    new_tokens: int = 4
    repeats: int = 5

    def __post_init__(self) -> None:
        counts = {"num_requests": self.num_requests, "new_tokens": self.new_tokens, "repeats": self.repeats}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"timing.{name}: must be 1 or more, got {count}")


class LevelTimer:
    """Times whole requests: encoder, prefill, and a fixed number of new tokens.

    Args:
        model: The model.
        engine: Its engine.
        requests: What is timed, one request each, on the model's device.
        timing: How.
    """

    def __init__(self, model: Molmo, engine: Engine, requests: Sequence[ModelInputs], timing: Timing) -> None:
        self._model = model
        self._engine = engine
        self._requests = requests
        self._timing = timing
        self._clock = StageClock(model.language_model.head.weight.device)

    def times_ms(
        self, meanings: Sequence[ExpertCounts], *, seed: int, advance: Callable[[], None]
    ) -> list[NDArray[np.float64]]:
        """Time meanings, run by run and request by request in random order, so that drift meets all alike.

        Args:
            meanings: What is timed; one that is named twice is timed twice, which shows the noise.
            seed: Of the order.
            advance: Called after each request and run.

        Returns:
            Median milliseconds of each request, ``(requests,)`` for each meaning.
        """
        rng = random.Random(seed)  # noqa: S311 - no secret
        runs_ms = np.empty((self._timing.repeats, len(meanings), len(self._requests)))
        self._warm_up(meanings)
        gc.collect()
        gc.disable()
        try:
            for run_ms in runs_ms:
                for place in rng.sample(range(len(self._requests)), len(self._requests)):
                    for index in rng.sample(range(len(meanings)), len(meanings)):
                        run_ms[index, place] = self._time_ms(place, meanings[index])
                    advance()
        finally:
            gc.enable()
        return list(np.median(runs_ms, axis=0))

    def _warm_up(self, meanings: Sequence[ExpertCounts]) -> None:
        """Run each meaning on each request untimed: kernels are loaded, and recorded where the engine records."""
        for place in range(len(self._requests)):
            for experts in dict.fromkeys(meanings):
                self._call(place, experts)

    def _time_ms(self, place: int, experts: ExpertCounts) -> float:
        call = partial(self._call, place, experts)
        return measure(call, clock=self._clock, warmup=0, repeats=1)[CALL][0]

    def _call(self, place: int, experts: ExpertCounts) -> None:
        generate(
            self._model,
            self._requests[place],
            setting=replace(self._model.full_setting, experts=experts),
            max_new_tokens=self._timing.new_tokens,
            engine=self._engine,
        )
