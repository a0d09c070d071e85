"""How fast the machine is just now: on a shared one, the latest requests say most of what can be known of the next."""

import math
from dataclasses import dataclass
from typing import Final

_FURTHEST: Final = math.log(2.0)  # that a single request, or the pace, may be from what is expected


@dataclass(kw_only=True)
class Pace:
    """Follow measured over expected time by an exponentially weighted mean of its logarithm.

    It begins at what is expected, also in a run that goes on where another stopped: how slow the machine was then says
    nothing of now.

    Args:
        weight: Of the latest request; what was known before has the rest.

    Raises:
        ValueError: If the weight is no share.
    """

    weight: float = 0.3
    _log_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight: must be above 0 and at most 1, got {self.weight}")

    @property
    def slowness(self) -> float:
        """How many times as long as expected requests take, at least 1.

        A machine that is faster than expected is given no more to do: what it saves is what keeps answers in time that
        take longer than others.
        """
        return max(1.0, math.exp(self._log_ratio))

    def forget(self) -> None:
        """Begin anew."""
        self._log_ratio = 0.0

    def update(self, *, measured_ms: float, expected_ms: float) -> None:
        """Learn from a request. One that took far longer than all others tells of itself, not of the machine."""
        seen = min(max(math.log(measured_ms / expected_ms), -_FURTHEST), _FURTHEST)
        self._log_ratio += self.weight * (seen - self._log_ratio)
