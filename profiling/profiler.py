"""Measure requests on a model: one row a run, component by component, in randomised order, resumable."""

import gc
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from models.engine import EagerEngine, Engine
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobGrid, KnobSetting, Tiling
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.stages import DECODE, PREFILL, PROJECTOR, TOTAL, VISION_ENCODER, observe
from profiling.clock import StageClock
from profiling.schema import ProfileRecord
from profiling.workload import SyntheticRequest

KEY_FIELDS: Final = ("sample_id", "tier", "top_k", "num_active_blocks", "run_id")
Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a sweep measures.

    Args:
        requests: The requests.
        grid: Levels of the knobs; every setting is measured unless ``settings_per_request`` says otherwise.
        repeats: Timed runs of each request and setting.
        tiling: How tiers are applied to images.
        settings_per_request: Measure only so many settings of each request, drawn at random.
        dataset: Name that the records carry.
        split: Part of the dataset that the records carry.
        seed: Of the order and of the drawn settings.
    """

    requests: Sequence[SyntheticRequest]
    grid: KnobGrid
    repeats: int
    tiling: Tiling = "target"
    settings_per_request: int | None = None
    dataset: str = "synthetic"
    split: str = "train"
    seed: int = 42

    def settings(self, request: SyntheticRequest) -> list[KnobSetting]:
        """Return the settings that a request is measured with."""
        settings = self.grid.settings()
        if self.settings_per_request is None:
            return settings
        # A string seeds by its content; a tuple would seed by its hash, which differs between processes.
        rng = random.Random(f"{self.seed}/{request.sample_id}")  # noqa: S311 - no secret
        return rng.sample(settings, min(self.settings_per_request, len(settings)))

    def blocks(self, requests: Sequence[SyntheticRequest]) -> Iterator[tuple[int, SyntheticRequest, list[KnobSetting]]]:
        """Go through the measurements: run by run, so that drift of the device meets every setting alike.

        Yields:
            Number of the run, a request, and its settings in random order.
        """
        for run_id in range(self.repeats):
            rng = random.Random(f"{self.seed}/{run_id}")  # noqa: S311 - no secret
            for request in rng.sample(list(requests), len(requests)):
                settings = self.settings(request)
                rng.shuffle(settings)
                yield run_id, request, settings

    def keys(self, request: SyntheticRequest) -> set[Key]:
        """Name the measurements of a request."""
        return {
            measurement_key(request, setting, run_id)
            for setting in self.settings(request)
            for run_id in range(self.repeats)
        }


def measurement_key(request: SyntheticRequest, setting: KnobSetting, run_id: int) -> Key:
    """Name a measurement by the values of ``KEY_FIELDS``."""
    return request.sample_id, setting.tier, setting.top_k, setting.num_active_blocks, run_id


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A request's inputs at one tier, on the device, and how long the host took to make them."""

    inputs: ModelInputs
    preprocess_ms: float


class Profiler:
    """Measure the requests of a plan on one model.

    Args:
        model: The model, on its device.
        processor: Makes inputs of prompts and images.
        plan: What to measure.
        engine: The model's engine; the eager one if ``None``.
    """

    def __init__(self, model: Molmo, processor: MolmoProcessor, plan: Plan, *, engine: Engine | None = None) -> None:
        self._engine = engine or EagerEngine(model)
        self._model = model
        self._processor = processor
        self._plan = plan
        self._device = model.language_model.head.weight.device
        self._clock = StageClock(self._device)
        # No answer ends early, yet each step looks for a stop token and waits for the device, as real requests do:
        # this id is one that the output head cannot name.
        self._unreachable_id = model.config.embedding_size

    def run(
        self,
        requests: Sequence[SyntheticRequest],
        *,
        done: Collection[Key],
        write: Callable[[ProfileRecord], None],
    ) -> None:
        """Measure what is not done yet.

        Args:
            requests: Those of the plan that this process measures.
            done: Keys of measurements to skip.
            write: Receives each record as soon as it is measured.
        """
        self._engine.warm_up(self._plan.grid.settings())
        for run_id, request, settings in self._plan.blocks(requests):
            left = [setting for setting in settings if measurement_key(request, setting, run_id) not in done]
            if left:
                self._measure_request(request, left, run_id, write)

    def _measure_request(
        self,
        request: SyntheticRequest,
        settings: Sequence[KnobSetting],
        run_id: int,
        write: Callable[[ProfileRecord], None],
    ) -> None:
        prepared = {tier: self._prepare(request, tier) for tier in sorted({setting.tier for setting in settings})}
        # Collections in the middle of a measurement would show as outliers that no request causes.
        gc.collect()
        gc.disable()
        try:
            for tier in prepared.values():
                self._warm_up(tier.inputs)
            for setting in settings:
                tier = prepared[setting.tier]
                times_ms = self._time(tier.inputs, setting, request.output_tokens)
                write(self._record(request, setting, run_id, tier, times_ms))
        finally:
            gc.enable()

    def _prepare(self, request: SyntheticRequest, tier: str) -> _Prepared:
        image = request.draw_image()
        prompt = request.draw_prompt(self._model.config.vocab_size)
        start = time.perf_counter()
        inputs = self._processor.from_token_ids(
            prompt, image, tier=self._plan.grid.tier(tier), tiling=self._plan.tiling
        )
        inputs = inputs.to(self._device)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        preprocess_ms = (time.perf_counter() - start) * 1e3
        return _Prepared(inputs=inputs, preprocess_ms=preprocess_ms)

    def _warm_up(self, inputs: ModelInputs) -> None:
        """Meet the shapes of a request once, untimed: memory is allocated and kernels are loaded."""
        generate(self._model, inputs, max_new_tokens=3, stop_token_ids=(self._unreachable_id,), engine=self._engine)

    def _time(self, inputs: ModelInputs, setting: KnobSetting, output_tokens: int) -> dict[str, float]:
        with observe(self._clock):
            generate(
                self._model,
                inputs,
                setting=setting,
                max_new_tokens=output_tokens,
                stop_token_ids=(self._unreachable_id,),
                engine=self._engine,
            )
        return {name: sum(samples_ms) for name, samples_ms in self._clock.read_ms().items()}

    def _record(
        self, request: SyntheticRequest, setting: KnobSetting, run_id: int, tier: _Prepared, times_ms: dict[str, float]
    ) -> ProfileRecord:
        vision_tokens = int(tier.inputs.num_vision_tokens[0])
        return ProfileRecord(
            dataset=self._plan.dataset,
            split=self._plan.split,
            sample_id=request.sample_id,
            image_id=request.sample_id,
            image_width=request.width,
            image_height=request.height,
            tier=setting.tier,
            top_k=setting.top_k,
            num_active_blocks=setting.num_active_blocks,
            active_blocks=setting.active_blocks,
            num_crops=int(tier.inputs.num_crops[0]),
            vision_tokens=vision_tokens,
            text_tokens=int(tier.inputs.num_tokens[0]) - vision_tokens,
            output_tokens=request.output_tokens,
            preprocess_ms=tier.preprocess_ms,
            vision_encoder_ms=times_ms[VISION_ENCODER],
            projector_ms=times_ms[PROJECTOR],
            prefill_ms=times_ms[PREFILL],
            # With one token no step follows the prefill; what the clock saw is the loop's own bookkeeping.
            decode_ms=times_ms[DECODE] if request.output_tokens > 1 else 0.0,
            total_ms=times_ms[TOTAL],
            run_id=run_id,
            seed=self._plan.seed,
        )
