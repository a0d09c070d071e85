"""Time the contestants of one cell in turns."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.molmo import Molmo
from profiling.bench.cells import Benchmark, BenchStage, Cell, StagePlan
from profiling.bench.contestants import Contestant, LeftOut, Prepared, device_of, draw_request
from profiling.clock import CALL, StageClock, measure

_OUT_OF_MEMORY = "out of device memory"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one contestant in a cell.

    Args:
        samples_ms: Times of the counted runs, in order; none if it was left out.
        warm_up_s: From nothing to warm, compilation included.
        difference: Largest difference of its results from the first contestant's, as a share of their standard
            deviation; ``None`` for the first, and for token ids.
        left_out: Why it did not run.
    """

    samples_ms: tuple[float, ...] = ()
    warm_up_s: float | None = None
    difference: float | None = None
    left_out: str | None = None


class CellRunner:
    """Measure cells, one after the other.

    Args:
        benchmark: What is measured.
        model: The model, on its device.
        contestants: By name.
    """

    def __init__(self, benchmark: Benchmark, model: Molmo, contestants: Mapping[str, Contestant]) -> None:
        self._benchmark = benchmark
        self._model = model
        self._contestants = contestants
        self._device = device_of(model)
        self._clock = StageClock(self._device)

    def measure(self, cell: Cell, advance: Callable[[], None]) -> dict[str, Outcome]:
        """Measure a cell: warm every contestant up, then let them take turns.

        Args:
            cell: The cell.
            advance: Called after the warm-up and after each round.

        Returns:
            What became of each contestant, by name, in the plan's order.
        """
        plan = self._benchmark.plans()[cell.stage]
        prepared, outcomes = self._warm_all(cell, plan)
        advance()
        samples_ms = self._take_turns(prepared, plan, outcomes, advance)
        prepared.clear()
        for name in plan.contestants:
            self._contestants[name].release()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return {name: replace(outcomes[name], samples_ms=tuple(samples_ms.get(name, ()))) for name in plan.contestants}

    def _warm_all(self, cell: Cell, plan: StagePlan) -> tuple[dict[str, Prepared], dict[str, Outcome]]:
        """Prepare and warm up those that can run here; the others' outcomes say why they cannot."""
        outcomes: dict[str, Outcome] = {}
        prepared: dict[str, Prepared] = {}
        answers: dict[str, Tensor] = {}
        for name in plan.contestants:
            start = time.perf_counter()
            try:
                prepared[name] = self._prepare(cell, name)
                answers[name] = self._warm_up(prepared[name], plan.warmup)
            except (LeftOut, torch.OutOfMemoryError) as err:
                prepared.pop(name, None)
                outcomes[name] = _left_out(err)
            else:
                warm_up_s = time.perf_counter() - start
                outcomes[name] = Outcome(warm_up_s=warm_up_s, difference=_difference(cell, answers, name))
        return prepared, outcomes

    def _prepare(self, cell: Cell, name: str) -> Prepared:
        contestant = self._contestants[name]
        reason = contestant.unavailable(self._device)
        if reason is not None:
            raise LeftOut(reason)
        config = self._model.config
        if cell.stage == BenchStage.PREFILL:
            return contestant.prefill(cell.size, cell.setting(config))
        if cell.stage == BenchStage.DECODE:
            return contestant.decode(cell.size, cell.setting(config))
        if cell.stage == BenchStage.VISION:
            return contestant.vision(cell.size)
        inputs = draw_request(config, num_crops=cell.size, text_tokens=self._benchmark.text_tokens, device=self._device)
        return contestant.request(inputs, self._benchmark.output_tokens, cell.setting(config))

    def _warm_up(self, prepared: Prepared, runs: int) -> Tensor:
        """Run without counting, and return what came out last."""
        for _ in range(runs):
            prepared.reset()
            answer = prepared.run()
        self._wait()
        # What a CUDA graph returned is overwritten by its next run.
        return answer.clone()

    def _take_turns(
        self,
        prepared: dict[str, Prepared],
        plan: StagePlan,
        outcomes: dict[str, Outcome],
        advance: Callable[[], None],
    ) -> dict[str, list[float]]:
        """Time every contestant in each round; one that fails now, with all others alive, is left out."""
        samples_ms: dict[str, list[float]] = {name: [] for name in prepared}
        gc.collect()
        gc.disable()  # or a collection in the middle of a run would show as an outlier
        try:
            for round_index in range(plan.rounds):
                names = list(prepared)
                first = round_index % max(len(names), 1)
                for name in names[first:] + names[:first]:  # so that nobody always follows the same one
                    try:
                        samples_ms[name] += self._turn(prepared[name], plan.repeats)
                    except (LeftOut, torch.OutOfMemoryError) as err:
                        del prepared[name], samples_ms[name]
                        outcomes[name] = _left_out(err)
                advance()
        finally:
            gc.enable()
        return samples_ms

    def _turn(self, prepared: Prepared, repeats: int) -> list[float]:
        samples_ms = []
        for _ in range(repeats):
            prepared.reset()
            self._wait()
            samples_ms += measure(prepared.run, clock=self._clock, warmup=0, repeats=1)[CALL]
        return samples_ms

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _left_out(error: Exception) -> Outcome:
    return Outcome(left_out=str(error) if isinstance(error, LeftOut) else _OUT_OF_MEMORY)


def _difference(cell: Cell, answers: Mapping[str, Tensor], name: str) -> float | None:
    """Hold a contestant's answer against that of the first one that has any."""
    reference, answer = next(iter(answers.values())).float(), answers[name].float()
    if cell.stage == BenchStage.REQUEST or len(answers) == 1:
        return None
    return float((answer - reference).abs().max() / reference.std())
