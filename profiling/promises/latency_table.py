"""How long every setting is expected to take, and what that is to be multiplied with to be sure."""

# Shape suffixes: N = samples, S = settings, T = tiers, R = settings of a tier.

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

import numpy as np

from models.knobs import KnobGrid, own_grid
from profiling.controllers.outcomes import Array, Outcomes
from profiling.promises.conformal import conformal_quantile, needed_scores

PARTS: Final = ("first_token_ms", "prefill_ms", "token_ms", "total_ms")


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Milliseconds of each setting.

    Args:
        first_token_ms: ``(settings,)`` from raw input to the first token.
        prefill_ms: ``(settings,)`` from the vision tokens to the first token.
        token_ms: ``(settings,)`` of a decode step.
        total_ms: ``(settings,)`` from raw input to the last token of a usual answer.
    """

    first_token_ms: Array
    prefill_ms: Array
    token_ms: Array
    total_ms: Array

    def scaled(self, factors: "Times") -> "Times":
        """Multiply part by part."""
        return Times(**{name: getattr(self, name) * getattr(factors, name) for name in PARTS})


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyTable:
    """Expected times by setting and number of vision tokens, which follows from the picture's size.

    Args:
        grid: The settings.
        by_tokens: Times of a tier's settings, ``(settings of the tier,)``, for each number of vision tokens that was
            met at it; one mapping a tier.
        kappa: What measured times are of expected ones at most, but for a share ``alpha``; infinite where too few were
            measured to say.
        alpha: That share.
        scale: How many times as long this device takes as the one whose budgets the controller has learned.
    """

    grid: KnobGrid
    by_tokens: tuple[Mapping[int, Times], ...]
    kappa: Times
    alpha: float
    scale: float = 1.0

    def expected(self, vision_tokens_T: Sequence[int]) -> Times:
        """Return what is expected of a request with so many vision tokens at each tier: ``(settings,)``.

        Numbers that were never met take the times of the nearest one.
        """
        return _expected(self.by_tokens, vision_tokens_T)

    def rescaled(self, factor: float) -> "LatencyTable":
        """Return the table of a device that takes ``factor`` times as long for everything."""
        whole = Times(**dict.fromkeys(PARTS, np.asarray(factor)))
        by_tokens = tuple({count: times.scaled(whole) for count, times in known.items()} for known in self.by_tokens)
        return replace(self, by_tokens=by_tokens, scale=self.scale * factor)

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values; an infinite kappa is ``null``."""
        return {
            "grid": self.grid.to_json(),
            "times_by_vision_tokens": [
                {str(count): _plain(times) for count, times in known.items()} for known in self.by_tokens
            ],
            "kappa": _plain(self.kappa),
            "alpha": self.alpha,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LatencyTable":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            grid = own_grid({"knob_grid": content["grid"]})
            assert grid is not None
            return cls(
                grid=grid,
                by_tokens=tuple(
                    {int(count): _times(times) for count, times in known.items()}
                    for known in content["times_by_vision_tokens"]
                ),
                kappa=_times(content["kappa"]),
                alpha=float(content["alpha"]),
                scale=float(content.get("scale", 1.0)),  # older promises know of none
            )
        except (KeyError, TypeError, AttributeError) as err:
            raise ValueError(f"latency table: is not as `calibrate` writes it: {err!r}") from err


def fit_latency_table(training: Outcomes, calibration: Outcomes, *, alpha: float) -> LatencyTable:
    """Expect the means of a profile's training part, and take kappas from its calibration part.

    A kappa is the conformal quantile of measured over expected time of a setting. It holds for a setting by itself,
    before any is chosen: a score to choose with, and no promise.

    Args:
        training: What means are taken of.
        calibration: Other samples of the same profile.
        alpha: Share of requests that may take longer.

    Raises:
        ValueError: If a setting was measured for no training sample.
    """
    by_tokens = _mean_times(training)
    return calibrated(training.grid, by_tokens, calibration, alpha=alpha)


def calibrated(
    grid: KnobGrid, by_tokens: tuple[Mapping[int, Times], ...], calibration: Outcomes, *, alpha: float
) -> LatencyTable:
    """Take kappas of any expectations from samples that they were not made of."""
    measured, expected = measured_times(calibration), expected_times(by_tokens, calibration)
    kappa = {}
    for name in PARTS:
        ratio_NS = getattr(measured, name) / getattr(expected, name)
        kappa[name] = np.asarray([conformal_quantile(ratio_N, alpha) for ratio_N in ratio_NS.T])
    return LatencyTable(grid=grid, by_tokens=by_tokens, kappa=Times(**kappa), alpha=alpha)


def check_calibration(calibration: Outcomes, *, alpha: float) -> None:
    """Check that some setting of each tier was measured often enough for its kappas to be finite.

    A single setting that was not is never expected in time, and that is all; with all of a tier, nothing could be
    answered at it. Kappas of a step are not looked at: answers of one token have none.

    Raises:
        ValueError: If there are too few samples; the message says how many are needed.
    """
    needed, measured = needed_scores(alpha), measured_times(calibration)
    for name in ("first_token_ms", "prefill_ms", "total_ms"):
        counts_S = np.isfinite(getattr(measured, name)).sum(axis=0)
        for tier, counts_R in zip(calibration.grid.tiers, np.split(counts_S, len(calibration.grid.tiers)), strict=True):
            if counts_R.max() < needed:
                raise ValueError(
                    f"profile: part calibration: {needed} or more samples of a setting are needed to bound times that "
                    f"{alpha:.3g} of requests exceed (kappa_alpha); no setting of tier {tier.name} has more than "
                    f"{counts_R.max()}"
                )


def expected_times(by_tokens: Sequence[Mapping[int, Times]], outcomes: Outcomes) -> Times:
    """Return what is expected of every sample, ``(samples, settings)`` each; see ``LatencyTable.expected``.

    Args:
        by_tokens: As in ``LatencyTable``.
        outcomes: The samples; nothing but their numbers of vision tokens is looked at.
    """
    rows = [_expected(by_tokens, _counts(tokens_T)) for tokens_T in outcomes.vision_tokens_NT]
    return Times(**{name: np.stack([getattr(times, name) for times in rows]) for name in PARTS})


def measured_times(outcomes: Outcomes) -> Times:
    """Return what was measured, ``(samples, settings)`` each; NaN where nothing was."""
    return Times(
        first_token_ms=outcomes.before_decode_ms_NS,
        prefill_ms=outcomes.prefill_ms_NS,
        token_ms=outcomes.token_ms_NS,
        total_ms=outcomes.latency_ms_NS,
    )


def _mean_times(training: Outcomes) -> tuple[Mapping[int, Times], ...]:
    per_tier = len(training.settings) // len(training.grid.tiers)
    measured = measured_times(training)
    by_tokens: list[Mapping[int, Times]] = []
    for tier, tokens_N in enumerate(training.vision_tokens_NT.T):
        columns = slice(tier * per_tier, (tier + 1) * per_tier)
        by_count = {}
        for count in np.unique(tokens_N[np.isfinite(tokens_N)]):
            rows = tokens_N == count
            by_count[int(count)] = Times(
                **{name: _known_means(getattr(measured, name)[:, columns], rows, name) for name in PARTS}
            )
        by_tokens.append(by_count)
    return tuple(by_tokens)


def _known_means(values_NR: Array, rows: np.ndarray, name: str) -> Array:
    """Average over some samples; over all where a setting has no value among them."""
    means_R = _means(values_NR[rows])
    overall_R = _means(values_NR)
    if np.isnan(overall_R).any():
        raise ValueError(f"latency table: {name}: a setting was measured for no training sample")
    filled_R: Array = np.where(np.isnan(means_R), overall_R, means_R)
    return filled_R


def _means(values_NR: Array) -> Array:
    counts_R = np.isfinite(values_NR).sum(axis=0)
    means_R: Array = np.divide(
        np.nansum(values_NR, axis=0), counts_R, out=np.full(counts_R.shape, np.nan), where=counts_R > 0
    )
    return means_R


def _expected(by_tokens: Sequence[Mapping[int, Times]], vision_tokens_T: Sequence[int]) -> Times:
    tiers = [_nearest(known, count) for known, count in zip(by_tokens, vision_tokens_T, strict=True)]
    return Times(**{name: np.concatenate([getattr(times, name) for times in tiers]) for name in PARTS})


def _nearest(known: Mapping[int, Times], count: int) -> Times:
    return known[count] if count in known else known[min(known, key=lambda other: abs(other - count))]


def _counts(tokens_T: Array) -> list[int]:
    return [int(count) if np.isfinite(count) else 0 for count in tokens_T]


def _plain(times: Times) -> dict[str, list[float | None]]:
    return {
        name: [value if math.isfinite(value) else None for value in values.tolist()]
        for name, values in asdict(times).items()
    }


def _times(content: Mapping[str, Sequence[float | None]]) -> Times:
    return Times(
        **{
            field.name: np.asarray([math.inf if value is None else value for value in content[field.name]], dtype=float)
            for field in fields(Times)
        }
    )
