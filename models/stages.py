"""Stage marks: the model says where a component begins and ends, an observer may listen.

The observer lives in a context variable, so it belongs to the thread (or task) that installed it: two requests in two
threads are observed apart, and a model holds no state. Without an observer a mark costs a dictionary look-up.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

VISION_ENCODER: Final = "vision_encoder"
PROJECTOR: Final = "projector"
PREFILL: Final = "prefill"
DECODE: Final = "decode"
TOTAL: Final = "total"
COMPONENTS: Final = (VISION_ENCODER, PROJECTOR, PREFILL, DECODE)


class StageObserver(Protocol):
    """Told when a stage begins and ends."""

    def begin(self, name: str) -> None:
        """A stage begins."""

    def end(self, name: str) -> None:
        """The stage ends; also called when it ends by an exception."""


_observer: ContextVar[StageObserver | None] = ContextVar("stage_observer", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark the enclosed code as one stage of a request."""
    observer = _observer.get()
    if observer is None:
        yield
        return
    observer.begin(name)
    try:
        yield
    finally:
        observer.end(name)


@contextmanager
def observe(observer: StageObserver) -> Iterator[None]:
    """Let an observer hear every stage that this thread enters inside the block."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)
