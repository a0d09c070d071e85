"""Show people what was answered, and how long it took."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

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
        for record in outputs:
            _print_answer(record, console)


def _print_answer(record: ProfileRecord, console: Console) -> None:
    knobs = f"tier {record.tier}, top_k {record.top_k}, {record.num_active_blocks} active blocks"
    tokens = f"{record.vision_tokens} vision, {record.text_tokens} text, {record.output_tokens} output"
    for name, text in (
        ("question", record.question),
        ("answer", record.prediction),
        ("setting", knobs),
        ("tokens", tokens),
    ):
        console.print(f"{name:9}{text}", markup=False, highlight=False)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("component")
    table.add_column("ms", justify="right")
    for name, time_ms in _times_ms(record).items():
        table.add_row(name, f"{time_ms:.2f}")
    console.print(table)


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
