"""Records of requests under budgets, and questions, for tests of several modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from profiling.adaptive.report import AdaptiveReport
from profiling.adaptive.served import Served
from profiling.questions import QuestionRequest, Questions


def served_row(**changes: Any) -> Served:
    """A request that was right and took 40 of 50 ms."""
    row: dict[str, Any] = {
        "dataset": "d",
        "split": "test",
        "sample_id": "s0",
        "image_id": "i0",
        "question": "what is it?",
        "prediction": "a cat",
        "accuracy": 1.0,
        "metric": "exact_match",
        "budget_ms": 50.0,
        "margin": 0.1,
        "latency_ms": 40.0,
        "is_infeasible": False,
        "is_truncated": False,
        "tier": "low",
        "top_k": 4,
        "num_active_blocks": 8,
        "features_ms": 0.2,
        "controller_ms": 0.3,
        "preprocess_ms": 2.0,
        "vision_encoder_ms": 5.0,
        "projector_ms": 1.0,
        "prefill_ms": 20.0,
        "decode_ms": 10.0,
        "remaining_ms": 30.0,
        "expected_ms": 38.0,
        "vision_tokens": 40,
        "text_tokens": 20,
        "output_tokens": 3,
    }
    return Served(**{**row, **changes})


def questions(num_samples: int, part: Any = "calibration") -> list[QuestionRequest]:
    """The first questions of the suite's counting."""
    return Questions(datasets={"suite_counting": {part: "test"}}, num_samples={part: num_samples}).requests()


def write_run(
    folder: Path, rows: Sequence[Served], *, policy: str = "full", subject: str = "a model, a device"
) -> Path:
    """Leave what a finished run leaves in its folder."""
    AdaptiveReport(rows=rows, policy=policy, subject=subject, references={}).write(folder, [])
    return folder
