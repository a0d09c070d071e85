"""Settings chosen by kind of question, learned on one half of the pictures and judged on the other."""

# Shape suffixes: N = samples, S = settings.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes
from profiling.savings.kinds import Kinds
from profiling.savings.needs import Needs, choose, learn_needs
from profiling.splits import image_folds

_NUM_INNER_FOLDS: Final = 5
_MARGINS: Final = tuple(round(0.005 * step, 3) for step in range(21))  # of accuracy


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a half of the pictures taught.

    Args:
        static: The setting that every question would get.
        by_kind: The setting of each kind; that of others is the static one.
        margin: Accuracy that was asked for beyond the static setting's; none where no margin was enough, and all kinds
            keep the static setting.
    """

    static: int
    by_kind: dict[str, int]
    margin: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoFolds:
    """What was chosen for every question by what the other half taught.

    Args:
        slack: Accuracy that the static setting may stay behind the most accurate one.
        lessons: Of each half.
        static_N: ``(samples,)`` the static setting.
        chosen_N: ``(samples,)`` the setting by kind.
    """

    slack: float
    lessons: tuple[Lesson, ...]
    static_N: Codes
    chosen_N: Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """What other pictures teach, and the questions to choose for."""

    needs: Needs
    is_asked_N: Mask
    kind_N: Kinds
    accuracy_NS: Array

    def gained(self, slack: float, margin: float) -> float:
        """Return how many more answers are right than with the static setting."""
        static = self.needs.best_static(slack)
        chosen_N = choose(self.needs.by_kind(static, margin), static, self.kind_N)
        chosen_accuracy_N = self.accuracy_NS[np.arange(len(chosen_N)), chosen_N]
        return float((chosen_accuracy_N - self.accuracy_NS[:, static]).sum())


def choose_in_two_folds(outcomes: Outcomes, kind_N: Kinds, *, slacks: Sequence[float], seed: int) -> list[TwoFolds]:
    """Learn on each half of the pictures, and choose for the other, for each slack of the static setting.

    Args:
        outcomes: Every question at every setting.
        kind_N: ``(samples,)`` kinds.
        slacks: Accuracy that the static setting may stay behind the most accurate one.
        seed: Of the halves.

    Raises:
        ValueError: If there are fewer pictures than folds.
    """
    halves = []
    for half in _folds(outcomes, kind_N, 2, seed=seed):
        taught = outcomes.take(~half.is_asked_N)
        inner = list(_folds(taught, kind_N[~half.is_asked_N], _NUM_INNER_FOLDS, seed=seed))
        halves.append((half, [_learn(half.needs, inner, slack) for slack in slacks]))
    found = []
    for place, slack in enumerate(slacks):
        static_N, chosen_N = np.empty((2, len(outcomes)), dtype=np.int64)
        for half, lessons in halves:
            static_N[half.is_asked_N] = lessons[place].static
            chosen_N[half.is_asked_N] = choose(lessons[place].by_kind, lessons[place].static, half.kind_N)
        both = tuple(lessons[place] for _, lessons in halves)
        found.append(TwoFolds(slack=slack, lessons=both, static_N=static_N, chosen_N=chosen_N))
    return found


def _folds(outcomes: Outcomes, kind_N: Kinds, num_folds: int, *, seed: int) -> Iterator[_Fold]:
    for is_asked_N in image_folds(outcomes.samples["image_id"].tolist(), num_folds, seed=seed):
        yield _Fold(
            needs=learn_needs(outcomes.take(~is_asked_N), kind_N[~is_asked_N]),
            is_asked_N=is_asked_N,
            kind_N=kind_N[is_asked_N],
            accuracy_NS=outcomes.accuracy_NS[is_asked_N],
        )


def _learn(needs: Needs, inner: Sequence[_Fold], slack: float) -> Lesson:
    """Choose by the least margin with which choices within the half cost nothing on pictures they were not for.

    The best of many settings looks better where it was chosen than it is.
    """
    static = needs.best_static(slack)
    for margin in _MARGINS:
        if sum(fold.gained(slack, margin) for fold in inner) >= 0:
            return Lesson(static=static, by_kind=needs.by_kind(static, margin), margin=margin)
    return Lesson(static=static, by_kind={}, margin=None)
