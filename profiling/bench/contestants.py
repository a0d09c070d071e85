"""Who runs in a benchmark: one small protocol, the inputs that all of them get, and our engines."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import torch
from torch import Tensor

from models.config import MolmoConfig
from models.engine import Engine, EngineName, EngineRequest, make_engine, why_no_graph
from models.engine.eager import allocate_cache, prefill
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.kv_cache import KVCache
from models.molmo import Molmo

_SEED: Final = 7


class LeftOut(Exception):  # noqa: N818 - a decision, not an error
    """What a contestant raises where it cannot run; the message is the reason that the report gives."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One measurement, ready to be repeated.

    Args:
        run: What is timed. Returns logits, features or tokens, which only the check against other contestants reads.
        reset: Makes the next run the same as the last one; called before each run, not timed.
    """

    run: Callable[[], Tensor]
    reset: Callable[[], None] = _nothing


class Contestant(Protocol):
    """An engine that runs the stages of a request, batch 1. Built with a ``Molmo``, whose weights it uses.

    Each method prepares a measurement and may raise ``LeftOut``.
    """

    def unavailable(self, device: torch.device) -> str | None:
        """Say why the contestant cannot run on a device at all; ``None`` if it can."""

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        """Run a prompt up to the logits of its last token, ``(1, vocabulary)``, memory for its cache included."""

    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        """Run one token behind ``context`` others up to its logits, ``(1, vocabulary)``."""

    def vision(self, num_crops: int) -> Prepared:
        """Turn crops into features, ``(crops, patches, features)``."""

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        """Answer a request greedily, to ``(1, output_tokens)`` ids."""

    def release(self) -> None:
        """Drop what was prepared."""


def draw_prompt(config: MolmoConfig, tokens: int, device: torch.device) -> Tensor:
    """Draw ids, ``(1, tokens)``; always the same for a length."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(config.vocab_size, (1, tokens), generator=generator).to(device)


def draw_crops(config: MolmoConfig, num_crops: int, device: torch.device) -> Tensor:
    """Draw crops, ``(crops, patches, patch_dim)``; always the same for a number."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(num_crops, config.num_patches, config.patch_dim, generator=generator).to(device)


def draw_request(config: MolmoConfig, *, num_crops: int, text_tokens: int, device: torch.device) -> ModelInputs:
    """Draw a request that keeps every token of its crops, which is the most that so many can bring; none: no image."""
    vision_tokens = num_crops * config.tokens_per_crop
    input_ids = draw_prompt(config, text_tokens + vision_tokens, device)
    if num_crops == 0:
        return ModelInputs(input_ids=input_ids)
    return ModelInputs(
        input_ids=input_ids,
        crops=draw_crops(config, num_crops, device)[None],
        patch_mask=torch.ones(1, num_crops, config.num_patches, device=device),
        token_index=torch.arange(vision_tokens, device=device).view(1, num_crops, config.tokens_per_crop),
    )


@torch.inference_mode()
def filled_cache(model: Molmo, context: int, setting: KnobSetting) -> KVCache:
    """Run a drawn prompt of ``context`` tokens, and return its cache with room for one more."""
    cache = allocate_cache(model, setting, batch_size=1, capacity=context + 1)
    prompt = ModelInputs(input_ids=draw_prompt(model.config, context, device_of(model)))
    prefill(model, prompt, model.embed(prompt, None), setting, cache)
    return cache


def device_of(model: Molmo) -> torch.device:
    """Return where a model is."""
    device: torch.device = model.language_model.head.weight.device
    return device


class Ours:
    """Our model, as ``models.generation.generate`` runs it on an engine.

    Args:
        model: The model.
        engine: Name of the engine.
    """

    def __init__(self, model: Molmo, *, engine: EngineName) -> None:
        self._model = model
        self._name = engine
        self._device = device_of(model)
        self._held = ExitStack()

    def unavailable(self, device: torch.device) -> str | None:
        """Leave an engine out where the eager one takes its place."""
        reason = why_no_graph(self._model) if self._name == "graph" else None
        if reason is not None:
            return f"needs {reason}"
        return None if self._engine.name == self._name else "cannot run here, the log says why"

    @cached_property
    def _engine(self) -> Engine:
        """The engine, which keeps what it has recorded from one measurement to the next."""
        return make_engine(self._name, self._model)

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        self.release()
        prompt = ModelInputs(input_ids=draw_prompt(self._model.config, tokens, self._device))

        @torch.inference_mode()
        def run() -> Tensor:
            with self._engine.request(setting, batch_size=1, capacity=tokens) as request:
                request.prefill(prompt, self._model.embed(prompt, None))
                return request.logits

        return Prepared(run=run)

    @torch.inference_mode()
    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        request = self._hold(setting, capacity=context + 1)
        prompt = ModelInputs(input_ids=draw_prompt(self._model.config, context, self._device))
        request.prefill(prompt, self._model.embed(prompt, None))
        token = draw_prompt(self._model.config, 1, self._device)[0]
        # As in an answer, the token lies where the engine has put the likeliest one.
        next_token = request.likeliest

        @torch.inference_mode()
        def run() -> Tensor:
            request.step(next_token)
            return request.logits

        @torch.inference_mode()
        def reset() -> None:
            request.rewind(context)
            next_token.copy_(token)

        reset()
        return Prepared(run=run, reset=reset)

    def vision(self, num_crops: int) -> Prepared:
        """See ``Contestant``."""
        crops = draw_crops(self._model.config, num_crops, self._device)
        encode = self._hold(self._model.full_setting, capacity=1).vision.vision_encoder

        @torch.inference_mode()
        def run() -> Tensor:
            return encode(crops)

        return Prepared(run=run)

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        self.release()

        def run() -> Tensor:
            answer = generate(self._model, inputs, setting=setting, max_new_tokens=output_tokens, engine=self._engine)
            return answer.token_ids

        return Prepared(run=run)

    def release(self) -> None:
        """Give the engine's memory back."""
        self._held.close()

    def _hold(self, setting: KnobSetting, *, capacity: int) -> EngineRequest:
        """Keep a request open until ``release``, or until another one is."""
        self.release()
        return self._held.enter_context(self._engine.request(setting, batch_size=1, capacity=capacity))
