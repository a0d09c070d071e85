"""An alarm for the day on which the device is no longer the one that promises were calibrated on."""

from collections import deque

import numpy as np


class DriftAlarm:
    """Watch the median of measured over predicted time.

    Args:
        expected_ratio: The median at the calibration.
        tolerance: How far, as a share, the median may move.
        window: Requests that the median is taken over; no alarm before there are so many.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, *, expected_ratio: float = 1.0, tolerance: float = 0.05, window: int = 100) -> None:
        if not expected_ratio > 0:
            raise ValueError(f"expected_ratio: must be above 0, got {expected_ratio}")
        if not tolerance > 0:
            raise ValueError(f"tolerance: must be above 0, got {tolerance}")
        if window < 1:
            raise ValueError(f"window: must be 1 or more, got {window}")
        self._expected = expected_ratio
        self._tolerance = tolerance
        self._ratios: deque[float] = deque(maxlen=window)

    def update(self, *, measured_ms: float, predicted_ms: float) -> None:
        """Note a request."""
        self._ratios.append(measured_ms / predicted_ms)

    @property
    def shift(self) -> float | None:
        """How much longer requests take than at the calibration, as a share; ``None`` while too few are known."""
        if len(self._ratios) < (self._ratios.maxlen or 0):
            return None
        return float(np.median(self._ratios)) / self._expected - 1

    @property
    def rings(self) -> bool:
        """Whether to recalibrate."""
        shift = self.shift
        return shift is not None and abs(shift) > self._tolerance
