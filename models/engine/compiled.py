"""The engine that compiles one block and runs all of them through it: on any device, any shape, any batch."""

# Shape suffixes: B = requests, S = new tokens, T = B * S, D = width, H = heads, G = key/value heads, K = width of a
# head, E = experts per token.

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from models.engine.base import EngineName
from models.engine.eager import EagerRequest, allocate_cache
from models.experts import MAX_GATHERED_ROWS, MoE
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.language_model import Block, Shared
from models.molmo import Molmo
from models.vision import VisionBlock

Backend = str | Callable[..., Any]

# A step runs one token. Of several, few are multiplied with gathered weights of experts and many are not.
_PROMPTS: Final = (2, MAX_GATHERED_ROWS + 3)
_CROPS: Final = (1, 2)


class CompiledEngine:
    """Run the model's modules, the parts of a block fused by ``torch.compile``.

    All blocks run the same code, which takes any number of tokens, requests, crops and experts per token; only one of
    each is a case of its own. What depends on the length of the cache, attention itself, is not compiled.

    Args:
        model: The model.
        backend: Compiler, one of ``torch.compile``'s.
    """

    name: Final[EngineName] = "compiled"

    def __init__(self, model: Molmo, *, backend: Backend = "inductor") -> None:
        self._model = model
        self._run_block = CompiledBlock(backend)
        encode = partial(model.vision_encoder, run_block=_compile(VisionBlock.forward, backend))
        self._vision = model.vision._replace(vision_encoder=encode)

    @torch.inference_mode()
    def warm_up(self, settings: Iterable[KnobSetting]) -> None:
        """Compile what these settings run; the first block stands for all."""
        weight = self._model.language_model.head.weight
        for top_k in sorted({setting.text_top_k(block) for setting in settings for block in setting.active_blocks}):
            setting = replace(self._model.full_setting, top_k=top_k, active_blocks=(0,))
            for length in _PROMPTS:
                prompt = ModelInputs(input_ids=torch.zeros(1, length, dtype=torch.int64, device=weight.device))
                with self.request(setting, batch_size=1, capacity=length + 1) as request:
                    request.prefill(prompt, self._model.embed(prompt, None))
                    request.step(request.likeliest)
        for num_crops in _CROPS:
            self._vision.vision_encoder(
                weight.new_zeros(num_crops, self._model.config.num_patches, self._model.config.patch_dim)
            )

    def why_not(self) -> str | None:
        """Compile what the full setting runs, and say what keeps it from that; ``None`` if nothing."""
        try:
            self.warm_up([self._model.full_setting])
        except TorchDynamoException as err:
            return str(err).strip().partition("\n")[0]
        return None

    @contextmanager
    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> Iterator[EagerRequest]:
        """Allocate a cache of just that size."""
        cache = allocate_cache(self._model, setting, batch_size=batch_size, capacity=capacity)
        yield EagerRequest(self._model, setting, cache, run_block=self._run_block, vision=self._vision)


class CompiledBlock:
    """Run a block in compiled parts: up to attention, and from there on.

    The experts of many tokens run as they do uncompiled: how many tokens an expert gets is known only then. So does
    all behind attention where tokens have different numbers of experts.

    Args:
        backend: Compiler.
    """

    def __init__(self, backend: Backend) -> None:
        self._begin = _compile(_begin, backend)
        self._finish = _compile(_finish, backend)
        self._route = _compile(_route, backend)

    def __call__(self, block: nn.Module, x_BSD: Tensor, shared: Shared, slot: int) -> Tensor:
        """Run the block as ``Block`` does."""
        assert isinstance(block, Block)
        batch, length, width = x_BSD.shape
        # The compiler is shown all tokens in one row, so that a batch is nothing new to it.
        x_1TD = x_BSD.reshape(1, -1, width)
        cosine, sine = (angle.reshape(1, batch * length, 1, -1) for angle in shared.angles)
        heads = self._begin(block, x_1TD, cosine, sine)
        query_BSHK, key_BSGK, value_BSGK = (part.view(batch, length, *part.shape[2:]) for part in heads)
        mixed_1TD = block.attention.mix(query_BSHK, key_BSGK, value_BSGK, shared, slot).reshape(1, -1, width)
        if isinstance(block.ffn, MoE) and shared.token_top_k is not None:
            x_1TD = block.add_attention(x_1TD, block.attention.out(mixed_1TD))
            ffn_1TD = block.ffn(block.ffn_input(x_1TD), shared.top_k, shared.token_top_k.reshape(1, -1))
            x_1TD = block.add_ffn(x_1TD, ffn_1TD)
        elif isinstance(block.ffn, MoE) and batch * length * shared.top_k > MAX_GATHERED_ROWS:
            x_1TD, y_TD, weight_TE, expert_TE = self._route(block, x_1TD, mixed_1TD, shared.top_k)
            x_1TD = block.add_ffn(x_1TD, block.ffn.experts(y_TD, weight_TE, expert_TE)[None])
        else:
            x_1TD = self._finish(block, x_1TD, mixed_1TD, shared.top_k)
        return x_1TD.view(batch, length, width)


def _compile(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """Compile a copy of a function: what is compiled is kept with the code, and engines must not fill one another's."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    compiled: Callable[..., Any] = torch.compile(copy, dynamic=True, backend=backend)
    return compiled


def _begin(block: Block, x_1TD: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens' queries, keys and values."""
    return block.attention.project(block.attention_input(x_1TD), (cosine, sine))


def _finish(block: Block, x_1TD: Tensor, mixed_1TD: Tensor, top_k: int) -> Tensor:
    """Run what follows attention."""
    x_1TD = block.add_attention(x_1TD, block.attention.out(mixed_1TD))
    return block.add_ffn(x_1TD, block.ffn(block.ffn_input(x_1TD), top_k))


def _route(block: Block, x_1TD: Tensor, mixed_1TD: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run what follows attention, up to the experts; return the tokens and what the experts are given."""
    assert isinstance(block.ffn, MoE)
    x_1TD = block.add_attention(x_1TD, block.attention.out(mixed_1TD))
    y_TD = block.ffn_input(x_1TD)[0]
    weight_TE, expert_TE = block.ffn.router(y_TD, top_k)
    return x_1TD, y_TD, weight_TE, expert_TE
