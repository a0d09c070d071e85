"""What happens when a device fails: memory is cleaned, some time goes by, and the job is tried again."""

import gc
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import torch

from profiling.subsets.job import Job

_log = logging.getLogger(__name__)

Fault = Literal["device", "memory"]
"""What failed when it was neither the program nor its user: the device, or there was too little memory on it."""

_LIBRARIES: Final = ("CUDA", "CUDNN", "CUBLAS")
_MEMORY_TRIES: Final = 2
_MEMORY_ADVICE: Final = "give a smaller evaluated.batch_size or evaluated.cache_gib"


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often and when a job is tried again after a CUDA error.

    Args:
        most: Tries after the first. Out of memory, one at most: only other programs' memory may be free by then.
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

    def allows(self, fault: Fault | None, *, attempts: int) -> bool:
        """Tell whether there is sense in another try after so many."""
        if fault is None:
            return False
        return attempts <= self.most and (fault == "device" or attempts < _MEMORY_TRIES)


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


def fault_of(error: Exception) -> Fault | None:
    """Tell whether the device failed, rather than the program or its user."""
    if isinstance(error, torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, torch.AcceleratorError):
        return "device"
    words = str(error).upper()
    if not isinstance(error, RuntimeError) or not any(library in words for library in _LIBRARIES):
        return None
    return "memory" if "OUT OF MEMORY" in words or "ALLOC_FAILED" in words else "device"


def reason_of(error: Exception) -> str:
    """Return what an error says, in one line, and what to do about it if that is known."""
    advice = f"; {_MEMORY_ADVICE}" if fault_of(error) == "memory" else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{advice}"


def given_up(job: Job, reason: str) -> RuntimeError:
    """Make the error that ends a run."""
    return RuntimeError(f"{job}: {reason}; what was measured is kept, the same command goes on")


def clean_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
