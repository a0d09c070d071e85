"""What generation asks of an engine."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.kv_cache import KVCache
from models.molmo import VisionModules

EngineName = Literal["eager", "compiled", "graph"]


class BegunPrefill(NamedTuple):
    """Prompts that the first blocks have run already.

    Args:
        embedded: ``(batch, sequence, width)``: what they ran.
        hidden: ``(batch, sequence, width)``: what they made of it.
        cache: Their keys and values, one slot each; not advanced.
    """

    embedded: Tensor
    hidden: Tensor
    cache: KVCache


class EngineRequest(Protocol):
    """A batch of requests that an engine has room for, from its prefill to its last token."""

    @property
    def runs_ahead(self) -> bool:
        """Whether a step costs the host so little that it may start before a stop token is looked for."""

    @property
    def vision(self) -> VisionModules:
        """What turns crops into vision tokens, in memory that the next call may overwrite."""

    def prefill(self, inputs: ModelInputs, x_BSD: Tensor, begun: BegunPrefill | None = None) -> None:
        """Run the prompts, embedded with their images; go on from what was begun, or run all of it again."""

    def step(self, token_B: Tensor) -> None:
        """Run one more token of each request."""

    @property
    def logits(self) -> Tensor:
        """Logits behind the last token, ``(batch, vocabulary)``; valid until the next step."""

    @property
    def likeliest(self) -> Tensor:
        """The likeliest next token of each request, ``(batch,)`` int64; valid until the next step."""

    def rewind(self, num_cached: int) -> None:
        """Forget all but the first tokens, so that a step can be measured again."""


class Engine(Protocol):
    """A way to run a model. Engines belong to a model and may be shared by threads."""

    @property
    def name(self) -> EngineName:
        """How records call it."""

    def warm_up(self, settings: Iterable[KnobSetting]) -> None:
        """Get ready for these settings, so that no request has to wait for it."""

    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> AbstractContextManager[EngineRequest]:
        """Make room for a batch of requests of up to ``capacity`` tokens each, all with one setting."""
