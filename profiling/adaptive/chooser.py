"""From what a controller would like to what there is time for."""

# Shape suffixes: S = settings.

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from models.controllers import LLMBased, RequestDecider, Vector
from profiling.adaptive.online_features import Known
from profiling.adaptive.pace import Pace
from profiling.controllers.outcomes import Array
from profiling.promises.latency_table import LatencyTable, Times

NUM_RUNNERS_UP = 4


class Choice(NamedTuple):
    """What a request is to run with.

    Args:
        setting: Place in ``KnobGrid.settings``.
        is_infeasible: Whether no setting was expected in time, so that this is the cheapest one.
        is_overruled: Whether there was time for the full setting, whatever the controller thought.
        known: What was known of the request.
        expected: Times of all settings for it, without margin; ``None`` without a latency table.
        values_S: ``(settings,)`` what the controller thought of each, last; -inf where it was not asked.
        bound_ms_S: ``(settings,)`` how long each takes at most; infinite where the controller was not asked.
        left_ms: The time there was.
    """

    setting: int
    is_infeasible: bool
    is_overruled: bool
    known: Known
    expected: Times | None
    values_S: Vector
    bound_ms_S: Array
    left_ms: float

    def runners_up(self) -> list[int]:
        """Return the settings next in line, best first."""
        allowed = (self.bound_ms_S <= self.left_ms) & np.isfinite(self.values_S)
        allowed[self.setting] = False
        order = np.argsort(-np.where(allowed, self.values_S, -np.inf), kind="stable")
        return [int(place) for place in order[: min(NUM_RUNNERS_UP, int(allowed.sum()))]]


class _Options(NamedTuple):
    """What a decision is among, for all requests with the same vision tokens.

    Args:
        expected: Times of all settings; ``None`` without a latency table.
        bound_ms_S: ``(settings,)`` how long each takes at most until what must be in time is there; infinite for those
            that were decided against before.
        whole_ms: How long the full setting takes at most for a whole answer of the usual length; infinite if it is none
            of them.
        cheapest: Place of the one that takes least for such an answer.
    """

    expected: Times | None
    bound_ms_S: Array
    whole_ms: float
    cheapest: int


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
        self._no_values_S = np.full(self._num_settings, -np.inf, dtype=np.float32)
        self._per_tier = self._num_settings // len(decider.grid.tiers)
        # Numbers of vision tokens follow from tilings, of which there are few: what follows from them is kept.
        self._options = lru_cache(maxsize=None)(self._options_of)

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
        options = self._options(known.vision_tokens_T)
        return self._pick(known, options, values_S, left_ms=(budget_ms - elapsed_ms) / slowness)

    def after_image(self, choice: Choice, shown: Vector, *, remaining_ms: float) -> Choice:
        """Choose again within the tier, now that the image is encoded and the time that is left is known.

        A request for which nothing was feasible before stays flagged.

        Args:
            choice: What was chosen before.
            shown: ``(width,)`` mean vision token, or the budget token's state; width 0 where it is not read.
            remaining_ms: Budget, margin taken off, less what has passed.
        """
        tier, known, left_ms = self.tier_of(choice), choice.known, remaining_ms / self._slowness
        values_S = self._no_values_S.copy()
        values_S[tier * self._per_tier : (tier + 1) * self._per_tier] = self._decider.after_image(
            left_ms / self._scale, tier, known.features, shown
        )
        again = self._pick(known, self._options(known.vision_tokens_T, tier), values_S, left_ms=left_ms)
        return again._replace(is_infeasible=True) if choice.is_infeasible else again

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

    def _options_of(self, vision_tokens_T: tuple[int, ...], tier: int | None = None) -> _Options:
        """Return what there is to choose among: all settings, or, once the image is encoded, those of its tier."""
        is_option_S = np.ones(self._num_settings, dtype=np.bool_)
        if tier is not None:
            is_option_S = np.arange(self._num_settings) // self._per_tier == tier
        expected = None if self._table is None else self._table.expected(vision_tokens_T)
        if self._table is None or expected is None or not self._checks_time:
            bound_ms_S = np.where(is_option_S, -math.inf, math.inf)
            return _Options(expected, bound_ms_S, whole_ms=math.inf, cheapest=int(is_option_S.argmax()))
        bound_ms_S, whole_ms_S = self._bounds_ms(expected, self._table.kappa, is_encoded=tier is not None)
        full = self._full_setting
        return _Options(
            expected,
            np.where(is_option_S, bound_ms_S, math.inf),
            whole_ms=math.inf if full is None or not is_option_S[full] else float(whole_ms_S[full]),
            cheapest=int(np.where(is_option_S, expected.total_ms, math.inf).argmin()),
        )

    def _bounds_ms(self, expected: Times, kappa: Times, *, is_encoded: bool) -> tuple[Array, Array]:
        """Return how long each setting takes at most until what must be in time is there, and for a whole answer."""
        whole_ms_S = expected.total_ms
        until_ms_S = expected.first_token_ms * kappa.first_token_ms
        if is_encoded:
            whole_ms_S = expected.total_ms - expected.first_token_ms + expected.prefill_ms
            until_ms_S = expected.prefill_ms * kappa.prefill_ms
        whole_ms_S = whole_ms_S * kappa.total_ms
        return until_ms_S if self._stops else whole_ms_S, whole_ms_S

    def _pick(self, known: Known, options: _Options, values_S: Vector, *, left_ms: float) -> Choice:
        """Take the full setting if its whole answer fits, else the most valued feasible setting.

        Where none is feasible, the cheapest is taken, flagged.
        """
        bound_ms_S = options.bound_ms_S
        setting, is_overruled = int(values_S.argmax()), False
        if not bound_ms_S.item(setting) <= left_ms:  # mostly it is, and then the others need not be looked at
            setting = int(np.where(bound_ms_S <= left_ms, values_S, -np.inf).argmax())
        is_infeasible = not bound_ms_S.item(setting) <= left_ms
        if is_infeasible:
            setting = options.cheapest
        elif options.whole_ms <= left_ms:
            assert self._full_setting is not None
            setting, is_overruled = self._full_setting, True
        return Choice(setting, is_infeasible, is_overruled, known, options.expected, values_S, bound_ms_S, left_ms)
