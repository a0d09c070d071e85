"""What a proof measures of a long run: whether many mixed requests leave memory, or change a fixed answer."""

import gc
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.engine import Engine
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import device_of, draw_request
from profiling.bench.proof_warm_up import MIB

_STATM: Final = Path("/proc/self/statm")  # in pages: size, resident, and more


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """Which requests a soak runs. Each draws its setting and lengths anew from the seed.

    Args:
        num_requests: How many in all.
        num_settled: After how many the memory must not grow any more; a reading follows each further so many.
        crops: Numbers of crops to draw from, 0 for a request without an image.
        text_tokens: Numbers of ids besides the vision tokens to draw from.
        output_tokens: Fewest and most tokens of an answer.
        num_threads: Every second group of so many requests runs at once, in a thread each.
        broken_fraction: Share of requests that an error breaks off after their prefill or a later step.
        seed: Of the requests.

    Raises:
        ValueError: If there is nothing to run, or nothing behind the settled part.
    """

    num_requests: int = 1000
    num_settled: int = 100
    crops: tuple[int, ...] = (0, 1, 5, 13)
    text_tokens: tuple[int, ...] = (10, 40, 200, 600)
    output_tokens: tuple[int, int] = (1, 40)
    num_threads: int = 4
    broken_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        fewest, most = self.output_tokens
        mistakes = {
            "num_requests": not 1 <= self.num_settled < self.num_requests,
            "crops": not self.crops or min(self.crops) < 0,
            "text_tokens": not self.text_tokens or min(self.text_tokens) < 1,
            "output_tokens": not 1 <= fewest <= most,
            "num_threads": self.num_threads < 1,
            "broken_fraction": not 0 <= self.broken_fraction <= 1,
        }
        for name in (name for name, is_wrong in mistakes.items() if is_wrong):
            raise ValueError(
                f"soak.{name}: needs 1 <= num_settled < num_requests, crops of 0 or more, text_tokens and num_threads "
                f"of 1 or more, 1 <= fewest <= most output_tokens and a fraction, got {getattr(self, name)}"
            )


@dataclass(frozen=True, kw_only=True)
class MemoryReading:
    """What is held while no request runs.

    Args:
        after: Requests run so far.
        allocated_mib: What torch has given out on the device; ``None`` on the CPU.
        reserved_mib: What torch holds of the device; ``None`` on the CPU.
        host_mib: Resident memory of the process.
    """

    after: int
    allocated_mib: float | None
    reserved_mib: float | None
    host_mib: float


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What a soak found.

    Args:
        readings: Before the first request, once settled, and from then on.
        same_answers: Whether the probe's answer was bit for bit its first one, in the middle and at the end.
        num_broken: Requests that an error broke off.
        num_in_threads: Requests that ran at once with others.
    """

    readings: tuple[MemoryReading, ...]
    same_answers: dict[str, bool]
    num_broken: int
    num_in_threads: int


@dataclass(frozen=True, kw_only=True)
class _Request:
    setting: KnobSetting
    crops: int
    text_tokens: int
    output_tokens: int
    breaks: bool


class _BrokenOff(Exception):  # noqa: N818 - planted
    """The error that breaks a request off."""


def run_soak(
    engine: Engine, model: Molmo, settings: Sequence[KnobSetting], plan: SoakPlan, advance: Callable[[], None]
) -> Soak:
    """Run the requests, read the memory in between, and ask the probe at the start, in the middle and at the end."""
    device = device_of(model)
    drawn = partial(draw_request, model.config, device=device)
    inputs = {
        (crops, text): drawn(num_crops=crops, text_tokens=text) for crops in plan.crops for text in plan.text_tokens
    }
    longest = inputs[max(plan.crops), max(plan.text_tokens)]
    probe = partial(_probe, engine, model, longest, settings[-1], plan.output_tokens[1])
    run = partial(_run, engine, model, inputs)
    requests = _draw(settings, plan)
    first, same_answers, num_in_threads = probe(), {}, 0
    readings = [_read_memory(device, after=0)]
    with ThreadPoolExecutor(plan.num_threads) as threads:
        for start, end in _turns(plan):
            turn = requests[start:end]
            if start // plan.num_threads % 2:
                num_in_threads += len(turn)
                list(threads.map(run, turn))
            else:
                for request in turn:
                    run(request)
            for _ in turn:
                advance()
            if start < plan.num_requests // 2 <= end:
                same_answers["in the middle"] = _are_equal(first, probe())
            if start // plan.num_settled < end // plan.num_settled or end == plan.num_requests:
                readings.append(_read_memory(device, after=end))
    same_answers["at the end"] = _are_equal(first, probe())
    num_broken = sum(request.breaks for request in requests)
    return Soak(
        readings=tuple(readings), same_answers=same_answers, num_broken=num_broken, num_in_threads=num_in_threads
    )


def _turns(plan: SoakPlan) -> list[tuple[int, int]]:
    starts = range(0, plan.num_requests, plan.num_threads)
    return [(start, min(start + plan.num_threads, plan.num_requests)) for start in starts]


def _draw(settings: Sequence[KnobSetting], plan: SoakPlan) -> list[_Request]:
    rng = np.random.default_rng(plan.seed)
    fewest, most = plan.output_tokens
    return [
        _Request(
            setting=settings[int(rng.integers(len(settings)))],
            crops=plan.crops[rng.integers(len(plan.crops))],
            text_tokens=plan.text_tokens[rng.integers(len(plan.text_tokens))],
            output_tokens=int(rng.integers(fewest, most + 1)),
            breaks=bool(rng.random() < plan.broken_fraction),
        )
        for _ in range(plan.num_requests)
    ]


def _run(engine: Engine, model: Molmo, inputs: dict[tuple[int, int], ModelInputs], request: _Request) -> None:
    drawn = inputs[request.crops, request.text_tokens]
    if request.breaks:
        with suppress(_BrokenOff):
            _break_off(engine, model, drawn, request)
        return
    generate(model, drawn, setting=request.setting, max_new_tokens=request.output_tokens, engine=engine)


@torch.inference_mode()
def _break_off(engine: Engine, model: Molmo, inputs: ModelInputs, request: _Request) -> None:
    """Run half of a request, then fail while the engine holds it."""
    capacity = inputs.input_ids.shape[1] + request.output_tokens
    with engine.request(request.setting, batch_size=1, capacity=capacity) as running:
        vision_tokens = model.encode_images(inputs, vision=running.vision)
        running.prefill(inputs, model.embed(inputs, vision_tokens))
        for _ in range(request.output_tokens // 2):
            running.step(running.likeliest)
        raise _BrokenOff


def _probe(
    engine: Engine, model: Molmo, inputs: ModelInputs, setting: KnobSetting, output_tokens: int
) -> tuple[Tensor, Tensor]:
    answer = generate(model, inputs, setting=setting, max_new_tokens=output_tokens, keep_logits=True, engine=engine)
    assert answer.logits is not None
    return answer.token_ids.cpu(), answer.logits.cpu()


def _are_equal(first: tuple[Tensor, Tensor], again: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def _read_memory(device: torch.device, *, after: int) -> MemoryReading:
    gc.collect()  # what only waits for its collection is no leak
    host_mib = int(_STATM.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    if device.type != "cuda":
        return MemoryReading(after=after, allocated_mib=None, reserved_mib=None, host_mib=host_mib)
    torch.cuda.synchronize(device)
    return MemoryReading(
        after=after,
        allocated_mib=torch.cuda.memory_allocated(device) / MIB,
        reserved_mib=torch.cuda.memory_reserved(device) / MIB,
        host_mib=host_mib,
    )
