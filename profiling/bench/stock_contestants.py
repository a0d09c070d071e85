"""transformers as contestants: kernels launched one by one, and a static cache with CUDA graphs."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from transformers import DynamicCache, StaticCache

from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import LeftOut, Prepared, device_of, draw_crops, draw_prompt, filled_cache
from profiling.bench.stock import as_pixels, stock_language_model, stock_vision_encoder, why_not_clip, why_not_olmoe


class Stock:
    """``OlmoeForCausalLM`` and ``CLIPVisionModel`` with a growing cache, one kernel after another.

    Args:
        model: Our model; theirs compute the same with the same weights.
        experts: transformers' ``experts_implementation``: ``eager``, ``grouped_mm`` or ``batched_mm``.
    """

    def __init__(self, model: Molmo, *, experts: str) -> None:
        self._model = model
        self._device = device_of(model)
        self._experts = experts
        self._built: tuple[KnobSetting, Any] | None = None
        self._encoder: nn.Module | None = None

    def unavailable(self, device: torch.device) -> str | None:
        """Run wherever the language model has OLMoE's layers."""
        return why_not_olmoe(self._model.config)

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        self._check_memory(tokens, setting)
        model = self._language_model(setting)
        prompt = draw_prompt(self._model.config, tokens, self._device)

        @torch.inference_mode()
        def run() -> Tensor:
            logits: Tensor = model(input_ids=prompt, use_cache=True, logits_to_keep=1).logits
            return logits[:, -1]

        return Prepared(run=run)

    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        model = self._language_model(setting)
        token = draw_prompt(self._model.config, 1, self._device)
        position = torch.tensor([[context]], device=self._device)
        ours = filled_cache(self._model, context, setting)
        cache = DynamicCache(config=model.config)
        for slot in range(setting.num_active_blocks):
            keys, values = ours.memory[slot][:, :, :, :context]
            cache.update(keys, values, slot)

        @torch.inference_mode()
        def run() -> Tensor:
            logits: Tensor = model(input_ids=token, position_ids=position, past_key_values=cache).logits
            return logits[:, -1]

        def reset() -> None:
            added = cache.get_seq_length() - context
            if added:
                cache.crop(-added)

        return Prepared(run=run, reset=reset)

    def vision(self, num_crops: int) -> Prepared:
        """See ``Contestant``."""
        pixels = as_pixels(self._model.config, draw_crops(self._model.config, num_crops, self._device))
        encode = self._encode()
        return Prepared(run=torch.inference_mode()(lambda: encode(pixels)))

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``. The connector is ours: transformers has none."""
        self._check_memory(inputs.input_ids.shape[1], setting)
        model = self._language_model(setting)
        embed = self._embedded(inputs)

        @torch.inference_mode()
        def run() -> Tensor:
            cache = DynamicCache(config=model.config)
            logits = model(inputs_embeds=embed(), past_key_values=cache, logits_to_keep=1).logits
            tokens = [logits[:, -1].argmax(dim=-1, keepdim=True)]
            while len(tokens) < output_tokens:
                logits = model(input_ids=tokens[-1], past_key_values=cache).logits
                tokens.append(logits[:, -1].argmax(dim=-1, keepdim=True))
            return torch.cat(tokens, dim=1)

        return Prepared(run=run)

    def release(self) -> None:
        """Drop the models; what they are views of stays."""
        self._built = None
        self._encoder = None

    def _language_model(self, setting: KnobSetting) -> Any:
        """Return the model of a setting, built once while the setting stays the same."""
        if self._built is None or self._built[0] != setting:
            self._built = setting, stock_language_model(self._model, setting, experts=self._experts)
        return self._built[1]

    def _encode(self) -> Callable[[Tensor], Tensor]:
        """Return what turns pictures into the features that our encoder returns.

        It calls the parts of ``CLIPVisionModel`` itself: asking the whole for hidden states goes through hooks, which
        cost time and which torch.compile cannot follow.
        """
        reason = why_not_clip(self._model.config)
        if reason is not None:
            raise LeftOut(reason)
        if self._encoder is None:
            self._encoder = stock_vision_encoder(self._model)
        encoder: Any = self._encoder
        read_blocks = self._model.config.read_vision_blocks

        def encode(pixels: Tensor) -> Tensor:
            hidden = encoder.pre_layrnorm(encoder.embeddings(pixels))
            outputs = {}
            for index, layer in enumerate(encoder.encoder.layers):
                hidden = layer(hidden, None)
                if index in read_blocks:
                    outputs[index] = hidden[:, 1:]
            return torch.cat([outputs[index] for index in read_blocks], dim=-1)

        return encode

    def _embedded(self, inputs: ModelInputs) -> Callable[[], Tensor]:
        """Return what embeds a request, vision tokens included."""
        assert inputs.crops is not None
        assert inputs.patch_mask is not None
        pixels = as_pixels(self._model.config, inputs.crops[0])
        patch_mask = inputs.patch_mask[0]
        encode = self._encode()
        return lambda: self._model.embed(inputs, self._model.connector(encode(pixels), patch_mask)[None])

    def _check_memory(self, tokens: int, setting: KnobSetting) -> None:
        """Leave out what ``batched_mm`` has no memory for: it copies the weights of each token's experts.

        Raises:
            LeftOut: If they do not fit.
        """
        if self._experts != "batched_mm":
            return
        config = self._model.config
        rows = tokens * setting.top_k
        needed = rows * 3 * config.ffn_dim * config.hidden_dim * self._model.language_model.head.weight.element_size()
        free = _free_bytes(self._device)
        if needed > free:
            raise LeftOut(
                f"batched_mm copies {needed / 1e6:,.0f} MB of expert weights here, {free / 1e6:,.0f} MB are free"
            )


class StockCompiled(Stock):
    """The same with a static cache and ``torch.compile(mode="reduce-overhead")``, which is CUDA graphs.

    Each measurement compiles anew for its own lengths, so that none meets kernels made for several. In a whole request
    the prompt runs uncompiled, as in transformers' own generation.
    """

    def unavailable(self, device: torch.device) -> str | None:
        """Run on CUDA devices only."""
        if device.type != "cuda":
            return "reduce-overhead is CUDA graphs, which need a CUDA device"
        return super().unavailable(device)

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        self._check_memory(tokens, setting)
        model = self._language_model(setting)
        cache = self._static_cache(model, tokens)
        prompt = draw_prompt(self._model.config, tokens, self._device)
        forward = _compiled(model.forward)

        @torch.no_grad()
        def run() -> Tensor:
            logits: Tensor = forward(input_ids=prompt, past_key_values=cache, logits_to_keep=1).logits
            return logits[:, -1]

        return Prepared(run=run, reset=lambda: _rewind(cache, 0))

    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``."""
        model = self._language_model(setting)
        cache = self._static_cache(model, context + 1)
        ours = filled_cache(self._model, context, setting)
        for layer, (keys, values) in zip(cache.layers, ours.memory.unbind(0), strict=True):
            layer.keys.copy_(keys)
            layer.values.copy_(values)
        token = draw_prompt(self._model.config, 1, self._device)
        position = torch.tensor([[context]], device=self._device)
        forward = _compiled(model.forward)

        @torch.no_grad()
        def run() -> Tensor:
            logits: Tensor = forward(input_ids=token, position_ids=position, past_key_values=cache).logits
            return logits[:, -1]

        return Prepared(run=run, reset=lambda: _rewind(cache, context))

    def vision(self, num_crops: int) -> Prepared:
        """See ``Contestant``."""
        pixels = as_pixels(self._model.config, draw_crops(self._model.config, num_crops, self._device))
        encode = _compiled(self._encode())
        return Prepared(run=torch.no_grad()(lambda: encode(pixels)))

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        """See ``Contestant``. The connector is ours: transformers has none."""
        prompt_length = inputs.input_ids.shape[1]
        self._check_memory(prompt_length, setting)
        model = self._language_model(setting)
        embed = self._embedded(inputs)
        cache = self._static_cache(model, prompt_length + output_tokens)
        positions = torch.arange(prompt_length, prompt_length + output_tokens, device=self._device)[:, None, None]
        forward = _compiled(model.forward)

        @torch.no_grad()
        def run() -> Tensor:
            logits = model(inputs_embeds=embed(), past_key_values=cache, logits_to_keep=1).logits
            tokens = [logits[:, -1].argmax(dim=-1, keepdim=True)]
            while len(tokens) < output_tokens:
                position = positions[len(tokens) - 1]
                logits = forward(input_ids=tokens[-1], position_ids=position, past_key_values=cache).logits
                tokens.append(logits[:, -1].argmax(dim=-1, keepdim=True))
            return torch.cat(tokens, dim=1)

        return Prepared(run=run, reset=lambda: _rewind(cache, 0))

    def release(self) -> None:
        """Drop the models and everything compiled."""
        super().release()
        torch.compiler.reset()

    def _static_cache(self, model: Any, capacity: int) -> Any:
        """Allocate outside of what is compiled, so that the graphs may count on its addresses."""
        config = self._model.config
        dtype = self._model.language_model.head.weight.dtype
        cache = StaticCache(config=model.config, max_cache_len=capacity)
        cache.early_initialization(1, config.num_kv_heads, config.head_dim, dtype, self._device)
        return cache


def _compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for one set of shapes, with CUDA graphs.

    Raises:
        LeftOut: By the compiled function, if it cannot be compiled.
    """
    compiled = torch.compile(fn, mode="reduce-overhead", dynamic=False)

    def call(*args: object, **kwargs: object) -> Any:
        # What the graphs returned last time may be overwritten from here on.
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as err:
            raise LeftOut(f"torch.compile failed: {str(err).strip().partition(chr(10))[0]}") from err

    return call


def _rewind(cache: Any, length: int) -> None:
    """Let a cache hold its first tokens only."""
    for layer in cache.layers:
        layer.cumulative_length.fill_(length)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
