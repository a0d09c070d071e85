"""From what a controller would like to what there is time for."""

# Shape suffixes: B = requests (one), S = settings, R = settings of a tier, D = width of the language model.

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.controllers.decider import Decider
from profiling.adaptive.online_features import Known
from profiling.controllers.outcomes import Array
from profiling.promises.latency_table import LatencyTable, Times

NUM_RUNNERS_UP = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What a request is to run with.

    Args:
        setting: Place in ``KnobGrid.settings``.
        is_infeasible: Whether no setting was expected in time, so that this is the cheapest one.
        known: What was known of the request.
        expected: Times of all settings for it, without margin; ``None`` without a latency table.
        values_S: ``(settings,)`` what the controller thought of each, last; NaN where it was not asked.
        is_feasible_S: ``(settings,)`` which of them there was time for.
    """

    setting: int
    is_infeasible: bool
    known: Known
    expected: Times | None
    values_S: Array
    is_feasible_S: NDArray[np.bool_]

    def runners_up(self) -> list[int]:
        """Return the settings next in line, best first."""
        allowed = self.is_feasible_S & np.isfinite(self.values_S)
        allowed[self.setting] = False
        order = np.argsort(-np.where(allowed, self.values_S, -np.inf), kind="stable")
        return [int(place) for place in order[: min(NUM_RUNNERS_UP, int(allowed.sum()))]]


class Chooser:
    """Let a controller choose among the settings that a bound on latency allows.

    With stopping between tokens, the first token must be expected in time; without, the last one of a usual answer.
    Where no setting is, the cheapest is chosen and flagged. ``decides_twice`` says whether the controller is to be
    asked again after the image.

    Args:
        decider: The controller.
        table: Expected times and kappas; without one every setting is allowed.
        stops_at_deadline: Whether answers are cut off at the deadline.
        checks_time: Whether the table rules settings out at all; without, the controller's word is law.

    Raises:
        ValueError: If table and controller are of different grids.
    """

    def __init__(
        self, decider: Decider, table: LatencyTable | None, *, stops_at_deadline: bool, checks_time: bool = True
    ) -> None:
        if table is not None and table.grid.settings() != decider.grid.settings():
            raise ValueError("promise: its latency table is of another grid of settings than the controller's")
        self._decider = decider
        self._table = table
        self._stops = stops_at_deadline
        self._checks_time = checks_time
        self._num_settings = len(decider.grid.settings())
        self._per_tier = self._num_settings // len(decider.grid.tiers)
        nothing = {kind: torch.zeros(1, width) for kind, width in decider.feature_widths.items()}
        asked = decider.after_image(
            torch.ones(1), torch.zeros(1, dtype=torch.int64), nothing["free"], nothing["question"], nothing["vision"]
        )
        self.decides_twice = asked is not None

    @property
    def reads_picture(self) -> bool:
        """Whether the second decision is to be shown the mean vision token."""
        return self.decides_twice and self._decider.feature_widths["vision"] > 0

    def tier_of(self, choice: Choice) -> int:
        """Return the place of the tier that was chosen."""
        return choice.setting // self._per_tier

    def before_image(self, known: Known, *, budget_ms: float, elapsed_ms: float) -> Choice:
        """Choose a setting, or only a tier, before the image is cut.

        Args:
            known: The request.
            budget_ms: From raw input to last token, margin taken off.
            elapsed_ms: What of it has passed.
        """
        logits_BS = self._decider.before_image(torch.tensor([budget_ms]), known.free_BF, known.question_BD)
        expected = None if self._table is None else self._table.expected(known.vision_tokens_T)
        bound_ms_S = self._bound_ms(expected, is_image_encoded=False)
        return _pick(
            Choice(
                setting=0,
                is_infeasible=False,
                known=known,
                expected=expected,
                values_S=logits_BS[0].double().numpy(),
                is_feasible_S=elapsed_ms + bound_ms_S <= budget_ms,
            ),
            np.arange(self._num_settings),
        )

    def after_image(self, choice: Choice, vision_BD: Tensor, *, remaining_ms: float) -> Choice:
        """Choose again within the tier, now that the image is encoded and the time that is left is known.

        Args:
            choice: What was chosen before.
            vision_BD: ``(1, width)`` mean vision token; width 0 where it is not read.
            remaining_ms: Budget, margin taken off, less what has passed.
        """
        tier = self.tier_of(choice)
        logits_BR = self._decider.after_image(
            torch.tensor([remaining_ms]),
            torch.tensor([tier]),
            choice.known.free_BF,
            choice.known.question_BD,
            vision_BD,
        )
        assert logits_BR is not None, "only a controller that decides twice is asked again"
        of_tier = np.arange(tier * self._per_tier, (tier + 1) * self._per_tier)
        values_S = np.full(self._num_settings, np.nan)
        values_S[of_tier] = logits_BR[0].double().numpy()
        is_feasible_S = np.zeros(self._num_settings, dtype=np.bool_)
        bound_ms_S = self._bound_ms(choice.expected, is_image_encoded=True)
        is_feasible_S[of_tier] = bound_ms_S[of_tier] <= remaining_ms
        return _pick(replace(choice, values_S=values_S, is_feasible_S=is_feasible_S), of_tier)

    def token_bound_ms(self, choice: Choice) -> float:
        """Return how long one more token of the chosen setting takes at most, as far as is known; 0 if nothing is."""
        if self._table is None or choice.expected is None:
            return 0.0
        kappa = self._table.kappa.token_ms[choice.setting]
        return float(choice.expected.token_ms[choice.setting] * (kappa if math.isfinite(kappa) else 1.0))

    def _bound_ms(self, expected: Times | None, *, is_image_encoded: bool) -> Array:
        """Return how long each setting takes at most until what must be in time is there."""
        if self._table is None or expected is None or not self._checks_time:
            return np.full(self._num_settings, -math.inf)
        kappa = self._table.kappa
        if self._stops:
            part = "prefill_ms" if is_image_encoded else "first_token_ms"
            bound_ms_S: Array = getattr(expected, part) * getattr(kappa, part)
            return bound_ms_S
        left_ms_S = expected.total_ms
        if is_image_encoded:
            left_ms_S = left_ms_S - expected.first_token_ms + expected.prefill_ms
        return left_ms_S * kappa.total_ms


def _pick(choice: Choice, among: NDArray[np.intp]) -> Choice:
    """Take the most valued feasible setting; where none is, the cheapest, flagged."""
    feasible = among[choice.is_feasible_S[among]]
    if len(feasible):
        best = feasible[int(np.argmax(choice.values_S[feasible]))]
        return replace(choice, setting=int(best), is_infeasible=False)
    assert choice.expected is not None, "without expectations everything is feasible"
    cheapest = among[int(np.argmin(choice.expected.total_ms[among]))]
    return replace(choice, setting=int(cheapest), is_infeasible=True)
