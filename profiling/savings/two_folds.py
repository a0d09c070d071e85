"""Settings chosen by kind of question, learned on one half of the pictures and judged on the other."""

# Shape suffixes: G = kinds of question, N = samples, S = settings.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Codes, Outcomes
from profiling.savings.kinds import Kinds
from profiling.savings.least_time import least_time
from profiling.splits import image_folds

_NUM_INNER_FOLDS: Final = 5
_FEWEST: Final = 16  # questions that teach what a kind needs
_MARGINS: Final = tuple(round(0.005 * step, 3) for step in range(21))  # of accuracy
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a half of the pictures taught.

    Args:
        static: The setting that every question would get.
        by_kind: The setting of each kind; that of others is the static one.
        margin: Accuracy that was asked for beyond the static setting's, since choices flatter themselves; none where
            no margin was enough, and all kinds keep the static setting.
    """

    static: int
    by_kind: Mapping[str, int]
    margin: float | None

    def choose(self, kind_N: Kinds) -> Codes:
        """Choose for questions: ``(samples,)`` settings."""
        return np.asarray([self.by_kind.get(kind, self.static) for kind in kind_N.tolist()], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoFolds:
    """What was chosen for every question by what the other half taught.

    Args:
        lessons: Of each half.
        static_N: ``(samples,)`` the static setting.
        chosen_N: ``(samples,)`` the setting by kind.
    """

    lessons: tuple[Lesson, Lesson]
    static_N: Codes
    chosen_N: Codes


def choose_in_two_folds(outcomes: Outcomes, kind_N: Kinds, *, slack: float, seed: int) -> TwoFolds:
    """Learn on each half of the pictures, and choose for the other.

    Args:
        outcomes: Every question at every setting.
        kind_N: ``(samples,)`` kinds.
        slack: Accuracy that the static setting may stay behind the most accurate one.
        seed: Of the halves.

    Raises:
        ValueError: If there are fewer pictures than folds.
    """
    static_N, chosen_N = np.empty((2, len(outcomes)), dtype=np.int64)
    lessons = []
    for is_asked_N in image_folds(outcomes.samples["image_id"].tolist(), 2, seed=seed):
        taught = outcomes.take(~is_asked_N)
        margin = _margin(taught, kind_N[~is_asked_N], slack=slack, seed=seed)
        lesson = learn(taught, kind_N[~is_asked_N], slack=slack, margin=margin)
        static_N[is_asked_N] = lesson.static
        chosen_N[is_asked_N] = lesson.choose(kind_N[is_asked_N])
        lessons.append(lesson)
    return TwoFolds(lessons=(lessons[0], lessons[1]), static_N=static_N, chosen_N=chosen_N)


def learn(outcomes: Outcomes, kind_N: Kinds, *, slack: float, margin: float | None) -> Lesson:
    """Find the best static setting, and the settings by kind that are as accurate together in the least time.

    Args:
        outcomes: Every question at every setting.
        kind_N: ``(samples,)`` kinds.
        slack: Accuracy that the static setting may stay behind the most accurate one.
        margin: Accuracy to ask for beyond the static setting's; none gives every kind the static setting.
    """
    static = best_static(outcomes, slack=slack)
    kinds, place_N, counts_G = np.unique(kind_N, return_inverse=True, return_counts=True)
    known_G = np.flatnonzero(counts_G >= _FEWEST)
    if margin is None or len(known_G) == 0:
        return Lesson(static=static, by_kind={}, margin=margin)
    members = [place_N == place for place in known_G]
    time_ms_GS = np.stack([np.median(outcomes.latency_ms_NS[member_N], axis=0) for member_N in members])
    accuracy_GS = np.stack([outcomes.accuracy_NS[member_N].mean(axis=0) for member_N in members])
    weight_G = counts_G[known_G].astype(np.float64)
    target = float(weight_G @ accuracy_GS[:, static] / weight_G.sum()) + margin
    chosen_G = least_time(time_ms_GS, accuracy_GS, weight_G, target=target)
    by_kind = dict(zip(kinds[known_G].tolist(), chosen_G.tolist(), strict=True))
    return Lesson(static=static, by_kind=by_kind, margin=margin)


def best_static(outcomes: Outcomes, *, slack: float) -> int:
    """Return the fastest of the settings whose accuracy is the best there is, or stays behind it by the slack."""
    accuracy_S = outcomes.accuracy_NS.mean(axis=0)
    median_ms_S = np.median(outcomes.latency_ms_NS, axis=0)
    is_good_S = accuracy_S >= accuracy_S.max() - slack - _ROUNDING
    return int(np.where(is_good_S, median_ms_S, np.inf).argmin())


def _margin(outcomes: Outcomes, kind_N: Kinds, *, slack: float, seed: int) -> float | None:
    """Return the least margin with which choices are as accurate as the static setting on pictures they were not for.

    The best of many settings looks better where it was chosen than it is. None if no margin is enough.
    """
    image_ids = outcomes.samples["image_id"].tolist()
    folds = [
        (is_asked_N, outcomes.take(~is_asked_N), outcomes.accuracy_NS[is_asked_N])
        for is_asked_N in image_folds(image_ids, _NUM_INNER_FOLDS, seed=seed)
    ]
    for margin in _MARGINS:
        gained = 0.0
        for is_asked_N, taught, accuracy_NS in folds:
            lesson = learn(taught, kind_N[~is_asked_N], slack=slack, margin=margin)
            chosen_N = lesson.choose(kind_N[is_asked_N])
            gained += float((accuracy_NS[np.arange(len(chosen_N)), chosen_N] - accuracy_NS[:, lesson.static]).sum())
        if gained >= 0:
            return margin
    return None
