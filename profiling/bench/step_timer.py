"""Time a decode step that is cut into programs in some way; needs Triton."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from models.engine.fused_decode import FusedDecode, Workspace
from models.engine.recording import Record
from models.engine.tiles import Tiles
from models.knobs import STANDARD_TIERS, KnobSetting, spread_blocks
from models.molmo import Molmo
from profiling.bench.tune import Tuning
from profiling.clock import CALL, StageClock, measure
from profiling.statistics import summarize


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Some fields of the cut with other values.

    Args:
        change: The fields.
        relative: Mean time over levels and contexts, each as a share of the default cut's.
    """

    change: Mapping[str, Any]
    relative: float


class StepTimer:
    """Times steps in which all blocks run.

    Args:
        model: The model, on its device.
        tuning: At which levels and contexts.
        record: Turns a call into its replay.
        clock: Another clock, for tests.
    """

    def __init__(self, model: Molmo, tuning: Tuning, record: Record, *, clock: StageClock | None = None) -> None:
        self._model = model
        self._tuning = tuning
        self._record = record
        self._clock = clock or StageClock(model.language_model.head.weight.device)
        self._default_ms = self.times_ms(Tiles())

    def relative(self, tiles: Tiles) -> float:
        """Return the mean over levels and contexts of a cut's times, each as a share of the default cut's."""
        times_ms = self.times_ms(tiles)
        return sum(times_ms[name] / default_ms for name, default_ms in self._default_ms.items()) / len(times_ms)

    @torch.inference_mode()
    def times_ms(self, tiles: Tiles) -> dict[str, float]:
        """Return the median time of a step at each level and context."""
        tuning, config = self._tuning, self._model.config
        workspace = Workspace.allocate(self._model, capacity=tuning.capacity, tiles=tiles)
        workspace.cache.normal_()  # zeros would be faster than what requests leave there
        blocks = spread_blocks(config.num_blocks, config.num_blocks)
        times_ms = {}
        for top_k in tuning.top_k:
            setting = KnobSetting(tier=STANDARD_TIERS[-1].name, top_k=top_k, active_blocks=blocks)
            replay = self._record(FusedDecode(self._model, setting, workspace).run)
            for context in tuning.contexts:
                workspace.position.fill_(context)
                samples_ms = measure(replay, clock=self._clock, warmup=tuning.warmup, repeats=tuning.repeats)
                times_ms[f"top_k {top_k}, context {context}"] = summarize(samples_ms[CALL]).p50
        return times_ms


def try_all(
    timer: StepTimer, best: Tiles, changes: Sequence[Mapping[str, Any]], advance: Callable[[], None]
) -> list[Attempt]:
    """Try changes of the best cut so far; what the device has no room for is left out.

    Returns:
        The attempts, the fastest first; the cut as it is is one of them.
    """
    unchanged = {name: getattr(best, name) for name in changes[0]}
    attempts = [Attempt(change=unchanged, relative=timer.relative(best))]
    for change in changes:
        with suppress(OutOfResources):
            attempts.append(Attempt(change=change, relative=timer.relative(replace(best, **change))))
        advance()
    return sorted(attempts, key=lambda attempt: attempt.relative)
