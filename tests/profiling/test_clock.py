from collections.abc import Callable, Iterator

import pytest
import torch

from models.stages import observe, stage
from profiling.clock import CudaTime, HostTime, StageClock, measure, time_source


def ticks(*seconds: float) -> HostTime:
    """A host time that reads these seconds, one after the other."""
    readings: Iterator[float] = iter(seconds)
    return HostTime(lambda: next(readings))


class Laps:
    """Source whose every mark is 1 ms after the last, and that logs when it waits."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._marks = 0

    def mark(self) -> object:
        self._marks += 1
        self.log.append("mark")
        return self._marks

    def synchronize(self) -> None:
        self.log.append("wait")

    def elapsed_ms(self, start: object, end: object) -> float:
        assert isinstance(start, int)
        assert isinstance(end, int)
        return float(end - start)


def test_repeated_stages_are_kept_apart() -> None:
    clock = StageClock("cpu", source=ticks(1.0, 1.25, 2.0, 2.5))
    for _ in range(2):
        clock.begin("decode")
        clock.end("decode")
    assert clock.read_ms() == {"decode": [250.0, 500.0]}
    assert clock.read_ms() == {}


def test_stages_nest_and_are_told_by_the_model_marks() -> None:
    clock = StageClock("cpu", source=ticks(0.0, 0.5, 1.5, 2.0))
    with observe(clock), stage("total"), stage("prefill"):
        pass
    assert clock.read_ms() == {"prefill": [1000.0], "total": [2000.0]}


def test_marks_do_not_wait_and_reading_waits_once() -> None:
    source = Laps()
    clock = StageClock("cpu", source=source)
    for name in ("prefill", "decode"):
        clock.begin(name)
        clock.end(name)
    clock.read_ms()
    assert source.log == ["mark"] * 4 + ["wait"]


def test_stages_end_in_the_order_opposite_to_their_beginning() -> None:
    clock = StageClock("cpu", source=Laps())
    clock.begin("total")
    clock.begin("prefill")
    with pytest.raises(RuntimeError, match=r"'total' ends, but the stages running are \['total', 'prefill'\]"):
        clock.end("total")
    with pytest.raises(RuntimeError, match="'prefill' is still running"):
        clock.read_ms()
    clock.reset()
    assert clock.read_ms() == {}
    with pytest.raises(RuntimeError, match=r"the stages running are \[\]"):
        clock.end("total")


def test_a_stage_that_fails_is_closed() -> None:
    clock = StageClock("cpu", source=ticks(0.0, 0.25))

    def fail() -> None:
        with observe(clock), stage("prefill"):
            raise OSError("no answer")

    with pytest.raises(OSError, match="no answer"):
        fail()
    assert clock.read_ms() == {"prefill": [250.0]}


def test_measuring_drops_the_warm_up_and_keeps_raw_samples() -> None:
    source = Laps()
    calls: list[int] = []

    def work() -> None:
        calls.append(0)
        with stage("decode"):
            pass
        with stage("decode"):
            pass

    samples_ms = measure(work, clock=StageClock("cpu", source=source), warmup=2, repeats=3)
    assert len(calls) == 5
    assert samples_ms == {"decode": [1.0] * 6, "call": [5.0] * 3}
    assert source.log == (["mark"] * 6 + ["wait"]) * 5


@pytest.mark.parametrize(("warmup", "repeats"), [(-1, 1), (0, 0)])
def test_measuring_nothing_is_an_error(warmup: int, repeats: int) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and 1, got {warmup} and {repeats}"):
        measure(lambda: None, clock=StageClock("cpu"), warmup=warmup, repeats=repeats)


def test_each_device_has_its_source_of_time() -> None:
    assert isinstance(time_source("cpu"), HostTime)
    assert isinstance(time_source(torch.device("cuda", 1)), CudaTime)
    with pytest.raises(ValueError, match="can be measured on cpu and cuda, got 'meta'"):
        StageClock("meta")


def test_a_gpu_is_timed_by_events_on_its_current_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            log.append(("record", stream))

        def elapsed_time(self, end: object) -> float:
            return 1.5

    def logged(name: str) -> Callable[[object], object]:
        def call(device: object) -> object:
            log.append((name, str(device)))
            return "stream"

        return call

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", logged("stream"))
    monkeypatch.setattr(torch.cuda, "synchronize", logged("synchronize"))
    clock = StageClock("cuda:1")
    for _ in range(2):  # the stream is asked for once a reading
        log.clear()
        clock.begin("prefill")
        clock.end("prefill")
        assert clock.read_ms() == {"prefill": [1.5]}
        assert log == [("stream", "cuda:1"), ("record", "stream"), ("record", "stream"), ("synchronize", "cuda:1")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_count_work_that_the_gpu_has_not_finished() -> None:
    square = torch.ones(4096, 4096, device="cuda")
    samples_ms = measure(lambda: square @ square, clock=StageClock("cuda"), warmup=1, repeats=3)
    assert all(sample_ms > 0 for sample_ms in samples_ms["call"])
