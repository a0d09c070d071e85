"""The one clock: CUDA events on a GPU, ``perf_counter`` elsewhere, read once when the work is over."""

import time
from collections.abc import Callable
from typing import Final, Protocol

import torch

from models.stages import observe

CALL: Final = "call"


class TimeSource(Protocol):
    """Puts marks on a device's time line and tells how far apart they are."""

    def mark(self) -> object:
        """Put a mark after the work that was given to the device so far."""

    def synchronize(self) -> None:
        """Wait until every mark has been reached."""

    def elapsed_ms(self, start: object, end: object) -> float:
        """Return the milliseconds between two reached marks."""


class HostTime:
    """Time of the host, for devices that have finished when a call returns.

    Args:
        now: Seconds from any origin, never going back.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def mark(self) -> object:
        """Read the time."""
        return self._now()

    def synchronize(self) -> None:
        """Do nothing: a mark is reached when it is made."""

    def elapsed_ms(self, start: object, end: object) -> float:
        """Return the milliseconds between two marks."""
        assert isinstance(start, float)
        assert isinstance(end, float)
        return (end - start) * 1000.0


class CudaTime:
    """Time of one stream of a GPU: the one that is current at the first mark after the device was waited for.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None  # to ask for it at each mark costs more than the mark

    def mark(self) -> object:
        """Record an event."""
        if self._stream is None:
            self._stream = torch.cuda.current_stream(self._device)
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)
        self._stream = None

    def elapsed_ms(self, start: object, end: object) -> float:
        """Return the milliseconds between two events."""
        assert isinstance(start, torch.cuda.Event)
        assert isinstance(end, torch.cuda.Event)
        return float(start.elapsed_time(end))


def time_source(device: torch.device | str) -> TimeSource:
    """Return what measures time on a device.

    Raises:
        ValueError: If no clock is known for the device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return CudaTime(device)
    if device.type == "cpu":
        return HostTime()
    raise ValueError(f"device: time can be measured on cpu and cuda, got {str(device)!r}")


class StageClock:
    """Times stages as they begin and end; stages may repeat and nest. One clock belongs to one thread.

    Marking does not wait for the device. ``read_ms`` waits once, for all of them.

    Args:
        device: Where the stages run.
        source: Another source of time, for tests.

    Raises:
        ValueError: If no clock is known for the device.
    """

    def __init__(self, device: torch.device | str, *, source: TimeSource | None = None) -> None:
        self._source = source or time_source(device)
        self._open: list[tuple[str, object]] = []
        self._closed: list[tuple[str, object, object]] = []

    def begin(self, name: str) -> None:
        """Mark the beginning of a stage."""
        self._open.append((name, self._source.mark()))

    def end(self, name: str) -> None:
        """Mark the end of the stage that began last.

        Raises:
            RuntimeError: If that was another stage.
        """
        if not self._open or self._open[-1][0] != name:
            running = [open_name for open_name, _ in self._open]
            raise RuntimeError(f"stage {name!r} ends, but the stages running are {running}, innermost last")
        _, start = self._open.pop()
        self._closed.append((name, start, self._source.mark()))

    def read_ms(self) -> dict[str, list[float]]:
        """Return the milliseconds of every occurrence of each stage, in order of their ends, and forget them.

        Raises:
            RuntimeError: If a stage is still running.
        """
        if self._open:
            raise RuntimeError(f"stage {self._open[-1][0]!r} is still running, the clock cannot be read")
        self._source.synchronize()
        samples_ms: dict[str, list[float]] = {}
        for name, start, end in self._closed:
            samples_ms.setdefault(name, []).append(self._source.elapsed_ms(start, end))
        self._closed.clear()
        return samples_ms

    def reset(self) -> None:
        """Forget everything, also stages that an error left running."""
        self._open.clear()
        self._closed.clear()


def measure(fn: Callable[[], object], *, clock: StageClock, warmup: int, repeats: int) -> dict[str, list[float]]:
    """Time a call and the stages inside it, waiting for the device after each call so that none queues behind another.

    Args:
        fn: What to call.
        clock: A clock on the device that ``fn`` uses.
        warmup: Calls that are not counted.
        repeats: Calls that are.

    Returns:
        Raw milliseconds of each stage, and of the whole call under ``"call"``, in order of occurrence.

    Raises:
        ValueError: If there is nothing to count.
    """
    if warmup < 0 or repeats < 1:
        raise ValueError(f"warmup and repeats: must be at least 0 and 1, got {warmup} and {repeats}")
    clock.reset()
    samples_ms: dict[str, list[float]] = {}
    for call in range(warmup + repeats):
        with observe(clock):
            clock.begin(CALL)
            try:
                fn()
            finally:
                clock.end(CALL)
        for name, call_ms in clock.read_ms().items():
            if call >= warmup:
                samples_ms.setdefault(name, []).extend(call_ms)
    return samples_ms
