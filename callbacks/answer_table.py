"""Show people what was answered, and how long it took."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from profiling.adaptive.chooser import Choice
from profiling.adaptive.served import Served
from profiling.adaptive.server import Answer
from profiling.schema import ProfileRecord


class AnswerTable(Callback):
    """Print each answer of ``predict`` with its setting and the milliseconds of each component."""

    def on_predict_batch_end(  # noqa: PLR0917 (Lightning's signature)
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print the answers of a batch."""
        console = Console()
        for output in outputs:
            if isinstance(output, Answer):
                _print_within_budget(output, console)
            else:
                _print_answer(output, console)


def _print_answer(record: ProfileRecord, console: Console) -> None:
    knobs = f"tier {record.tier}, top_k {record.top_k}, {record.num_active_blocks} active blocks"
    tokens = f"{record.vision_tokens} vision, {record.text_tokens} text, {record.output_tokens} output"
    lines = {"question": record.question, "answer": record.prediction, "setting": knobs, "tokens": tokens}
    _print_lines(lines, console)
    _print_times(_times_ms(record), console)


def _print_within_budget(answer: Answer, console: Console) -> None:
    served, choice = answer.served, answer.choice
    end = "late" if served.is_late else "cut off at the deadline" if served.is_truncated else "in time"
    tokens = f"{served.output_tokens} token{'s' if served.output_tokens > 1 else ''}"
    expected = "" if served.expected_ms is None else f", {served.expected_ms:.1f} ms expected for {tokens}"
    lines = {
        "question": served.question,
        "answer": served.prediction,
        "setting": _knobs(answer, choice.setting),
        "time": f"{served.latency_ms:.1f} ms of {served.budget_ms:g} ms{expected}: {end}",
        "margin": f"{served.margin:.0%} of the budget kept back",
    }
    if served.is_infeasible:
        lines["note"] = "no setting was expected in time, so the cheapest one ran"
    if choice.is_overruled:
        lines["note"] = "there was time for the full setting, so it ran"
    _print_lines(lines, console)
    _print_times(_parts_ms(served), console)
    _print_candidates(answer, choice, console)


def _print_candidates(answer: Answer, choice: Choice, console: Console) -> None:
    """Print what there was time for: what the controller thought of it, and how long a usual answer takes with it."""
    table = Table(box=SIMPLE_HEAD, title="chosen, and next in line")
    for column in ("setting", "controller's value", "usual ms"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for setting in (choice.setting, *choice.runners_up()):
        expected = "-" if choice.expected is None else f"{choice.expected.total_ms[setting]:.1f}"
        table.add_row(_knobs(answer, setting), f"{choice.values_S[setting]:.3f}", expected)
    console.print(table)


def _knobs(answer: Answer, setting: int) -> str:
    knobs = answer.grid.settings()[setting]
    return f"tier {knobs.tier}, top_k {knobs.top_k}, {knobs.num_active_blocks} active blocks"


def _print_lines(lines: Mapping[str, str | None], console: Console) -> None:
    for name, text in lines.items():
        console.print(f"{name:9}{text}", markup=False, highlight=False)


def _print_times(times_ms: Mapping[str, float], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("component")
    table.add_column("ms", justify="right")
    for name, time_ms in times_ms.items():
        table.add_row(name, f"{time_ms:.2f}")
    console.print(table)


def _parts_ms(served: Served) -> dict[str, float]:
    """Name the times of an answer within a budget; on a GPU, host and device overlap."""
    return {
        "preprocess": served.preprocess_ms,
        "controller": served.features_ms + served.controller_ms,
        "vision encoder": served.vision_encoder_ms,
        "projector": served.projector_ms,
        "prefill": served.prefill_ms,
        "decode": served.decode_ms,
        "whole request": served.latency_ms,
    }


def _times_ms(record: ProfileRecord) -> dict[str, float]:
    """Name the times of a record from picture and words to the last token."""
    preprocess_ms, total_ms = record.preprocess_ms or 0.0, record.total_ms or 0.0
    return {
        "preprocess": preprocess_ms,
        "vision encoder": record.vision_encoder_ms,
        "projector": record.projector_ms or 0.0,
        "prefill": record.prefill_ms,
        "decode": record.decode_ms,
        "whole request": preprocess_ms + total_ms,
    }
