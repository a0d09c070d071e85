"""Who runs in a benchmark: one small protocol, the inputs that all of them get, and our eager engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from models.config import MolmoConfig
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.kv_cache import KVCache
from models.molmo import Molmo, token_positions

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
    """Draw a request that keeps every token of its crops, which is the most that so many crops can bring."""
    vision_tokens = num_crops * config.tokens_per_crop
    return ModelInputs(
        input_ids=draw_prompt(config, text_tokens + vision_tokens, device),
        crops=draw_crops(config, num_crops, device)[None],
        patch_mask=torch.ones(1, num_crops, config.num_patches, device=device),
        token_index=torch.arange(vision_tokens, device=device).view(1, num_crops, config.tokens_per_crop),
    )


@torch.inference_mode()
def filled_cache(model: Molmo, context: int, setting: KnobSetting) -> KVCache:
    """Run a drawn prompt of ``context`` tokens, and return its cache with room for one more."""
    cache = _new_cache(model, setting, context + 1)
    _prefill(model, draw_prompt(model.config, context, device_of(model)), setting, cache)
    return cache


def device_of(model: Molmo) -> torch.device:
    """Return where a model is."""
    device: torch.device = model.language_model.head.weight.device
    return device


class OursEager:
    """Our model, one kernel after another, as ``models.generation.generate`` runs it without an engine.

    Args:
        model: The model.
    """

    def __init__(self, model: Molmo) -> None:
        self._model = model
        self._device = device_of(model)

    def unavailable(self, device: torch.device) -> str | None:
        """Run everywhere."""
        return None

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        prompt = draw_prompt(self._model.config, tokens, self._device)

        @torch.inference_mode()
        def run() -> Tensor:
            return _prefill(self._model, prompt, setting, _new_cache(self._model, setting, tokens))

        return Prepared(run=run)

    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        language_model = self._model.language_model
        cache = filled_cache(self._model, context, setting)
        token = draw_prompt(self._model.config, 1, self._device)
        position = torch.tensor([[context]], device=self._device)

        @torch.inference_mode()
        def run() -> Tensor:
            hidden = language_model(
                language_model.embed(token),
                position,
                active_blocks=setting.active_blocks,
                top_k=setting.top_k,
                cache=cache,
            )
            logits: Tensor = language_model.head(hidden[:, 0])
            return logits

        def reset() -> None:
            cache.length = context

        return Prepared(run=run, reset=reset)

    def vision(self, num_crops: int) -> Prepared:
        """See ``Contestant``."""
        crops = draw_crops(self._model.config, num_crops, self._device)

        @torch.inference_mode()
        def run() -> Tensor:
            features: Tensor = self._model.vision_encoder(crops)
            return features

        return Prepared(run=run)

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""

        def run() -> Tensor:
            return generate(self._model, inputs, setting=setting, max_new_tokens=output_tokens).token_ids

        return Prepared(run=run)

    def release(self) -> None:
        """Nothing is kept."""


def _new_cache(model: Molmo, setting: KnobSetting, capacity: int) -> KVCache:
    weight = model.language_model.head.weight
    return KVCache.allocate(
        model.config,
        num_slots=setting.num_active_blocks,
        batch_size=1,
        capacity=capacity,
        device=weight.device,
        dtype=weight.dtype,
    )


def _prefill(model: Molmo, prompt: Tensor, setting: KnobSetting, cache: KVCache) -> Tensor:
    """Do what generation does before the first token of an answer."""
    hidden = model.language_model(
        model.language_model.embed(prompt),
        token_positions(ModelInputs(input_ids=prompt)),
        active_blocks=setting.active_blocks,
        top_k=setting.top_k,
        cache=cache,
    )
    logits: Tensor = model.language_model.head(hidden[:, -1])
    return logits
