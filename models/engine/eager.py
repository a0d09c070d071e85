"""The engine that runs the model's modules one by one: on any device, any shape, any batch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from models.engine.base import BegunPrefill, EngineName
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.kv_cache import KVCache
from models.language_model import RunBlock
from models.molmo import Molmo, VisionModules, token_experts, token_positions


class EagerEngine:
    """Run the model's own modules.

    Args:
        model: The model.
    """

    name: Final[EngineName] = "eager"

    def __init__(self, model: Molmo) -> None:
        self._model = model

    def warm_up(self, settings: Iterable[KnobSetting]) -> None:
        """Do nothing: any setting runs at once."""

    @contextmanager
    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> Iterator["EagerRequest"]:
        """Allocate a cache of just that size."""
        cache = allocate_cache(self._model, setting, batch_size=batch_size, capacity=capacity)
        yield EagerRequest(self._model, setting, cache)


class EagerRequest:
    """Run one token after another behind a prefilled prompt.

    Args:
        model: The model.
        setting: Knobs of the requests.
        cache: Memory of the requests.
        run_block: Another way to run the language model's blocks.
        vision: Another way to run what images go through.
    """

    runs_ahead: Final = False

    def __init__(
        self,
        model: Molmo,
        setting: KnobSetting,
        cache: KVCache,
        *,
        run_block: RunBlock = nn.Module.__call__,
        vision: VisionModules | None = None,
    ) -> None:
        self._model = model
        self._setting = setting
        self._cache = cache
        self._run_block = run_block
        self.vision = vision or model.vision

    def prefill(self, inputs: ModelInputs, x_BSD: Tensor, begun: BegunPrefill | None = None) -> None:
        """Run the prompts, or go on with them, and note where each request's next token goes."""
        self.logits = prefill(
            self._model, inputs, x_BSD, self._setting, self._cache, begun=begun, run_block=self._run_block
        )
        batch, prompt_length = inputs.input_ids.shape
        if batch == 1:
            self._positions_B1 = torch.tensor([[prompt_length]], device=inputs.input_ids.device)
            self._visible: Tensor | None = None
        else:
            self._positions_B1 = inputs.num_tokens[:, None].clone()
            self._visible = inputs.valid

    def step(self, token_B: Tensor) -> None:
        """Run one more token of each request."""
        mask = None
        if self._visible is not None:
            self._visible = torch.cat([self._visible, torch.ones_like(self._visible[:, :1])], dim=1)
            mask = self._visible[:, None, None]
        language_model = self._model.language_model
        hidden_B1D = language_model(
            language_model.embed(token_B[:, None]),
            self._positions_B1,
            active_blocks=self._setting.active_blocks,
            top_k=token_experts(self._setting),
            mask=mask,
            cache=self._cache,
            run_block=self._run_block,
        )
        self._positions_B1 = self._positions_B1 + 1
        self.logits = language_model.head(hidden_B1D[:, 0])

    @property
    def likeliest(self) -> Tensor:
        """The likeliest next token of each request."""
        return self.logits.argmax(dim=-1)

    def rewind(self, num_cached: int) -> None:
        """Forget all but the first tokens."""
        self._positions_B1 = self._positions_B1 - (self._cache.length - num_cached)
        self._cache.length = num_cached
        if self._visible is not None:
            self._visible = self._visible[:, :num_cached]


def allocate_cache(model: Molmo, setting: KnobSetting, *, batch_size: int, capacity: int) -> KVCache:
    """Allocate a cache for requests of up to ``capacity`` tokens of one setting."""
    weight = model.language_model.head.weight
    return KVCache.allocate(
        model.config,
        num_slots=setting.num_active_blocks,
        batch_size=batch_size,
        capacity=capacity,
        device=weight.device,
        dtype=weight.dtype,
    )


def prefill(
    model: Molmo,
    inputs: ModelInputs,
    x_BSD: Tensor,
    setting: KnobSetting,
    cache: KVCache,
    *,
    begun: BegunPrefill | None = None,
    run_block: RunBlock = nn.Module.__call__,
) -> Tensor:
    """Run embedded prompts through the modules and return the logits behind each, ``(batch, vocabulary)``."""
    num_begun = 0
    if begun is not None:
        num_begun, x_BSD = len(begun.cache.memory), begun.hidden
        cache.adopt(begun.cache, num_tokens=x_BSD.shape[1])
    hidden_BSD = model.language_model(
        x_BSD,
        token_positions(inputs),
        active_blocks=setting.active_blocks[num_begun:],
        top_k=token_experts(setting, inputs),
        cache=cache,
        run_block=run_block,
        first_slot=num_begun,
    )
    if len(hidden_BSD) == 1:
        last_BD = hidden_BSD[:, -1]
    else:
        rows = torch.arange(len(hidden_BSD), device=hidden_BSD.device)
        last_BD = hidden_BSD[rows, inputs.num_tokens - 1]
    logits: Tensor = model.language_model.head(last_BD)
    return logits
