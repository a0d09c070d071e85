"""What a run shows of its promise, said once each in the log."""

import logging

from profiling.promises.drift import DriftAlarm
from profiling.promises.validity import Validity

_log = logging.getLogger(__name__)


class PromiseWatch:
    """Watch requests that are answered with a promise's margins and bounds.

    Says at once if the promise is about something else, later if a budget is none of its own, or the device drifts.

    Args:
        validity: What the promise is worth here.
    """

    def __init__(self, validity: Validity) -> None:
        self.validity = validity
        self._drift = DriftAlarm(expected_ratio=validity.promise.expected_ratio)
        self._told: set[str] = set()
        warning = validity.warning()
        if warning is not None:
            _log.warning("promise: %s", warning)

    def note(self, budget_ms: float, *, measured_ms: float, expected_ms: float | None) -> None:
        """Note a request that was answered."""
        if not self.validity.differing and not self.validity.is_promised(budget_ms):
            self._tell("budget", f"promise: Nothing is promised for {budget_ms:g} ms.")
        if expected_ms:
            self._drift.update(measured_ms=measured_ms, predicted_ms=expected_ms)
        if self._drift.rings:
            taken = 1 + (self._drift.shift or 0.0)
            self._tell("drift", f"drift: requests take {taken:.0%} of what they took at the calibration; `recalibrate`")

    def _tell(self, subject: str, message: str) -> None:
        if subject not in self._told:
            self._told.add(subject)
            _log.warning("%s", message)
