"""What happens when a device fails: memory is cleaned, some time goes by, and the job is tried again."""

import gc
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from profiling.subsets.job import Job

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often and when a job is tried again after a CUDA error.

    Args:
        most: Tries after the first.
        wait_s: Seconds before each.

    Raises:
        ValueError: If a number is negative.
    """

    most: int = 3
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        for name, value in {"most": self.most, "wait_s": self.wait_s}.items():
            if value < 0:
                raise ValueError(f"retries.{name}: must be 0 or more, got {value}")


class FailureLog:
    """Every failure with its reason, a line of JSON each.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, job: Job, *, attempt: int, device: str, reason: str) -> None:
        """Write a failure down."""
        row = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "job": str(job),
            "attempt": attempt,
            "device": device,
            "reason": reason,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        _log.warning("%s: attempt %d on %s failed: %s", job, attempt, device, reason)


def is_cuda_error(error: Exception) -> bool:
    """Tell whether the device failed, rather than the program or its user."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and "CUDA" in str(error)


def reason_of(error: Exception) -> str:
    """Return what an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def clean_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
