"""The ``bench`` command: ours against transformers' own models and the hardware's floor, in one run on one device."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from rich.console import Console

from models.config import MolmoConfig
from models.molmo import Molmo
from profiling.bench.cells import Benchmark
from profiling.bench.contestants import Contestant, Ours
from profiling.bench.hardware import measure_hardware
from profiling.bench.log import BenchLog
from profiling.bench.report import markdown, print_report, report_content
from profiling.bench.runner import CellRunner
from profiling.bench.stock_contestants import Stock, StockCompiled
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.progress import progress_bar

# A name beginning with "ours" counts as ours where the fastest of ours is held against the fastest stock.
CONTESTANTS: Final[dict[str, Callable[[Molmo], Contestant]]] = {
    "ours_eager": partial(Ours, engine="eager"),
    "ours_compiled": partial(Ours, engine="compiled"),
    "ours_graph": partial(Ours, engine="graph"),
    "stock_eager": partial(Stock, experts="eager"),
    "stock_grouped_mm": partial(Stock, experts="grouped_mm"),
    "stock_batched_mm": partial(Stock, experts="batched_mm"),
    "stock_compiled": partial(StockCompiled, experts="grouped_mm"),
    "stock_compiled_batched_mm": partial(StockCompiled, experts="batched_mm"),
}
_PIPED_WIDTH: Final = 120  # the widest table needs 100


def bench(
    benchmark: Benchmark,
    output_dir: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Time our engine against transformers' OlmoeForCausalLM and CLIPVisionModel, and both against the hardware.

    All contestants compute the same with the same weights and take turns. The floor of each cell comes from the copy
    bandwidth and the matrix product rate measured in the same run. Each finished cell is a line of ``cells.jsonl`` in
    ``output_dir``; started again with the same arguments, the command goes on where it stopped. At the end it prints
    tables and writes ``bench.json`` (with every sample) and ``bench.md``.

    Args:
        benchmark: What to measure.
        output_dir: Folder of the results.
        device: Where to run.
        num_threads: CPU threads; PyTorch's choice if null.

    Raises:
        ValueError: If the model cannot be loaded or has not the levels asked for, a contestant is unknown, there is no
            such device, or the folder holds another benchmark.
    """
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    config = _checked(benchmark, device, num_threads)
    environment = _environment(benchmark, device)
    output_dir.mkdir(parents=True, exist_ok=True)
    with BenchLog(output_dir / "cells.jsonl", _plain(benchmark), environment) as log:
        try:
            _measure(benchmark, log, device, console)
        except KeyboardInterrupt:
            console.print("interrupted: finished cells are kept, the same command goes on with the rest")
            raise
        content = report_content(benchmark, config, log.environment, log.fastest(), log.cells)
    _write(content, output_dir)
    print_report(content, console)
    console.print(f"wrote {output_dir / 'bench.json'} and {output_dir / 'bench.md'}")


def _checked(benchmark: Benchmark, device: str, num_threads: int | None) -> MolmoConfig:
    """Refuse what cannot be measured here, set the number of threads, and return the model's shape."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: this machine has no CUDA device; say cpu, with a config for it")
    if num_threads is not None:
        if num_threads < 1:
            raise ValueError(f"num_threads: must be 1 or more, got {num_threads}")
        torch.set_num_threads(num_threads)
    config = MolmoConfig.from_hf(benchmark.model.hf_config(), source=benchmark.model.name)
    benchmark.check(config, list(CONTESTANTS))
    return config


def _measure(benchmark: Benchmark, log: BenchLog, device: str, console: Console) -> None:
    """Measure the device and the cells that are left."""
    cells = benchmark.cells()
    left = [cell for cell in cells if cell not in log.cells]
    console.print(f"{len(cells)} cells, {len(cells) - len(left)} done before, into {log.path.parent}")
    if not left:
        return
    _measure_hardware(benchmark, log, device)
    model = benchmark.model.load(device)
    used = {name for plan in benchmark.plans().values() for name in plan.contestants}
    runner = CellRunner(benchmark, model, {name: CONTESTANTS[name](model) for name in used})
    # A cell's warm-up counts as one step, and so does each of its rounds.
    steps = {cell: benchmark.plans()[cell.stage].rounds + 1 for cell in cells}
    with progress_bar(console, times_steps=True) as progress:
        done = sum(steps[cell] for cell in log.cells)
        task = progress.add_task("measuring", total=sum(steps.values()), completed=done)
        for cell in left:
            progress.update(task, description=str(cell))
            log.write_cell(cell, runner.measure(cell, lambda: progress.advance(task)))
    _measure_hardware(benchmark, log, device)


def _measure_hardware(benchmark: Benchmark, log: BenchLog, device: str) -> None:
    """Measure the device before and after the cells: what else ran on it at one time may be gone at the other."""
    dtype: torch.dtype = getattr(torch, benchmark.model.dtype)
    log.write_hardware(measure_hardware(benchmark.hardware, device=torch.device(device), dtype=dtype))


def _environment(benchmark: Benchmark, device: str) -> dict[str, Any]:
    """Describe where the benchmark runs; which engine runs is a contestant's name."""
    source = benchmark.model
    environment = collect_environment(
        torch.device(device),
        engine="eager",
        dtype=source.dtype,
        model=source.name,
        model_shape=source.hf_config(),
        random_weights=source.random_weights,
        router_skew=source.router_skew if source.random_weights else None,
    )
    return environment.model_dump(mode="json", exclude={"engine"})


def _plain(benchmark: Benchmark) -> dict[str, Any]:
    """Return the benchmark as JSON holds it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(benchmark)))
    return plain


def _write(content: dict[str, Any], output_dir: Path) -> None:
    write_json(output_dir / "bench.json", content)
    with written_whole(output_dir / "bench.md") as partial_path:
        partial_path.write_text(markdown(content), encoding="utf-8")
