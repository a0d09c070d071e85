"""Settings chosen for each question, learned on one half of the pictures and judged on the other."""

# Shape suffixes: N = samples, S = settings, X = slacks.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Array, Codes
from profiling.controllers.requests import Requests
from profiling.savings.forecasts import Forecast, Teaching
from profiling.savings.medians import weighted_medians
from profiling.savings.prices import choose
from profiling.savings.questions import Questions, questions_of
from profiling.splits import image_folds

_NUM_INNER_FOLDS: Final = 5
_PRICES_MS: Final = np.geomspace(10, 1e5, 81).tolist()
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a half of the pictures taught.

    Args:
        static: The setting that every question would get.
        price_ms: Milliseconds that a right answer may take; none where no price was high enough, and all questions keep
            the static setting.
    """

    static: int
    price_ms: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoFolds:
    """What was chosen for every question by what the other half taught.

    Args:
        slack: Accuracy that the static setting may stay behind the most accurate one.
        lessons: Of each half.
        static_N: ``(samples,)`` the static setting.
        chosen_N: ``(samples,)`` the setting of each question.
    """

    slack: float
    lessons: tuple[Lesson, ...]
    static_N: Codes
    chosen_N: Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """How settings stand if all questions get the same.

    Args:
        accuracy_S: ``(settings,)`` mean.
        median_ms_S: ``(settings,)`` median latency.
    """

    accuracy_S: Array
    median_ms_S: Array

    def best_static(self, slack: float) -> int:
        """Return the fastest of the settings whose accuracy is the best there is, or behind it by at most the slack."""
        is_good_S = self.accuracy_S >= self.accuracy_S.max() - slack - _ROUNDING
        return int(np.where(is_good_S, self.median_ms_S, np.inf).argmin())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """What other pictures tell of some questions, and of settings for all."""

    asked: Questions
    forecast: Forecast
    standing: Standing


def standing_of(questions: Questions) -> Standing:
    """Average all questions."""
    outcomes, weight_N = questions.requests.outcomes, questions.weight_N
    return Standing(
        accuracy_S=weight_N @ outcomes.accuracy_NS / weight_N.sum(),
        median_ms_S=weighted_medians(outcomes.latency_ms_NS, weight_N[None])[0],
    )


def choose_in_two_folds(
    measured: Requests, answered: Requests | None, teach: Teaching, *, slacks: Sequence[float], seed: int
) -> list[TwoFolds]:
    """Learn on each half of the pictures, and choose for the other, for each slack of the static setting.

    Args:
        measured: Every question at every setting.
        answered: Questions about other pictures, answered but not timed, which teach beside either half.
        teach: How to forecast.
        slacks: Accuracy that the static setting may stay behind the most accurate one.
        seed: Of the halves and of borrowed times.

    Raises:
        ValueError: If there are fewer pictures than folds.
    """
    static_XN, chosen_XN = np.empty((2, len(slacks), len(measured)), dtype=np.int64)
    lessons: list[list[Lesson]] = [[] for _ in slacks]
    for is_asked_N in image_folds(measured.image_ids, 2, seed=seed):
        taught = questions_of(measured.take(~is_asked_N))
        taught = taught if answered is None else taught.beside(answered, seed=seed)
        standing, inner = standing_of(taught), _inner_folds(taught, teach, seed=seed)
        forecast = teach(taught)(measured.take(is_asked_N))
        for place, slack in enumerate(slacks):
            lesson = Lesson(static=standing.best_static(slack), price_ms=_least_price_ms(inner, slack))
            lessons[place].append(lesson)
            static_XN[place, is_asked_N] = lesson.static
            chosen_XN[place, is_asked_N] = _choose(forecast, lesson)
    return [
        TwoFolds(slack=slack, lessons=tuple(lessons[place]), static_N=static_XN[place], chosen_N=chosen_XN[place])
        for place, slack in enumerate(slacks)
    ]


def _inner_folds(taught: Questions, teach: Teaching, *, seed: int) -> list[_Fold]:
    found = []
    for is_asked_N in image_folds(taught.requests.image_ids, _NUM_INNER_FOLDS, seed=seed):
        others, asked = taught.take(~is_asked_N), taught.take(is_asked_N)
        found.append(_Fold(asked=asked, forecast=teach(others)(asked.requests), standing=standing_of(others)))
    return found


def _least_price_ms(inner: Sequence[_Fold], slack: float) -> float | None:
    """Find the least price at which choices within the half cost no accuracy on pictures they were not for.

    Returns:
        ``None`` if all do, or if none that does not is faster than the static settings.
    """
    for price_ms in _PRICES_MS:
        more_right, more_ms = np.sum([_against_static(fold, slack, price_ms) for fold in inner], axis=0)
        if more_right >= -_ROUNDING:
            return float(price_ms) if more_ms < 0 else None
    return None


def _against_static(fold: _Fold, slack: float, price_ms: float) -> tuple[float, float]:
    """Return how many more answers are right than with the static setting, and how many more milliseconds they take."""
    outcomes, static = fold.asked.requests.outcomes, fold.standing.best_static(slack)
    chosen_N = _choose(fold.forecast, Lesson(static=static, price_ms=price_ms))
    rows = np.arange(len(chosen_N))
    more_right_N, more_ms_N = (
        values_NS[rows, chosen_N] - values_NS[:, static] for values_NS in (outcomes.accuracy_NS, outcomes.latency_ms_NS)
    )
    return float(fold.asked.weight_N @ more_right_N), float(fold.asked.weight_N @ more_ms_N)


def _choose(forecast: Forecast, lesson: Lesson) -> Codes:
    if lesson.price_ms is None:
        return np.full(len(forecast.accuracy_NS), lesson.static)
    return choose(forecast.latency_ms_NS, forecast.accuracy_NS, lesson.price_ms)
