"""Answer one request within its budget: look, choose, encode, choose again, answer, stop in time."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from models.controllers import LLMBased, Vector
from models.deadline import Deadline
from models.engine import BegunPrefill, Engine, EngineName
from models.generation import Generation, encode_images, generate, glance_at
from models.image_processor import Overview
from models.inputs import ModelInputs
from models.knobs import KnobGrid, Tier, Tiling
from models.molmo import Glance, Molmo
from models.processor import MolmoProcessor
from models.stages import DECODE, PREFILL, PROJECTOR, VISION_ENCODER, observe, stage
from profiling.adaptive.chooser import Choice, Chooser
from profiling.adaptive.online_features import OnlineFeatures
from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.served import Served
from profiling.clock import StageClock
from profiling.controllers.embeddings import glance_embedding, vision_embedding

Margin = Callable[[float], float]
"""Says which share of a budget, in milliseconds, to keep back."""

_FEATURES: Final = "features"
_CONTROLLER: Final = "controller"
_PREPROCESS: Final = "preprocess"
_WARM_UP_TOKENS: Final = 3


def no_margin(_budget_ms: float) -> float:
    """Keep nothing back."""
    return 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """An answer, and how it was chosen.

    Args:
        served: The record.
        choice: The last decision, with what it was made from.
        grid: The settings that it was among.
    """

    served: Served
    choice: Choice
    grid: KnobGrid

    def to(self, device: torch.device | str, **options: object) -> "Answer":
        """Return the answer as it is. Lightning moves predictions with this."""
        return self


class _Seen(NamedTuple):
    """A request's overview, where the first decision looks at it."""

    overview: Overview
    glance: Glance


class _Encoded(NamedTuple):
    """What has been run of a request when its setting is known."""

    inputs: ModelInputs
    vision_tokens: Tensor
    begun: BegunPrefill | None


class _Done(NamedTuple):
    """What was chosen and answered."""

    choice: Choice
    num_prompt_ids: int
    token_ids: list[int]
    is_truncated: bool


@dataclass(kw_only=True, eq=False)
class _Run:
    """The time line of one request on the host; ``budget_ms`` has the margin taken off.

    ``glance_ms`` is what the overview took ahead of the rest of the picture: part of every setting's time.
    """

    start_s: float
    budget_ms: float
    now: Callable[[], float]
    glance_ms: float = 0.0
    remaining_ms: float = 0.0
    times_ms: dict[str, float] = field(default_factory=dict)

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return (self.now() - self.start_s) * 1e3

    def timed(self, name: str) -> "_Timed":
        """Add what the host spends in the block to a part of the request."""
        return _Timed(self, name)


class _Timed:
    """The block of ``_Run.timed``: a generator would take about as long as what is timed."""

    __slots__ = ("_name", "_run", "_start_s")

    def __init__(self, run: _Run, name: str) -> None:
        self._run = run
        self._name = name

    def __enter__(self) -> None:
        self._start_s = self._run.now()

    def __exit__(self, *_error: object) -> None:
        run, name = self._run, self._name
        run.times_ms[name] = run.times_ms.get(name, 0.0) + (run.now() - self._start_s) * 1e3


class Server:
    """Answer requests one at a time, as they would be served, and time everything between raw input and last token.

    Raw input is a decoded picture and words. No collection of garbage falls into a request.

    Args:
        model: The model, on its device.
        processor: Its processor there, with a tokenizer.
        grid: Its settings.
        engine: Its engine.
        features: Makes what the controller reads.
        chooser: Chooses settings.
        stops_at_deadline: Whether to cut answers off at the deadline.
        tiling: How tiers are applied to images.
        now: The host's clock, in seconds.
    """

    def __init__(
        self,
        model: Molmo,
        processor: MolmoProcessor,
        *,
        grid: KnobGrid,
        engine: Engine,
        features: OnlineFeatures,
        chooser: Chooser,
        stops_at_deadline: bool = True,
        tiling: Tiling = "target",
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._processor = processor
        self._grid = grid
        self._settings = grid.settings()
        self._engine = engine
        self._features = features
        self._chooser = chooser
        self._stops = stops_at_deadline
        self._tiling: Tiling = tiling
        self._now = now
        self._clock = StageClock(model.language_model.head.weight.device)

    @property
    def engine_name(self) -> EngineName:
        """How the model really runs."""
        return self._engine.name

    def warm_up(self, request: BudgetedRequest) -> None:
        """Meet every setting and the request's shapes at every tier, untimed."""
        self._engine.warm_up(self._settings)
        image, words = request.question.open_image(), self._ids(request)
        untimed = _Run(start_s=self._now(), now=self._now, budget_ms=request.budget_ms)
        for tier in self._grid.tiers:
            seen = self._look(image, untimed) if self._chooser.reads_glance else None
            inputs = self._cut(words, image, tier, seen)
            generate(
                self._model,
                inputs,
                max_new_tokens=_WARM_UP_TOKENS,
                stop_token_ids=(self._processor.special_tokens.eos_id,),
                engine=self._engine,
                vision_tokens=self._encode(inputs, seen),
            )
        self.answer(request, image, margin=0.0)
        self._chooser.forget()  # what runs for the first time is slow, and says nothing of the machine's pace
        gc.collect()
        gc.freeze()

    @torch.inference_mode()
    def answer(self, request: BudgetedRequest, image: Image.Image, *, margin: float) -> Answer:
        """Answer one request.

        Args:
            request: The request.
            image: Its picture, decoded.
            margin: Share of the budget to keep back: everything is decided as if there were that much less.
        """
        self._clock.reset()  # of a request that failed
        gc.collect()
        gc.disable()
        try:
            run = _Run(start_s=self._now(), now=self._now, budget_ms=request.budget_ms * (1 - margin))
            with run.timed(_PREPROCESS):
                words = self._ids(request)
            with observe(self._clock):
                choice, inputs, generation = self._run(request, image, words, run)
                token_ids = generation.token_ids[0].tolist()  # waits for the last token
            latency_ms = run.elapsed_ms()
        finally:
            gc.enable()
        for name, samples_ms in self._clock.read_ms().items():
            run.times_ms[name] = sum(samples_ms)
        done = _Done(choice, inputs.input_ids.shape[1], token_ids, is_truncated=generation.is_truncated)
        served = self._served(request, done, run, margin=margin, latency_ms=latency_ms)
        if served.expected_ms is not None:
            self._chooser.learn(measured_ms=latency_ms, expected_ms=served.expected_ms)
        return Answer(served=served, choice=choice, grid=self._grid)

    def _served(
        self, request: BudgetedRequest, done: "_Done", run: "_Run", *, margin: float, latency_ms: float
    ) -> Served:
        choice, question, times_ms = done.choice, request.question, run.times_ms
        setting, prediction = self._settings[choice.setting], self._processor.decode(done.token_ids)
        vision_tokens = choice.known.vision_tokens_T[self._chooser.tier_of(choice)]
        score = question.score(prediction)
        return Served(
            dataset=question.dataset,
            split=question.split,
            sample_id=question.sample_id,
            image_id=question.image_id,
            question=question.question,
            prediction=prediction,
            accuracy=None if score is None else score.value,
            metric=None if score is None else score.name.value,
            budget_ms=request.budget_ms,
            margin=margin,
            latency_ms=latency_ms,
            is_infeasible=choice.is_infeasible,
            is_truncated=done.is_truncated,
            tier=setting.tier,
            top_k=setting.top_k,
            num_active_blocks=setting.num_active_blocks,
            features_ms=times_ms[_FEATURES],
            controller_ms=times_ms[_CONTROLLER],
            preprocess_ms=times_ms[_PREPROCESS],
            vision_encoder_ms=times_ms[VISION_ENCODER],
            projector_ms=times_ms[PROJECTOR],
            prefill_ms=times_ms[PREFILL],
            # With one token no step follows the prefill; what the clock saw is the loop's own bookkeeping.
            decode_ms=times_ms[DECODE] if len(done.token_ids) > 1 else 0.0,
            remaining_ms=run.remaining_ms,
            expected_ms=_expected_ms(choice, len(done.token_ids)),
            vision_tokens=vision_tokens,
            text_tokens=done.num_prompt_ids - vision_tokens,
            output_tokens=len(done.token_ids),
        )

    def _run(
        self, request: BudgetedRequest, image: Image.Image, words: list[int], run: "_Run"
    ) -> tuple[Choice, ModelInputs, Generation]:
        seen = self._look(image, run) if self._chooser.reads_glance else None
        with run.timed(_FEATURES):
            known = self._features.describe(
                image_size=image.size,
                question=request.question.question,
                prompt_ids=words,
                glance_D=None if seen is None else _vector(glance_embedding(seen.glance)),
            )
        with run.timed(_CONTROLLER):
            elapsed_ms = run.elapsed_ms() - run.glance_ms
            choice = self._chooser.before_image(known, budget_ms=run.budget_ms, elapsed_ms=elapsed_ms)
            run.remaining_ms = run.budget_ms - run.elapsed_ms()
        with run.timed(_PREPROCESS):
            inputs = self._cut(words, image, self._grid.tiers[self._chooser.tier_of(choice)], seen)
        vision_tokens = self._encode(inputs, seen)
        begun = None
        if self._chooser.first_blocks is not None:
            choice, begun = self._begin(self._chooser.first_blocks, choice, inputs, vision_tokens, run)
        elif self._chooser.decides_twice:
            choice = self._look_again(choice, inputs, vision_tokens, run)
        return choice, inputs, self._generate(request, _Encoded(inputs, vision_tokens, begun), choice, run)

    def _look(self, image: Image.Image, run: "_Run") -> _Seen:
        """Cut and encode the overview before a tier is chosen, since every tier has it."""
        since_ms = run.elapsed_ms()
        with run.timed(_PREPROCESS):
            overview = self._processor.image_processor.overview(image)
        seen = _Seen(overview, glance_at(self._model, overview, engine=self._engine))
        _wait_for(seen.glance.tokens)
        run.glance_ms = run.elapsed_ms() - since_ms
        return seen

    def _cut(self, words: list[int], image: Image.Image, tier: Tier, seen: _Seen | None) -> ModelInputs:
        """Cut the picture at a tier, but for what was seen of it."""
        rest = image if seen is None else seen.overview
        return self._processor.from_token_ids(words, rest, tier=tier, tiling=self._tiling)

    def _encode(self, inputs: ModelInputs, seen: _Seen | None) -> Tensor:
        """Encode the crops, but for the overview if it was."""
        glance = None if seen is None else seen.glance
        vision_tokens = encode_images(self._model, inputs, engine=self._engine, glance=glance)
        assert vision_tokens is not None, "every request has a picture"
        return vision_tokens

    def _look_again(self, choice: Choice, inputs: ModelInputs, vision_tokens: Tensor, run: "_Run") -> Choice:
        pooled_BD = torch.zeros(1, 0)
        if self._chooser.reads_picture:
            with run.timed(_FEATURES):
                pooled_BD = vision_embedding(inputs, vision_tokens)
        _wait_for(vision_tokens)
        with run.timed(_FEATURES):
            pooled_D = _vector(pooled_BD)
        with run.timed(_CONTROLLER):
            run.remaining_ms = run.budget_ms - run.elapsed_ms()
            return self._chooser.after_image(choice, pooled_D, remaining_ms=run.remaining_ms)

    def _begin(
        self, first_blocks: LLMBased, choice: Choice, inputs: ModelInputs, vision_tokens: Tensor, run: "_Run"
    ) -> tuple[Choice, BegunPrefill]:
        """Begin the prefill with a budget token behind the prompt, and choose by the token's state."""
        _wait_for(vision_tokens)
        run.remaining_ms = run.budget_ms - run.elapsed_ms()
        with stage(PREFILL):
            begun, state_BD = first_blocks.begin(self._model, inputs, vision_tokens, torch.tensor([run.remaining_ms]))
        _wait_for(state_BD)
        with run.timed(_FEATURES):
            state_D = _vector(state_BD)
        with run.timed(_CONTROLLER):
            return self._chooser.after_image(choice, state_D, remaining_ms=run.remaining_ms), begun

    def _generate(self, request: BudgetedRequest, encoded: "_Encoded", choice: Choice, run: "_Run") -> Generation:
        deadline = None
        if self._stops:
            deadline = Deadline(
                at_s=run.start_s + run.budget_ms / 1e3, token_ms=self._chooser.token_bound_ms(choice), now=self._now
            )
        return generate(
            self._model,
            encoded.inputs,
            setting=self._settings[choice.setting],
            max_new_tokens=request.question.max_new_tokens,
            stop_token_ids=(self._processor.special_tokens.eos_id,),
            engine=self._engine,
            vision_tokens=encoded.vision_tokens,
            begun=encoded.begun,
            deadline=deadline,
        )

    def _ids(self, request: BudgetedRequest) -> list[int]:
        return self._processor.tokenizer.encode(request.question.prompt(self._model.config.vocab_size))


def _wait_for(tensor: Tensor) -> None:
    """Wait until a GPU has made a tensor, so that the time until then counts as what it did."""
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()


def _vector(of_one_BD: Tensor) -> Vector:
    """Return the numbers of the only request there is, on the host."""
    vector: Vector = of_one_BD[0].float().cpu().numpy()
    return vector


def _expected_ms(choice: Choice, num_tokens: int) -> float | None:
    if choice.expected is None:
        return None
    first_ms, token_ms = choice.expected.first_token_ms[choice.setting], choice.expected.token_ms[choice.setting]
    return float(first_ms + (num_tokens - 1) * token_ms)
