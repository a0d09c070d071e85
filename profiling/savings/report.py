"""What choosing by what is asked saves: times and accuracies beside the static setting's, with their intervals."""

# Shape suffixes: N = samples, R = resamplings, I = images.

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiling.controllers.outcomes import Array, Codes, Outcomes
from profiling.markup import Table
from profiling.resampling import Interval, percentile_interval, resampled_counts
from profiling.savings.medians import weighted_medians
from profiling.savings.two_folds import TwoFolds

_HOW: Final = (
    "Choices are learned on one half of the pictures and judged on the other, and so is the static setting: the "
    "fastest one whose accuracy stays behind the best one's by no more than the slack. Each question gets the setting "
    "whose expected latency is least if a right answer may take a certain time; that price of accuracy is the least at "
    "which choices cost none in five folds within the half. Where none is, or nothing is saved, the static setting "
    "stays. The oracle knows answers and times of the very questions and reaches the static setting's accuracy in the "
    "least mean time: an upper bound, which no chooser can reach. Latency: from raw input to last token; the choice "
    "itself is not counted. All is averaged over halvings; intervals over images by bootstrap, choices held fixed."
)


@dataclass(frozen=True, kw_only=True)
class Saving:
    """One way to choose, beside a static setting, on the same questions; on average over halvings.

    Args:
        policy: The way to choose.
        slack: Accuracy that the static setting may stay behind the most accurate one.
        static_settings: The static settings of all halves, as words.
        static_median_ms: Median latency of the static setting.
        median_ms: Median latency of the policy.
        static_accuracy: Mean accuracy of the static setting.
        accuracy: Mean accuracy of the policy.
        median_saved: Share of the median latency that is saved; 95 % intervals are over images.
        mean_saved: Share of the mean latency that is saved.
        accuracy_gained: Mean accuracy minus the static setting's.
    """

    policy: str
    slack: float
    static_settings: tuple[str, ...]
    static_median_ms: float
    median_ms: float
    static_accuracy: float
    accuracy: float
    median_saved: Interval
    mean_saved: Interval
    accuracy_gained: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the saving as a file says it."""
        return asdict(self)


def measure_saving(
    outcomes: Outcomes, halvings: Sequence[TwoFolds], chosen: Sequence[Codes], *, policy: str, seed: int
) -> Saving:
    """Judge choices beside the static ones, on average over halvings.

    Args:
        outcomes: Every question at every setting.
        halvings: Know the static settings; all of one slack.
        chosen: ``(samples,)`` what was chosen, for each of them.
        policy: The way to choose.
        seed: Of the resamplings.
    """
    # The first row is the questions as they are.
    asked_N = np.ones((1, len(outcomes)), dtype=np.int64)
    counts_RN = np.concatenate([asked_N, _image_counts(outcomes, seed=seed)])
    static = [_reached(outcomes, halving.static_N, counts_RN) for halving in halvings]
    reached = [_reached(outcomes, chosen_N, counts_RN) for chosen_N in chosen]
    pairs = list(zip(reached, static, strict=True))
    places = np.unique([halving.static_N for halving in halvings])
    return Saving(
        policy=policy,
        slack=halvings[0].slack,
        static_settings=tuple(setting_words(outcomes, int(place)) for place in places),
        static_median_ms=float(_average([one.median_ms_R for one in static])[0]),
        median_ms=float(_average([one.median_ms_R for one in reached])[0]),
        static_accuracy=float(_average([one.accuracy_R for one in static])[0]),
        accuracy=float(_average([one.accuracy_R for one in reached])[0]),
        median_saved=_interval(_average([1 - one.median_ms_R / other.median_ms_R for one, other in pairs])),
        mean_saved=_interval(_average([1 - one.mean_ms_R / other.mean_ms_R for one, other in pairs])),
        accuracy_gained=_interval(_average([one.accuracy_R - other.accuracy_R for one, other in pairs])),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reached:
    """What choices reached: ``(resamplings,)`` each."""

    median_ms_R: Array
    mean_ms_R: Array
    accuracy_R: Array


def _reached(outcomes: Outcomes, chosen_N: Codes, counts_RN: NDArray[np.int64]) -> _Reached:
    rows = np.arange(len(outcomes))
    ms_N = outcomes.latency_ms_NS[rows, chosen_N]
    num_R = counts_RN.sum(axis=1)
    return _Reached(
        median_ms_R=weighted_medians(ms_N[:, None], counts_RN)[:, 0],
        mean_ms_R=counts_RN @ ms_N / num_R,
        accuracy_R=counts_RN @ outcomes.accuracy_NS[rows, chosen_N] / num_R,
    )


def _average(values: Sequence[Array]) -> Array:
    means_R: Array = np.mean(values, axis=0)
    return means_R


def setting_words(outcomes: Outcomes, place: int) -> str:
    """Name a setting as the commands take it: tier, top_k, number of blocks."""
    setting = outcomes.settings[place]
    return f"{setting.tier}/{setting.top_k}/{setting.num_active_blocks}"


def savings_table(savings: Sequence[Saving], *, subject: str) -> Table:
    """Return the table of all comparisons."""
    columns = ("slack", "policy", "static setting", "median ms", "accuracy", "median saved [95 %]", "mean saved [95 %]")
    return Table(
        columns=(*columns, "accuracy gained [95 %]"),
        rows=tuple(
            (
                f"{saving.slack:g}",
                saving.policy,
                ", ".join(saving.static_settings),
                f"{saving.static_median_ms:.1f} -> {saving.median_ms:.1f}",
                f"{saving.static_accuracy:.3f} -> {saving.accuracy:.3f}",
                _percent(saving.median_saved),
                _percent(saving.mean_saved),
                saving.accuracy_gained.signed(),
            )
            for saving in savings
        ),
        caption=f"{subject}. {_HOW}",
    )


def summary(table: Table) -> Table:
    """Return the table without its intervals and static settings, narrow enough for a screen."""
    return table.narrowed([column for column in table.columns if column != "static setting"])


def _image_counts(outcomes: Outcomes, *, seed: int) -> NDArray[np.int64]:
    """Resample images, and count how often each of their questions came: ``(resamplings, samples)``."""
    images, image_N = np.unique(outcomes.samples["image_id"].tolist(), return_inverse=True)
    counts_RN: NDArray[np.int64] = resampled_counts(len(images), seed=seed)[:, image_N]
    return counts_RN


def _interval(values_R: Array) -> Interval:
    interval = percentile_interval(float(values_R[0]), values_R[1:])
    assert interval is not None, "profiles hold finite values only"
    return interval


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
