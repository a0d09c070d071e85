"""What a benchmark says in the end: one JSON with every sample, and tables on the console and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from models.config import MolmoConfig
from profiling.bench.cells import SIZE_OF, Benchmark, BenchStage, Cell
from profiling.bench.hardware import Hardware
from profiling.bench.runner import Outcome
from profiling.statistics import summarize

SCHEMA_VERSION: Final = 1
_OURS: Final = "ours"
_TITLES: Final = {
    BenchStage.PREFILL: "Prefill",
    BenchStage.DECODE: "Decode, one token",
    BenchStage.VISION: "Vision encoder",
    BenchStage.REQUEST: "Whole request",
}
_LEGEND: Final = (
    "Milliseconds, p50. floor: for the operations or for the bytes that a cell needs at least, whichever takes longer, "
    "at the rates measured above. ours, stock in the ratios: the fastest of each in the cell."
)
_RATIOS: Final = {
    "ours / floor": "ours_over_floor",
    "stock / floor": "stock_over_floor",
    "ours / stock": "ours_over_stock",
}


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table before it is known where it will be printed.

    Args:
        title: Above the table.
        headings: Of the columns.
        rows: As many texts in each as there are headings.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table in Markdown, numbers to the right."""
        lines = [self.headings, ["--:"] * len(self.headings), *self.rows]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def rich(self) -> Table:
        """Return the table for a console."""
        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in self.headings:
            name = heading if heading == "top_k" else heading.replace("_", "\n").replace(" / ", " /\n")
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def report_content(
    benchmark: Benchmark,
    config: MolmoConfig,
    environment: Mapping[str, Any],
    hardware: Hardware,
    results: Mapping[Cell, Mapping[str, Outcome]],
) -> dict[str, Any]:
    """Put everything that is known into plain values: the content of the JSON file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": dict(environment),
        "benchmark": asdict(benchmark),
        "hardware": asdict(hardware),
        "cells": [
            _cell_content(cell, benchmark.floor_ms(cell, config, hardware), results[cell])
            for cell in benchmark.cells()
            if cell in results
        ],
    }


def _cell_content(cell: Cell, floor_ms: float, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    contestants: dict[str, dict[str, Any]] = {}
    for name, outcome in outcomes.items():
        if outcome.left_out is not None:
            contestants[name] = {"left_out": outcome.left_out}
            continue
        summary = summarize(outcome.samples_ms)
        contestants[name] = {
            # A single sample has no spread.
            "summary_ms": {key: None if math.isnan(value) else value for key, value in asdict(summary).items()},
            "times_floor": summary.p50 / floor_ms,
            "difference": outcome.difference,
            "warm_up_s": outcome.warm_up_s,
            "samples_ms": list(outcome.samples_ms),
        }
    return {**asdict(cell), "floor_ms": floor_ms, **_ratios(contestants, floor_ms), "contestants": contestants}


def _ratios(contestants: Mapping[str, Mapping[str, Any]], floor_ms: float) -> dict[str, float | None]:
    """Hold our fastest p50, stock's fastest and the floor against each other; ``None`` where one is missing."""
    ours_ms, stock_ms = (
        min(
            (
                content["summary_ms"]["p50"]
                for name, content in contestants.items()
                if name.startswith(_OURS) == is_ours and "summary_ms" in content
            ),
            default=None,
        )
        for is_ours in (True, False)
    )
    return {
        "ours_over_floor": None if ours_ms is None else ours_ms / floor_ms,
        "stock_over_floor": None if stock_ms is None else stock_ms / floor_ms,
        "ours_over_stock": None if ours_ms is None or stock_ms is None else ours_ms / stock_ms,
    }


def stage_tables(content: Mapping[str, Any]) -> list[TextTable]:
    """Return a table for each stage: a row for each cell, a column for each contestant."""
    tables = []
    for stage in BenchStage:
        cells = [cell for cell in content["cells"] if cell["stage"] == stage]
        if not cells:
            continue
        knobs = [] if stage == BenchStage.VISION else ["top_k", "num_active_blocks"]
        # Who ran nowhere is named with the reason below the tables.
        names = [
            name
            for name in content["benchmark"][stage]["contestants"]
            if any("left_out" not in cell["contestants"][name] for cell in cells)
        ]
        rows = [
            [
                *(str(cell[knob]) for knob in knobs),
                str(cell["size"]),
                _figure(cell["floor_ms"]),
                *(_entry(cell["contestants"][name]) for name in names),
                *("-" if cell[key] is None else f"{cell[key]:.2f}" for key in _RATIOS.values()),
            ]
            for cell in cells
        ]
        headings = [*(knob.removeprefix("num_active_") for knob in knobs), SIZE_OF[stage], "floor", *names, *_RATIOS]
        tables.append(TextTable(title=_title(stage, content), headings=headings, rows=rows))
    return tables


def _title(stage: BenchStage, content: Mapping[str, Any]) -> str:
    if stage != BenchStage.REQUEST:
        return _TITLES[stage]
    benchmark = content["benchmark"]
    return f"{_TITLES[stage]}, {benchmark['text_tokens']} text tokens, {benchmark['output_tokens']} output tokens"


def _entry(contestant: Mapping[str, Any]) -> str:
    return "-" if "left_out" in contestant else _figure(contestant["summary_ms"]["p50"])


def _figure(number: float) -> str:
    """Write a time with three digits that count, and no fewer than those before the point."""
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}" if number > 0 else "0"


def detail_table(content: Mapping[str, Any]) -> TextTable:
    """Return the table of everything but the raw samples."""
    headings = ("stage", "size", "top_k", "blocks", "contestant", "n", "p50", "p95", "p99", "std", "times floor")
    rows = []
    for cell in content["cells"]:
        where = [str(cell["stage"]), str(cell["size"]), _or_dash(cell["top_k"]), _or_dash(cell["num_active_blocks"])]
        for name, contestant in cell["contestants"].items():
            if "left_out" in contestant:
                continue
            summary = contestant["summary_ms"]
            figures = ["-" if summary[key] is None else _figure(summary[key]) for key in ("p50", "p95", "p99", "std")]
            difference = contestant["difference"]
            rows.append(
                [
                    *(*where, name, str(summary["count"]), *figures, f"{contestant['times_floor']:.2f}"),
                    "-" if difference is None else f"{difference:.1e}",
                    f"{contestant['warm_up_s']:.1f}",
                ]
            )
    return TextTable(title="Every cell", headings=[*headings, "difference", "warm-up s"], rows=rows)


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def verdicts(content: Mapping[str, Any]) -> list[str]:
    """Say for each stage how often we are faster than the best stock contestant, and who was left out and why."""
    lines = []
    for stage in BenchStage:
        cells = [cell for cell in content["cells"] if cell["stage"] == stage]
        ratios = [cell["ours_over_stock"] for cell in cells if cell["ours_over_stock"] is not None]
        if ratios:
            faster = sum(ratio < 1 for ratio in ratios)
            lines.append(
                f"{_TITLES[stage]}: ours is faster than the best stock in {faster} of {len(ratios)} cells "
                f"(ours / stock {min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f})."
            )
        reasons: dict[str, int] = {}
        for cell in cells:
            for name, contestant in cell["contestants"].items():
                if "left_out" in contestant:
                    reason = f"{name}: {contestant['left_out']}"
                    reasons[reason] = reasons.get(reason, 0) + 1
        lines += [f"{_TITLES[stage]}: left out of {count} cells: {reason}." for reason, count in reasons.items()]
    return lines


def head_lines(content: Mapping[str, Any]) -> list[str]:
    """Say what was measured on what, and how fast the device is."""
    hardware = content["hardware"]
    return [
        *where_lines(content["environment"]),
        f"Measured here: copy {hardware['bandwidth_bytes_per_s'] / 1e9:,.1f} GB/s (read + written), "
        f"matrix product {hardware['flops_per_s'] / 1e12:,.2f} TFLOP/s.",
    ]


def where_lines(where: Mapping[str, Any]) -> list[str]:
    """Say which model ran on what, from a report's environment."""
    weights = "random weights" if where["random_weights"] else "trained weights"
    driver = f", driver {where['driver']}, CUDA {where['cuda']}" if where["driver"] else ""
    commit = f", commit {where['commit'][:12]}" if where["commit"] else ""
    return [
        f"{where['model']}, {where['dtype']}, {weights}, batch 1, on {where['device']}.",
        f"torch {where['torch']}, transformers {where['transformers']}, Python {where['python']}{driver}, "
        f"{where['num_threads']} CPU threads{commit}, {where['date']}.",
    ]


def markdown(content: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page."""
    tables = [*stage_tables(content), detail_table(content)]
    parts = [
        "# Benchmark: ours against transformers and the hardware's floor\n",
        *(f"{line}\n" for line in head_lines(content)),
        "".join(f"- {line}\n" for line in verdicts(content)),
        f"{_LEGEND}\n",
        *(table.markdown() for table in tables),
        "difference: largest difference of the results from the first contestant's, in their standard deviations. "
        "warm-up: from nothing to warm, compilation included.\n",
    ]
    return "\n".join(parts)


def print_report(content: Mapping[str, Any], console: Console) -> None:
    """Print the same without the table of every cell."""
    for line in head_lines(content):
        console.print(line, highlight=False)
    for table in stage_tables(content):
        console.print(table.rich())
    console.print(_LEGEND, highlight=False)
    for line in verdicts(content):
        console.print(line, highlight=False)
