"""Greedy and sampled generation: one prefill, then one decode step a token, over a cache of the active blocks only."""

# Shape suffixes: B = requests, S = ids of the prompt, N = new tokens, V = vocabulary.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.deadline import Deadline
from models.engine.base import BegunPrefill, Engine, EngineRequest
from models.engine.eager import EagerEngine
from models.image_processor import Overview
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Glance, Molmo
from models.stages import DECODE, PREFILL, TOTAL, stage


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw tokens instead of taking the likeliest.

    Args:
        temperature: Divides the logits.
        top_p: Keep the likeliest tokens whose probabilities first reach this sum (nucleus sampling).
        seed: Of the generator that draws.

    Raises:
        ValueError: If the temperature is not positive or top_p not in (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: must be above 0 (leave sampling out for greedy), got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: must be in (0, 1], got {self.top_p}")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a batch of requests answered.

    Args:
        token_ids: ``(batch, new_tokens)``; a stop token is included, and rows that stopped earlier go on with it.
        logits: ``(batch, new_tokens, embedding_size)`` that each token was chosen from, where asked for.
        is_truncated: Whether a deadline ended an answer that had not met a stop token, nor its last allowed token.
    """

    token_ids: Tensor
    logits: Tensor | None
    is_truncated: bool = False


class _Chooser:
    """Pick the next token of each request from its logits."""

    def __init__(self, sampling: Sampling | None, device: torch.device) -> None:
        self._sampling = sampling
        self._generator = None if sampling is None else torch.Generator(device).manual_seed(sampling.seed)

    def __call__(self, request: EngineRequest) -> Tensor:
        if self._sampling is None:
            return request.likeliest
        logits_BV = request.logits
        # The largest is 0 first, so that no temperature is low enough to overflow.
        logits_BV = logits_BV.float() - logits_BV.amax(dim=-1, keepdim=True)
        probability_BV = (logits_BV / self._sampling.temperature).softmax(dim=-1)
        if self._sampling.top_p < 1:
            sorted_BV, order_BV = probability_BV.sort(dim=-1, descending=True)
            # A token stays if those before it have not reached the sum, so the likeliest always stays.
            sorted_BV = sorted_BV * (sorted_BV.cumsum(dim=-1) - sorted_BV < self._sampling.top_p)
            probability_BV = torch.zeros_like(sorted_BV).scatter(1, order_BV, sorted_BV)
        return probability_BV.multinomial(1, generator=self._generator).squeeze(1)


@torch.inference_mode()
def glance_at(model: Molmo, overview: Overview, *, engine: Engine | None = None) -> Glance:
    """Encode a request's overview as the engine does it, so that its tier may be chosen afterwards.

    Marks the stages of vision encoder and projector.

    Args:
        model: The model.
        overview: The request's, on the model's device.
        engine: An engine of this model; the eager one if ``None``.

    Returns:
        What to choose by, and to give to ``encode_images``.
    """
    engine = engine or EagerEngine(model)
    with engine.request(model.full_setting, batch_size=1, capacity=1) as request:
        return model.glance(overview.crop[None], overview.patch_mask[None], vision=request.vision)


@torch.inference_mode()
def encode_images(
    model: Molmo, inputs: ModelInputs, *, engine: Engine | None = None, glance: Glance | None = None
) -> Tensor | None:
    """Turn a batch's crops into vision tokens as the engine does it, so that a setting may be chosen afterwards.

    Marks the stages of vision encoder and projector.

    Args:
        model: The model.
        inputs: The requests, on the model's device.
        engine: An engine of this model; the eager one if ``None``.
        glance: What ``glance_at`` made of the request's overview; only the other crops are then encoded.

    Returns:
        ``(batch, crops, tokens, width)`` to give to ``generate``, or ``None`` without images.
    """
    engine = engine or EagerEngine(model)
    with engine.request(model.full_setting, batch_size=len(inputs.input_ids), capacity=1) as request:
        return model.encode_images(inputs, vision=request.vision, glance=glance)


@torch.inference_mode()
def generate(
    model: Molmo,
    inputs: ModelInputs,
    *,
    setting: KnobSetting | None = None,
    max_new_tokens: int,
    stop_token_ids: Sequence[int] = (),
    sampling: Sampling | None = None,
    keep_logits: bool = False,
    engine: Engine | None = None,
    vision_tokens: Tensor | None = None,
    begun: BegunPrefill | None = None,
    deadline: Deadline | None = None,
) -> Generation:
    """Answer a batch of requests, all with one setting.

    Marks the stages of ``models.stages``. Without stop tokens nothing waits for the device between tokens.

    With a deadline, no step begins that is not expected to end in time. The host asks after each token, when it has
    looked for a stop token and so waited for the device: ``now + token_ms <= at_s``, or ``now + 2 * token_ms`` where an
    engine runs ahead and the step before is still under way. The prefill and its token always run. A batch ends
    together.

    Args:
        model: The model.
        inputs: The requests, on the model's device.
        setting: Knobs; everything on if ``None``.
        max_new_tokens: Most tokens to generate.
        stop_token_ids: Tokens that end an answer.
        sampling: How to draw tokens; greedy if ``None``.
        keep_logits: Whether to return the logits of each step.
        engine: An engine of this model; the eager one if ``None``.
        vision_tokens: What ``encode_images`` made of these inputs; made here if ``None``.
        begun: What the setting's first blocks have made of these inputs and vision tokens; run here if ``None``.
        deadline: When to end answers that are not over.

    Raises:
        ValueError: If the prompt is empty, no token may be generated, the positions do not suffice, the setting does
            not fit the model, or a deadline comes without stop tokens.
    """
    setting = model.checked(setting)
    batch, prompt_length = inputs.input_ids.shape
    _check(model, prompt_length, max_new_tokens)
    if deadline is not None and not stop_token_ids:
        raise ValueError("deadline: needs stop tokens, or the host would not know when a token is there")
    device = model.language_model.head.weight.device
    choose = _Chooser(sampling, device)
    engine = engine or EagerEngine(model)
    capacity = prompt_length + max_new_tokens
    with engine.request(setting, batch_size=batch, capacity=capacity) as request, stage(TOTAL):
        if vision_tokens is None and begun is None:
            vision_tokens = model.encode_images(inputs, vision=request.vision)
        with stage(PREFILL):
            x_BSD = model.embed(inputs, vision_tokens) if begun is None else begun.embedded
            request.prefill(inputs, x_BSD, begun)
            token_B = choose(request)
        with stage(DECODE):
            stops = _Stops(stop_token_ids, device)
            limits = _Limits(max_new_tokens=max_new_tokens, deadline=deadline)
            steps = _decode(request, token_B, choose, stops, limits, keep_logits=keep_logits)
    with torch.inference_mode(mode=False):  # so that a training step may use what was generated
        return Generation(
            token_ids=torch.stack(steps.tokens, dim=1),
            logits=torch.stack(steps.logits, dim=1) if keep_logits else None,
            is_truncated=steps.is_truncated,
        )


def _check(model: Molmo, prompt_length: int, max_new_tokens: int) -> None:
    if prompt_length == 0:
        raise ValueError("input_ids: a request needs at least one id, got none")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: must be 1 or more, got {max_new_tokens}")
    if prompt_length + max_new_tokens > model.config.max_position_embeddings:
        raise ValueError(
            f"max_new_tokens: prompt of {prompt_length} tokens + {max_new_tokens} exceeds the model's "
            f"{model.config.max_position_embeddings} positions"
        )


class _Limits(NamedTuple):
    """What ends an answer that meets no stop token."""

    max_new_tokens: int
    deadline: Deadline | None


class _Steps(NamedTuple):
    """What was decoded, one tensor a token."""

    tokens: list[Tensor]
    logits: list[Tensor]
    is_truncated: bool


def _decode(
    request: EngineRequest, token_B: Tensor, choose: _Chooser, stops: "_Stops", limits: _Limits, *, keep_logits: bool
) -> _Steps:
    """Go on from the prefill's token until an answer is over."""
    tokens: list[Tensor] = []
    kept: list[Tensor] = []
    while True:
        token_B = stops.replace_finished(token_B)
        tokens.append(token_B.clone())  # the next step may overwrite it
        if keep_logits:
            kept.append(request.logits.clone())
        if len(tokens) == limits.max_new_tokens:
            return _Steps(tokens, kept, is_truncated=False)
        stops.look_at(token_B)
        # A deadline needs to know when the prefill is over; from then on an engine may run ahead.
        waits = not request.runs_ahead or (limits.deadline is not None and len(tokens) == 1)
        if waits and stops.all_finished():
            return _Steps(tokens, kept, is_truncated=False)
        if limits.deadline is not None and not limits.deadline.allows(1 if waits else 2):
            return _Steps(tokens, kept, is_truncated=not stops.all_finished())
        request.step(token_B)
        if request.runs_ahead and stops.all_finished():
            return _Steps(tokens, kept, is_truncated=False)  # what the step computes is not read
        token_B = choose(request)


class _Stops:
    """Remember on the host which requests have met a stop token.

    Args:
        stop_token_ids: Tokens that end an answer.
        device: Where tokens are.
    """

    def __init__(self, stop_token_ids: Sequence[int], device: torch.device) -> None:
        self._ids = list(stop_token_ids)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None
        self._seen_B: Tensor | None = None
        self._finished_B: list[bool] = []

    def replace_finished(self, token_B: Tensor) -> Tensor:
        """Keep finished requests at a stop token; a single one that has finished is over."""
        if len(token_B) == 1 or not any(self._finished_B):
            return token_B
        finished_B = torch.tensor(self._finished_B, device=token_B.device)
        return torch.where(finished_B, self._ids[0], token_B)

    def look_at(self, token_B: Tensor) -> None:
        """Note tokens, without waiting for the device."""
        if not self._ids:
            return
        if self._seen_B is None:
            is_pinned = self._copied is not None
            self._seen_B = torch.empty(token_B.shape, dtype=token_B.dtype, device="cpu", pin_memory=is_pinned)
        self._seen_B.copy_(token_B, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def all_finished(self) -> bool:
        """Wait for what was last looked at, and tell whether every request is over."""
        if self._seen_B is None:
            return False
        if self._copied is not None:
            self._copied.synchronize()
        met_B = [token in self._ids for token in self._seen_B.tolist()]
        self._finished_B = [met or before for met, before in zip(met_B, self._finished_B or met_B, strict=True)]
        return all(self._finished_B)
