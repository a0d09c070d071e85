"""Measure requests on a model: one row a run, component by component, in randomised order, resumable."""

import gc
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image

from models.engine import EagerEngine, Engine
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobGrid, KnobSetting, Tiling
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.stages import DECODE, PREFILL, PROJECTOR, TOTAL, VISION_ENCODER, observe
from profiling.clock import StageClock
from profiling.schema import ProfileRecord
from profiling.workload import Request

KEY_FIELDS: Final = ("dataset", "split", "sample_id", "tier", "top_k", "num_active_blocks", "run_id")
Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep measures, or one process of it.

    Args:
        requests: The requests.
        grid: Levels of the knobs; every setting is measured unless ``settings_per_request`` says otherwise.
        repeats: Timed runs of each request and setting.
        tiling: How tiers are applied to images.
        settings_per_request: Measure only so many settings of each request, drawn at random.
        seed: Of the order and of the drawn settings.
    """

    requests: Sequence[Request]
    grid: KnobGrid
    repeats: int
    tiling: Tiling = "target"
    settings_per_request: int | None = None
    seed: int = 42

    def settings(self, request: Request) -> list[KnobSetting]:
        """Return the settings that a request is measured with."""
        settings = self.grid.settings()
        if self.settings_per_request is None:
            return settings
        # A string seeds by its content; a tuple would seed by its hash, which differs between processes.
        rng = random.Random(f"{self.seed}/{request.sample_id}")  # noqa: S311 - no secret
        return rng.sample(settings, min(self.settings_per_request, len(settings)))

    def blocks(self) -> Iterator[tuple[int, Request, list[KnobSetting]]]:
        """Go through the measurements: run by run, so that drift of the device meets every setting alike.

        Yields:
            Number of the run, a request, and its settings in random order.
        """
        for run_id in range(self.repeats):
            rng = random.Random(f"{self.seed}/{run_id}")  # noqa: S311 - no secret
            for request in rng.sample(list(self.requests), len(self.requests)):
                settings = self.settings(request)
                rng.shuffle(settings)
                yield run_id, request, settings

    def keys(self, request: Request) -> set[Key]:
        """Name the measurements of a request."""
        return {
            measurement_key(request, setting, run_id)
            for setting in self.settings(request)
            for run_id in range(self.repeats)
        }


def measurement_key(request: Request, setting: KnobSetting, run_id: int) -> Key:
    """Name a measurement by the values of ``KEY_FIELDS``."""
    knobs = (setting.tier, setting.top_k, setting.num_active_blocks)
    return request.dataset, request.split, request.sample_id, *knobs, run_id


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A request's inputs at one tier, on the device, what is in them, and how long the host took to make them."""

    inputs: ModelInputs
    image_size: tuple[int, int]
    num_crops: int
    vision_tokens: int
    text_tokens: int
    preprocess_ms: float


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Ids of an answer, and the milliseconds of each stage."""

    token_ids: list[int]
    times_ms: dict[str, float]


class Profiler:
    """Measure the requests of a plan on one model, one at a time.

    Args:
        model: The model, on its device.
        processor: Makes inputs of prompts and images; with a tokenizer where requests have words.
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
        # Where nothing is asked no answer ends early, yet each step looks for a stop token and waits for the device, as
        # real requests do: this id is one that the output head cannot name.
        self._unreachable_id = model.config.embedding_size

    def run(
        self,
        *,
        done: Collection[Key],
        write: Callable[[ProfileRecord], None],
    ) -> None:
        """Measure what is not done yet.

        Args:
            done: Keys of measurements to skip.
            write: Receives each record as soon as it is measured.
        """
        self._engine.warm_up(self._plan.grid.settings())
        self._warm_up_preprocessing()
        # What lives by now is kept out of the collections below, each of which would otherwise look at all of it.
        gc.collect()
        gc.freeze()
        try:
            for run_id, request, settings in self._plan.blocks():
                left = [setting for setting in settings if measurement_key(request, setting, run_id) not in done]
                if left:
                    self._measure_request(request, left, run_id, write)
        finally:
            gc.unfreeze()

    def _measure_request(
        self,
        request: Request,
        settings: Sequence[KnobSetting],
        run_id: int,
        write: Callable[[ProfileRecord], None],
    ) -> None:
        image = request.open_image()
        prompt = request.prompt(self._model.config.vocab_size)
        tiers = sorted({setting.tier for setting in settings})
        prepared = {tier: self._prepare(prompt, image, tier) for tier in tiers}
        # Collections in the middle of a measurement would show as outliers that no request causes.
        gc.collect()
        gc.disable()
        try:
            for tier in prepared.values():
                self._warm_up(tier.inputs)
            for setting in settings:
                tier = prepared[setting.tier]
                run = self._time(request, tier.inputs, setting)
                record = self._record(request, setting, run_id, tier, run)
                write(self._answered(record, request, run.token_ids))
        finally:
            gc.enable()

    def _prepare(self, prompt: str | list[int], image: Image.Image, tier: str) -> _Prepared:
        start = time.perf_counter()
        inputs = self._inputs(prompt, image, tier)
        preprocess_ms = (time.perf_counter() - start) * 1e3
        vision_tokens = int(inputs.num_vision_tokens[0])
        return _Prepared(
            inputs=inputs,
            image_size=image.size,
            num_crops=int(inputs.num_crops[0]),
            vision_tokens=vision_tokens,
            text_tokens=int(inputs.num_tokens[0]) - vision_tokens,
            preprocess_ms=preprocess_ms,
        )

    def _inputs(self, prompt: str | list[int], image: Image.Image, tier: str) -> ModelInputs:
        ids = self._processor.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        inputs = self._processor.from_token_ids(ids, image, tier=self._plan.grid.tier(tier), tiling=self._plan.tiling)
        inputs = inputs.to(self._device)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return inputs

    def _warm_up_preprocessing(self) -> None:
        """Cut one picture, untimed: the first of a process takes many times as long as any other."""
        for request in self._plan.requests[:1]:
            image, prompt = request.open_image(), request.prompt(self._model.config.vocab_size)
            for tier in self._plan.grid.tiers:
                self._inputs(prompt, image, tier.name)

    def _warm_up(self, inputs: ModelInputs) -> None:
        """Meet the shapes of a request once, untimed: memory is allocated and kernels are loaded."""
        generate(self._model, inputs, max_new_tokens=3, stop_token_ids=(self._unreachable_id,), engine=self._engine)

    def _time(self, request: Request, inputs: ModelInputs, setting: KnobSetting) -> _Run:
        stop_id = self._unreachable_id if request.question is None else self._processor.special_tokens.eos_id
        with observe(self._clock):
            generation = generate(
                self._model,
                inputs,
                setting=setting,
                max_new_tokens=request.max_new_tokens,
                stop_token_ids=(stop_id,),
                engine=self._engine,
            )
        times_ms = {name: sum(samples_ms) for name, samples_ms in self._clock.read_ms().items()}
        return _Run(token_ids=generation.token_ids[0].tolist(), times_ms=times_ms)

    def _record(self, request: Request, setting: KnobSetting, run_id: int, tier: _Prepared, run: _Run) -> ProfileRecord:
        width, height = tier.image_size
        output_tokens, times_ms = len(run.token_ids), run.times_ms
        return ProfileRecord(
            dataset=request.dataset,
            split=request.split,
            sample_id=request.sample_id,
            image_id=request.image_id,
            image_width=width,
            image_height=height,
            tier=setting.tier,
            top_k=setting.top_k,
            num_active_blocks=setting.num_active_blocks,
            active_blocks=setting.active_blocks,
            num_crops=tier.num_crops,
            vision_tokens=tier.vision_tokens,
            text_tokens=tier.text_tokens,
            output_tokens=output_tokens,
            preprocess_ms=tier.preprocess_ms,
            vision_encoder_ms=times_ms[VISION_ENCODER],
            projector_ms=times_ms[PROJECTOR],
            prefill_ms=times_ms[PREFILL],
            # With one token no step follows the prefill; what the clock saw is the loop's own bookkeeping.
            decode_ms=times_ms[DECODE] if output_tokens > 1 else 0.0,
            total_ms=times_ms[TOTAL],
            run_id=run_id,
            seed=self._plan.seed,
        )

    def _answered(self, record: ProfileRecord, request: Request, token_ids: list[int]) -> ProfileRecord:
        """Add what was asked and answered, and how right that is as far as it is known."""
        if request.question is None:
            return record
        prediction = self._processor.decode(token_ids)
        answered: dict[str, object] = {"question": request.question, "prediction": prediction}
        score = request.score(prediction)
        if score is not None:
            answered |= {"accuracy": score.value, "metric": score.name.value}
        return record.model_copy(update=answered)
