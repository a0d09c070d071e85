"""The engine for one request at a time on a GPU: fused kernels, recorded once a setting and replayed."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import torch
from torch import Tensor

from models.engine.base import BegunPrefill, EngineName, EngineRequest
from models.engine.eager import EagerEngine, allocate_cache, prefill
from models.engine.fused_decode import FusedDecode, Workspace
from models.engine.fused_prefill import FusedPrefill
from models.engine.recording import Call, CudaGraphs, Record, RecordedVision
from models.engine.support import unsupported
from models.engine.tiles import Tiles
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo, VisionModules

_log = logging.getLogger(__name__)


class GraphEngine:
    """Prefill through fused kernels, decode by replaying recorded ones.

    Requests of several threads wait for one another. A setting is recorded when it is first asked for, or by
    ``warm_up``; changing settings costs nothing after that. A batch of several requests, and one longer than the
    capacity, runs eagerly; the log says so once.

    Args:
        model: A mixture of experts on a GPU.
        capacity: Most tokens of a request; the cache for all blocks is allocated once.
        tiles: How the work is cut into programs.
        record: Turns a call into its replay; the tests' stand-in where there is no GPU.

    Raises:
        ValueError: If the kernels cannot run the model.
    """

    name: Final[EngineName] = "graph"

    def __init__(
        self,
        model: Molmo,
        *,
        capacity: int = 4096,
        tiles: Tiles | None = None,
        record: Record | None = None,
    ) -> None:
        reason = unsupported(model.config)
        if reason is not None:
            raise ValueError(f"engine: graph cannot run a model with {reason}, choose eager")
        self._model = model
        self._eager = EagerEngine(model)
        self._record = record or CudaGraphs(model.language_model.head.weight.device)
        self._vision = RecordedVision(model, self._record)
        self._workspace = Workspace.allocate(model, capacity=capacity, tiles=tiles)
        self._prefill = FusedPrefill(model, self._workspace, self._record)
        self._replays: dict[tuple[tuple[int, ...], tuple[int, ...]], Call] = {}
        self._lock = Lock()
        # An event that was never recorded is not waited for.
        self._last_request = torch.cuda.Event() if self._workspace.cache.is_cuda else None
        self._said: set[str] = set()

    def warm_up(self, settings: Iterable[KnobSetting]) -> None:
        """Record settings, and what every number of crops goes through, before they are needed."""
        with self._held():
            self._vision.warm_up()
            for setting in sorted(settings, key=lambda setting: setting.top_k, reverse=True):
                self._replay(setting)
                if self._fuses_prefill:
                    self._prefill.warm_up(setting)

    @contextmanager
    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> Iterator[EngineRequest]:
        """Wait until the memory is free, and hold it."""
        reason = self._why_eager(batch_size, capacity)
        if reason is not None:
            if reason not in self._said:
                self._said.add(reason)
                _log.warning("engine: %s runs eagerly", reason)
            with self._eager.request(setting, batch_size=batch_size, capacity=capacity) as eager:
                yield eager
            return
        with self._held():
            prefill = self._prefill if self._fuses_prefill else None
            yield GraphRequest(
                self._model,
                setting,
                self._workspace,
                vision=self._vision.modules,
                prefill=prefill,
                replay=self._replay(setting),
            )

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the memory, once the device has finished what other threads gave it, maybe on other streams."""
        device = self._workspace.cache.device
        if self._last_request is None:
            with self._lock:
                yield
            return
        with self._lock, torch.cuda.device(device):  # kernels are launched on the current device
            stream = torch.cuda.current_stream(device)
            self._last_request.wait(stream)
            try:
                yield
            finally:
                self._last_request.record(stream)

    def _why_eager(self, batch_size: int, capacity: int) -> str | None:
        if batch_size > 1:
            return "a batch of several requests"
        if capacity > self._workspace.capacity:
            return f"a request of more than {self._workspace.capacity} tokens"
        return None

    @property
    def _fuses_prefill(self) -> bool:
        """The library's grouped product is made for bfloat16; of other types it is a loop that waits for the device."""
        prompt = self._workspace.prompt
        return prompt.dtype == torch.bfloat16 or not prompt.is_cuda

    def _replay(self, setting: KnobSetting) -> Call:
        blocks = setting.active_blocks
        key = (tuple(setting.text_top_k(block) for block in blocks), blocks)
        if key not in self._replays:
            self._workspace.reset()
            self._replays[key] = self._record(FusedDecode(self._model, setting, self._workspace).run)
        return self._replays[key]


class GraphRequest:
    """One request in the engine's memory.

    Args:
        model: The model.
        setting: Knobs of the request.
        workspace: The memory.
        vision: The engine's.
        prefill: Runs prompts; ``None`` to run them through the modules.
        replay: Runs the workspace's token.
    """

    runs_ahead: Final = True

    def __init__(
        self,
        model: Molmo,
        setting: KnobSetting,
        workspace: Workspace,
        *,
        vision: VisionModules,
        prefill: FusedPrefill | None,
        replay: Call,
    ) -> None:
        self._model = model
        self._setting = setting
        self._workspace = workspace
        self._prefill = prefill
        self._replay = replay
        self.vision = vision

    def prefill(self, inputs: ModelInputs, x_BSD: Tensor, begun: BegunPrefill | None = None) -> None:
        """Run all of the prompt, and put its likeliest next token where the recorded kernels look for it."""
        num_tokens = x_BSD.shape[1]
        if self._prefill is not None:
            is_vision_S = None if self._setting.experts is None else inputs.is_vision[0]
            logits_1V = self._prefill.run(x_BSD[0], self._setting, is_vision_S)
        else:
            cache = allocate_cache(self._model, self._setting, batch_size=1, capacity=num_tokens)
            logits_1V = prefill(self._model, inputs, x_BSD, self._setting, cache)
            self._workspace.fill(cache, self._setting.active_blocks)
        self._workspace.begin(logits_1V, num_tokens)

    def step(self, token_B: Tensor) -> None:
        """Run one more token; the likeliest one is in its place already."""
        if token_B is not self._workspace.token:
            self._workspace.token.copy_(token_B)
        self._replay()

    @property
    def logits(self) -> Tensor:
        """Logits behind the last token."""
        return self._workspace.logits

    @property
    def likeliest(self) -> Tensor:
        """The likeliest next token, in memory that the next step overwrites."""
        return self._workspace.token

    def rewind(self, num_cached: int) -> None:
        """Forget all but the first tokens."""
        self._workspace.position.fill_(num_cached)
