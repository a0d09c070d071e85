"""What each kind of question needs: the time and the accuracy of every setting, as some pictures tell them."""

# Shape suffixes: G = kinds of question, N = samples, S = settings, K = knobs.

from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes
from profiling.savings.kinds import Kinds
from profiling.savings.least_time import least_time

_FEWEST: Final = 16  # questions that teach what a kind needs
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Needs:
    """What some questions taught.

    Args:
        accuracy_S: ``(settings,)`` mean over all questions.
        median_ms_S: ``(settings,)`` median latency over all questions.
        kinds: Kinds of enough questions.
        weight_G: ``(kinds,)`` how many questions each had.
        accuracy_GS: ``(kinds, settings)`` mean accuracy, smoothed.
        median_ms_GS: ``(kinds, settings)`` median latency.
    """

    accuracy_S: Array
    median_ms_S: Array
    kinds: list[str]
    weight_G: Array
    accuracy_GS: Array
    median_ms_GS: Array

    def best_static(self, slack: float) -> int:
        """Return the fastest of the settings whose accuracy is the best there is, or behind it by at most the slack."""
        is_good_S = self.accuracy_S >= self.accuracy_S.max() - slack - _ROUNDING
        return int(np.where(is_good_S, self.median_ms_S, np.inf).argmin())

    def by_kind(self, static: int, margin: float) -> dict[str, int]:
        """Choose a setting for each kind: the least time that beats the static setting's accuracy by the margin.

        Returns:
            Settings by kind; none where the static one would not take more time.
        """
        if not self.kinds:
            return {}
        target = float(self.weight_G @ self.accuracy_GS[:, static] / self.weight_G.sum()) + margin
        chosen_G = least_time(self.median_ms_GS, self.accuracy_GS, self.weight_G, target=target)
        chosen_ms_G = self.median_ms_GS[np.arange(len(chosen_G)), chosen_G]
        if self.weight_G @ chosen_ms_G >= self.weight_G @ self.median_ms_GS[:, static]:
            return {}
        return dict(zip(self.kinds, chosen_G.tolist(), strict=True))


def learn_needs(outcomes: Outcomes, kind_N: Kinds) -> Needs:
    """Average questions by kind, and over all of them.

    Args:
        outcomes: Every question at every setting.
        kind_N: ``(samples,)`` kinds; those of few questions are left out.
    """
    kinds, place_N, counts_G = np.unique(kind_N, return_inverse=True, return_counts=True)
    known_G = np.flatnonzero(counts_G >= _FEWEST)
    rows = [np.flatnonzero(place_N == place) for place in known_G]
    shape = (len(known_G), len(outcomes.settings))
    accuracy_GS = np.asarray([outcomes.accuracy_NS[row].mean(axis=0) for row in rows]).reshape(shape)
    median_ms_GS = np.asarray([np.median(outcomes.latency_ms_NS[row], axis=0) for row in rows]).reshape(shape)
    return Needs(
        accuracy_S=outcomes.accuracy_NS.mean(axis=0),
        median_ms_S=np.median(outcomes.latency_ms_NS, axis=0),
        kinds=kinds[known_G].tolist(),
        weight_G=counts_G[known_G].astype(np.float64),
        accuracy_GS=rising(accuracy_GS, _has_no_more(outcomes)),
        median_ms_GS=median_ms_GS,
    )


def rising(accuracy_GS: Array, has_no_more_SS: Mask) -> Array:
    """Smooth accuracies so that more of a knob is never less accurate, which takes most of the luck out.

    A setting gets the mean of the most accurate one that has no more of any knob, and the least accurate one that has
    no less.

    Args:
        accuracy_GS: ``(kinds, settings)``.
        has_no_more_SS: ``(settings, settings)``: whether the second has no more of any knob than the first.
    """
    most_GS = np.where(has_no_more_SS, accuracy_GS[:, None], -np.inf).max(axis=2)
    least_GS = np.where(has_no_more_SS.T, accuracy_GS[:, None], np.inf).min(axis=2)
    smoothed_GS: Array = (most_GS + least_GS) / 2
    return smoothed_GS


def choose(by_kind: dict[str, int], static: int, kind_N: Kinds) -> Codes:
    """Choose for questions: ``(samples,)`` settings; kinds that nothing is known of get the static one."""
    return np.asarray([by_kind.get(kind, static) for kind in kind_N.tolist()], dtype=np.int64)


def _has_no_more(outcomes: Outcomes) -> Mask:
    tiers = [tier.name for tier in outcomes.grid.tiers]
    level_SK = np.asarray([(tiers.index(s.tier), s.top_k, s.num_active_blocks) for s in outcomes.settings])
    return np.asarray((level_SK[None] <= level_SK[:, None]).all(axis=2))
