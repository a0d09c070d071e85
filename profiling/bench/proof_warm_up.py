"""What a proof measures of getting ready: warming up with and without compiled kernels at hand, and switching."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from models.engine import Engine, EngineName, make_engine
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import device_of, draw_prompt
from profiling.clock import StageClock
from profiling.model_source import ModelSource

MIB: Final = 2**20
_OPEN: Final = "open"
_STEP: Final = "step"


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """What it took to make an engine and to warm up its settings.

    Args:
        seconds: Compilation and recording included.
        allocated_mib: Memory that torch has given out for it; ``None`` on the CPU.
        device_mib: Memory that the driver has, kernels and recorded graphs included; ``None`` on the CPU.
    """

    seconds: float
    allocated_mib: float | None = None
    device_mib: float | None = None


@dataclass(frozen=True, kw_only=True)
class SwitchPlan:
    """How switching between settings is measured.

    Args:
        prompt_tokens: Ids of each request's prompt.
        warmup: Switches that are not counted.
        repeats: Switches that are.

    Raises:
        ValueError: If there is nothing to count.
    """

    prompt_tokens: int = 64
    warmup: int = 10
    repeats: int = 200

    def __post_init__(self) -> None:
        for name, fewest in {"prompt_tokens": 1, "warmup": 0, "repeats": 1}.items():
            if getattr(self, name) < fewest:
                raise ValueError(f"switching.{name}: must be {fewest} or more, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Switches:
    """Time to open a request and to run its first step, prefill left out.

    Args:
        switched_ms: Behind a request of another setting.
        same_ms: Behind one of the same setting.
    """

    switched_ms: tuple[float, ...]
    same_ms: tuple[float, ...]


@contextmanager
def kernel_cache(folder: Path) -> Iterator[None]:
    """Let Triton keep compiled kernels in a folder, in this process and those that it starts."""
    name = "TRITON_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def timed_warm_up(
    name: EngineName, model: Molmo, settings: Sequence[KnobSetting], *, capacity: int
) -> tuple[Engine, WarmUp]:
    """Make an engine and warm it up."""
    device = device_of(model)
    before = _memory_mib(device)
    start = time.perf_counter()
    engine = make_engine(name, model, capacity=capacity)
    engine.warm_up(settings)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    after = _memory_mib(device)
    if before is None or after is None:
        return engine, WarmUp(seconds=seconds)
    return engine, WarmUp(seconds=seconds, allocated_mib=after[0] - before[0], device_mib=after[1] - before[1])


def warm_up_in_fresh_process(
    name: EngineName, source: ModelSource, device: str, settings: Sequence[KnobSetting], *, capacity: int
) -> WarmUp:
    """Do the same in a process that has compiled nothing, with a model of its own, whose loading does not count."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_load_and_warm_up, name, source, device, settings, capacity).result()


def _load_and_warm_up(
    name: EngineName, source: ModelSource, device: str, settings: Sequence[KnobSetting], capacity: int
) -> WarmUp:
    return timed_warm_up(name, source.load(device), settings, capacity=capacity)[1]


def _memory_mib(device: torch.device) -> tuple[float, float] | None:
    """Return what torch has allocated, and what is taken of the device by anyone."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    return torch.cuda.memory_allocated(device) / MIB, (total - free) / MIB


def measure_switches(
    engine: Engine, model: Molmo, settings: Sequence[KnobSetting], plan: SwitchPlan, advance: Callable[[], None]
) -> Switches:
    """Time first steps behind another setting and, of the same setting right after, behind the same.

    Every setting takes its turn, each time behind another one.
    """
    clock = StageClock(device_of(model))
    switched_ms, same_ms = [], []
    gc.collect()
    gc.disable()  # or a collection in the middle of a step would show as an outlier
    try:
        for turn in range(plan.warmup + plan.repeats):
            index, lap = turn % len(settings), turn // len(settings)
            other = settings[(index + 1 + lap % (len(settings) - 1)) % len(settings)]
            _first_step_ms(engine, model, other, plan.prompt_tokens, clock)
            pair_ms = [_first_step_ms(engine, model, settings[index], plan.prompt_tokens, clock) for _ in range(2)]
            if turn >= plan.warmup:
                switched_ms.append(pair_ms[0])
                same_ms.append(pair_ms[1])
                advance()
    finally:
        gc.enable()
    return Switches(switched_ms=tuple(switched_ms), same_ms=tuple(same_ms))


@torch.inference_mode()
def _first_step_ms(engine: Engine, model: Molmo, setting: KnobSetting, tokens: int, clock: StageClock) -> float:
    prompt = ModelInputs(input_ids=draw_prompt(model.config, tokens, device_of(model)))
    clock.begin(_OPEN)
    with engine.request(setting, batch_size=1, capacity=tokens + 1) as request:
        clock.end(_OPEN)
        request.prefill(prompt, model.embed(prompt, None))
        (open_ms,) = clock.read_ms()[_OPEN]  # waits for the prefill
        clock.begin(_STEP)
        request.step(request.likeliest)
        clock.end(_STEP)
        (step_ms,) = clock.read_ms()[_STEP]
    return open_ms + step_ms
