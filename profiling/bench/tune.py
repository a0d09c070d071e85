"""The ``tune-engine`` command: measure how the graph engine's decode step is best cut into programs on this GPU."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import torch
from rich.console import Console

from models.engine.choice import why_no_graph
from models.engine.tiles import Cut, Tiles
from profiling.files import write_json
from profiling.model_source import ModelSource
from profiling.progress import progress_bar

Kernel = Literal["expert_out", "expert_in", "out", "qkv", "head", "attention"]

_CUTS: Final = tuple(Cut(*cut) for cut in ((1, 4), (2, 2), (2, 4), (4, 4), (4, 8), (8, 4), (8, 8), (16, 8)))
# The fields that cut each kernel, chosen together, and what each may be.
CANDIDATES: Final[Mapping[Kernel, Mapping[str, tuple[Any, ...]]]] = {
    "expert_out": {"expert_out": _CUTS, "experts_ahead": (0, 2, 4)},
    "expert_in": {"expert_in": _CUTS},
    "out": {"out": _CUTS, "shares_at_once": (64, 256)},
    "qkv": {"qkv": _CUTS},
    "head": {"head": _CUTS},
    "attention": {"context_splits": (16, 32, 64), "context_tokens": (32, 64, 128)},
}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a tuning compares its candidates by.

    Args:
        model: The model; its weights do not matter.
        kernels: Which to cut anew, in this order; all if null.
        top_k: Levels that a cut must be good for: their times, each against the first cut's, are averaged.
        contexts: Tokens in the cache, likewise.
        warmup: Steps of a candidate that are not counted.
        repeats: Steps that are; their median counts.
        capacity: Most tokens of a request.
    """

    model: ModelSource
    kernels: tuple[Kernel, ...] | None = None
    top_k: tuple[int, ...] = (4, 6, 8, 10, 12)
    contexts: tuple[int, ...] = (600, 2000)
    warmup: int = 5
    repeats: int = 40
    capacity: int = 4096


def changes(kernel: Kernel) -> Iterator[dict[str, Any]]:
    """List the values that a kernel's fields may have together."""
    fields = CANDIDATES[kernel]
    for values in product(*fields.values()):
        yield dict(zip(fields, values, strict=True))


def tune_engine(tuning: Tuning, output_dir: Path) -> None:
    """Cut the kernels of a decode step in many ways, one kernel after the other, and keep what is fastest.

    Prints the best cuts of each kernel and writes all to ``tiles.json``. Better defaults belong into
    ``models/engine/tiles.py``.

    Args:
        tuning: What counts as fast.
        output_dir: Folder of the result.

    Raises:
        ValueError: If the graph engine cannot run here.
    """
    if not torch.cuda.is_available():
        raise ValueError("tune-engine: this machine has no CUDA device")
    console = Console()
    model = tuning.model.load("cuda")
    reason = why_no_graph(model)
    if reason is not None:
        raise ValueError(f"tune-engine: needs {reason}")
    from models.engine.recording import CudaGraphs  # noqa: PLC0415 (needs Triton)
    from profiling.bench.step_timer import StepTimer, try_all  # noqa: PLC0415 (needs Triton)

    output_dir.mkdir(parents=True, exist_ok=True)
    kernels: tuple[Kernel, ...] = tuning.kernels or tuple(CANDIDATES)
    timer = StepTimer(model, tuning, CudaGraphs(torch.device("cuda")))
    best, tried = Tiles(), {}
    with progress_bar(console, times_steps=True) as progress:
        task = progress.add_task("tuning", total=sum(len(list(changes(kernel))) for kernel in kernels))
        for kernel in kernels:
            progress.update(task, description=kernel)
            ranking = try_all(timer, best, list(changes(kernel)), lambda: progress.advance(task))
            best = replace(best, **ranking[0].change)
            tried[kernel] = [{"relative": attempt.relative, **_plain(attempt.change)} for attempt in ranking]
            for attempt in ranking[:3]:
                progress.console.print(f"{kernel}: {attempt.relative:.4f} of the time with {_plain(attempt.change)}")
    content = {"best": asdict(best), "median_ms": timer.times_ms(best), "tried": tried}
    write_json(output_dir / "tiles.json", content)
    console.print(f"best: {best}\nmedian ms: {content['median_ms']}\nwrote {output_dir / 'tiles.json'}")


def _plain(change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Cut) else value for name, value in change.items()}
