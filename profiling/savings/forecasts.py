"""What every setting would come to for questions not asked yet, as other questions tell it."""

# Shape suffixes: N = samples asked about, M = samples that teach, G = kinds of question, S = settings, F = numbers.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from profiling.controllers.features import Features
from profiling.controllers.outcomes import Array, Mask, Outcomes
from profiling.controllers.requests import Requests
from profiling.savings.kinds import Kinds, KindsOf, by_family, by_words
from profiling.savings.medians import weighted_medians
from profiling.savings.questions import Questions

_FEWEST: Final = 16  # questions that teach what a kind needs
_PENALTIES: Final = np.logspace(0, 5, 11)


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """What is expected.

    Args:
        accuracy_NS: ``(samples, settings)``.
        latency_ms_NS: ``(samples, settings)``.
    """

    accuracy_NS: Array
    latency_ms_NS: Array


Forecaster = Callable[[Requests], Forecast]
Teaching = Callable[[Questions], Forecaster]
"""Makes a forecaster of questions whose outcomes are known."""


def by_kind(kinds_of: KindsOf) -> Teaching:
    """Expect of each question what others of its kind came to: mean accuracy, smoothed, and median latency.

    Kinds that few questions teach are expected to be as all questions are.
    """

    def teach(taught: Questions) -> Forecaster:
        kind_M = kinds_of(taught.requests)
        kinds, counts = np.unique(kind_M, return_counts=True)
        members = {kind: np.flatnonzero(kind_M == kind) for kind in kinds[counts >= _FEWEST].tolist()}
        groups = [*members.values(), np.arange(len(kind_M))]
        accuracy_GS, latency_ms_GS = (
            np.stack(rows) for rows in zip(*(_means(taught.take(group)) for group in groups), strict=True)
        )
        accuracy_GS = rising(accuracy_GS, _has_no_more(taught.requests.outcomes))
        place_of = {kind: place for place, kind in enumerate(members)}

        def forecast(asked: Requests) -> Forecast:
            places = _places(kinds_of(asked), place_of)
            return Forecast(accuracy_NS=accuracy_GS[places], latency_ms_NS=latency_ms_GS[places])

        return forecast

    return teach


def by_question(taught: Questions) -> Forecaster:
    """Expect what linear models of words, sizes and, where it is known, the overview say of the very question."""
    known_MF, outcomes = _known(taught.requests.features), taught.requests.outcomes
    accuracy = _fitted(known_MF, outcomes.accuracy_NS, taught.weight_N)
    log_latency = _fitted(known_MF, np.log(outcomes.latency_ms_NS), taught.weight_N)

    def forecast(asked: Requests) -> Forecast:
        known_NF = _known(asked.features)
        return Forecast(
            accuracy_NS=np.asarray(accuracy.predict(known_NF)),
            latency_ms_NS=np.exp(np.asarray(log_latency.predict(known_NF))),
        )

    return forecast


TEACHINGS: Final[Mapping[str, Teaching]] = {
    "by family": by_kind(by_family),
    "by words": by_kind(by_words),
    "by question": by_question,
}


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


def _means(group: Questions) -> tuple[Array, Array]:
    outcomes = group.requests.outcomes
    mean_S: Array = group.weight_N @ outcomes.accuracy_NS / group.weight_N.sum()
    return mean_S, weighted_medians(outcomes.latency_ms_NS, group.weight_N[None])[0]


def _places(kind_N: Kinds, place_of: Mapping[str, int]) -> list[int]:
    """Return the row of each question's kind; the last one is for kinds that are not known."""
    return [place_of.get(kind, len(place_of)) for kind in kind_N.tolist()]


def _known(features: Features) -> Array:
    return np.column_stack(
        [features.free_NF, features.question_ND.astype(np.float64), features.glance_ND.astype(np.float64)]
    )


def _fitted(known_MF: Array, values_MS: Array, weight_M: Array) -> Pipeline:
    model = Pipeline([("scale", StandardScaler()), ("ridge", RidgeCV(alphas=_PENALTIES))])
    return model.fit(known_MF, values_MS, ridge__sample_weight=weight_M)


def _has_no_more(outcomes: Outcomes) -> Mask:
    tiers = [tier.name for tier in outcomes.grid.tiers]
    level_SK = np.asarray([(tiers.index(s.tier), s.top_k, s.num_active_blocks) for s in outcomes.settings])
    return np.asarray((level_SK[None] <= level_SK[:, None]).all(axis=2))
