"""From what a controller would like to what there is time for."""

# Shape suffixes: S = settings.

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.controllers import LLMBased, RequestDecider, Vector
from profiling.adaptive.online_features import Known
from profiling.adaptive.pace import Pace
from profiling.controllers.outcomes import Array
from profiling.promises.latency_table import LatencyTable, Times

NUM_RUNNERS_UP = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What a request is to run with.

    Args:
        setting: Place in ``KnobGrid.settings``.
        is_infeasible: Whether no setting was expected in time, so that this is the cheapest one.
        is_overruled: Whether there was time for the full setting, whatever the controller thought.
        known: What was known of the request.
        expected: Times of all settings for it, without margin; ``None`` without a latency table.
        values_S: ``(settings,)`` what the controller thought of each, last; NaN where it was not asked.
        is_feasible_S: ``(settings,)`` which of them there was time for.
    """

    setting: int
    is_infeasible: bool
    is_overruled: bool
    known: Known
    expected: Times | None
    values_S: Vector
    is_feasible_S: NDArray[np.bool_]

    def runners_up(self) -> list[int]:
        """Return the settings next in line, best first."""
        allowed = self.is_feasible_S & np.isfinite(self.values_S)
        allowed[self.setting] = False
        order = np.argsort(-np.where(allowed, self.values_S, -np.inf), kind="stable")
        return [int(place) for place in order[: min(NUM_RUNNERS_UP, int(allowed.sum()))]]


class _Outlook(NamedTuple):
    """What is expected of all requests with the same vision tokens.

    Args:
        expected: Times of all settings; ``None`` without a latency table.
        bound_ms_S: ``(settings,)`` how long each takes at most until what must be in time is there.
        bound_rest_ms_S: ``(settings,)`` how long it does once the image is encoded.
        whole_ms_S: ``(settings,)`` how long each takes at most for a whole answer of the usual length.
        whole_rest_ms_S: ``(settings,)`` how long it does once the image is encoded.
    """

    expected: Times | None
    bound_ms_S: Array
    bound_rest_ms_S: Array
    whole_ms_S: Array
    whole_rest_ms_S: Array


class Chooser:
    """Let a controller choose among the settings that a bound on latency allows.

    With stopping between tokens, the first token must be expected in time; without, the last one of a usual answer.
    Where no setting is, the cheapest is chosen and flagged; where even the full one is with its whole answer, there is
    nothing to choose.

    Args:
        decider: The controller.
        table: Expected times and kappas; without one every setting is allowed. Where its device takes ``scale`` times
            as long as the controller's, the controller is told budgets as they would be there.
        stops_at_deadline: Whether answers are cut off at the deadline.
        checks_time: Whether the table rules settings out at all; without, the controller's word is law.
        full_setting: Place of the setting that is taken, whatever the controller would like, where there is time for a
            whole answer of it; ``None`` if there is none.
        pace: Follows how slow the machine is; where it takes twice as long as expected, half a budget is left to
            choose by. ``None`` takes the table's word.

    Raises:
        ValueError: If table and controller are of different grids, or there is a pace and nothing is expected.
    """

    def __init__(
        self,
        decider: RequestDecider,
        table: LatencyTable | None,
        *,
        stops_at_deadline: bool,
        checks_time: bool = True,
        full_setting: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        if table is not None and table.grid.settings() != decider.grid.settings():
            raise ValueError("promise: its latency table is of another grid of settings than the controller's")
        if table is None and pace is not None:
            raise ValueError("tracks_pace: how long requests take must be expected; name a promise or a profile")
        self._decider = decider
        self._table = table
        self._scale = 1.0 if table is None else table.scale
        self._stops = stops_at_deadline
        self._checks_time = checks_time
        self._full_setting = full_setting
        self._pace = pace
        self._num_settings = len(decider.grid.settings())
        self._no_values_S = np.full(self._num_settings, np.nan, dtype=np.float32)
        self._nothing_S = np.zeros(self._num_settings, dtype=np.bool_)
        self._per_tier = self._num_settings // len(decider.grid.tiers)
        # Numbers of vision tokens follow from tilings, of which there are few: what follows from them is kept.
        self._outlook = lru_cache(maxsize=None)(self._outlook_of)

    @property
    def decides_twice(self) -> bool:
        """Whether the controller is to be asked again after the image."""
        return self._decider.decides_twice

    @property
    def first_blocks(self) -> LLMBased | None:
        """What runs the budget token whose state the second decision is to be shown, if it is."""
        return self._decider.first_blocks

    @property
    def reads_picture(self) -> bool:
        """Whether the second decision is to be shown the mean vision token."""
        return self.decides_twice and self._decider.feature_widths["vision"] > 0

    def tier_of(self, choice: Choice) -> int:
        """Return the place of the tier that was chosen."""
        return choice.setting // self._per_tier

    @property
    def reads_glance(self) -> bool:
        """Whether the first decision is to be shown the overview's mean vision token."""
        return self._decider.feature_widths["glance"] > 0

    def before_image(self, known: Known, *, budget_ms: float, elapsed_ms: float) -> Choice:
        """Choose a setting, or only a tier, before the image is cut at it.

        Args:
            known: The request.
            budget_ms: From raw input to last token, margin taken off.
            elapsed_ms: What of it has passed, without what the bounds of settings count: a look at the overview.
        """
        slowness = self._slowness
        values_S = self._decider.before_image(budget_ms / slowness / self._scale, known.features)
        outlook, left_ms = self._outlook(known.vision_tokens_T), (budget_ms - elapsed_ms) / slowness
        is_whole = self._full_setting is not None and bool(outlook.whole_ms_S[self._full_setting] <= left_ms)
        return self._pick(known, outlook.expected, values_S, outlook.bound_ms_S <= left_ms, is_whole=is_whole)

    def after_image(self, choice: Choice, shown: Vector, *, remaining_ms: float) -> Choice:
        """Choose again within the tier, now that the image is encoded and the time that is left is known.

        A request for which nothing was feasible before stays flagged.

        Args:
            choice: What was chosen before.
            shown: ``(width,)`` mean vision token, or the budget token's state; width 0 where it is not read.
            remaining_ms: Budget, margin taken off, less what has passed.
        """
        tier, left_ms = self.tier_of(choice), remaining_ms / self._slowness
        of_tier = slice(tier * self._per_tier, (tier + 1) * self._per_tier)
        values_S, is_feasible_S = self._no_values_S.copy(), self._nothing_S.copy()
        values_S[of_tier] = self._decider.after_image(left_ms / self._scale, tier, choice.known.features, shown)
        outlook, full = self._outlook(choice.known.vision_tokens_T), self._full_setting
        is_feasible_S[of_tier] = outlook.bound_rest_ms_S[of_tier] <= left_ms
        is_whole = full is not None and self._is_of(tier, full) and bool(outlook.whole_rest_ms_S[full] <= left_ms)
        again = self._pick(choice.known, choice.expected, values_S, is_feasible_S, is_whole=is_whole)
        return replace(again, is_infeasible=True) if choice.is_infeasible else again

    def token_bound_ms(self, choice: Choice) -> float:
        """Return how long one more token of the chosen setting takes at most, as far as is known; 0 if nothing is."""
        if self._table is None or choice.expected is None:
            return 0.0
        kappa = self._table.kappa.token_ms[choice.setting]
        return float(
            choice.expected.token_ms[choice.setting] * (kappa if math.isfinite(kappa) else 1.0) * self._slowness
        )

    def learn(self, *, measured_ms: float, expected_ms: float) -> None:
        """Let the pace learn from a request, if there is one."""
        if self._pace is not None:
            self._pace.update(measured_ms=measured_ms, expected_ms=expected_ms)

    def forget(self) -> None:
        """Let the pace begin anew, if there is one."""
        if self._pace is not None:
            self._pace.forget()

    @property
    def _slowness(self) -> float:
        return 1.0 if self._pace is None else self._pace.slowness

    def _outlook_of(self, vision_tokens_T: tuple[int, ...]) -> _Outlook:
        expected = None if self._table is None else self._table.expected(vision_tokens_T)
        if self._table is None or expected is None or not self._checks_time:
            never_S = np.full(self._num_settings, math.inf)
            return _Outlook(expected, -never_S, -never_S, never_S, never_S)
        kappa = self._table.kappa
        whole_ms_S = expected.total_ms * kappa.total_ms
        rest_ms_S = expected.total_ms - expected.first_token_ms + expected.prefill_ms
        whole_rest_ms_S = rest_ms_S * kappa.total_ms
        if not self._stops:
            return _Outlook(expected, whole_ms_S, whole_rest_ms_S, whole_ms_S, whole_rest_ms_S)
        first_token_ms_S = expected.first_token_ms * kappa.first_token_ms
        prefill_ms_S = expected.prefill_ms * kappa.prefill_ms
        return _Outlook(expected, first_token_ms_S, prefill_ms_S, whole_ms_S, whole_rest_ms_S)

    def _is_of(self, tier: int, setting: int) -> bool:
        return setting // self._per_tier == tier

    def _pick(
        self,
        known: Known,
        expected: Times | None,
        values_S: Vector,
        is_feasible_S: NDArray[np.bool_],
        *,
        is_whole: bool,
    ) -> Choice:
        """Take the full setting if its whole answer fits, else the most valued feasible setting.

        Where none is feasible, the cheapest that has a value is taken, flagged.
        """
        best = int(np.where(is_feasible_S, values_S, -np.inf).argmax())
        is_infeasible, is_overruled = not is_feasible_S[best], False
        if is_infeasible:
            assert expected is not None, "without expectations everything is feasible"
            best = int(np.where(np.isnan(values_S), np.inf, expected.total_ms).argmin())
        elif is_whole:
            assert self._full_setting is not None
            best, is_overruled = self._full_setting, True
        return Choice(
            setting=best,
            is_infeasible=is_infeasible,
            is_overruled=is_overruled,
            known=known,
            expected=expected,
            values_S=values_S,
            is_feasible_S=is_feasible_S,
        )
