"""When an answer has to be over: tokens that would come too late are never begun."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A time by which the last token must be there.

    Args:
        at_s: Seconds of ``now``'s clock.
        token_ms: How long one more token is expected to take at most: the predicted step, times whatever margin it is
            to have. 0 for a deadline that is only noticed once it has passed.
        now: Reads the clock; seconds from any origin, never going back.

    Raises:
        ValueError: If the deadline is not a number, or a token would take no time that can be counted.
    """

    at_s: float
    token_ms: float
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if math.isnan(self.at_s):
            raise ValueError(f"deadline: at_s: must be a number of seconds, got {self.at_s}")
        if not self.token_ms >= 0:
            raise ValueError(f"deadline: token_ms: must be 0 or more, got {self.token_ms}")

    def allows(self, num_tokens: int) -> bool:
        """Say whether so many tokens, one after the other from now on, are expected to be there in time."""
        return self.now() + num_tokens * self.token_ms / 1000.0 <= self.at_s
