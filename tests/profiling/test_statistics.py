import math
from dataclasses import asdict

import numpy as np
import pytest

from profiling.statistics import summarize


def test_a_summary_of_hand_counted_samples() -> None:
    summary = summarize([4.0, 1.0, 3.0, 2.0, 5.0])
    assert asdict(summary) == pytest.approx(
        {
            "count": 5,
            "mean": 3.0,
            "std": math.sqrt(2.5),
            "p50": 3.0,
            "p90": 4.6,
            "p95": 4.8,
            "p99": 4.96,
            "min": 1.0,
            "max": 5.0,
        }
    )


def test_one_sample_has_no_deviation() -> None:
    summary = summarize(np.array([7.0]))
    assert math.isnan(summary.std)
    assert (summary.count, summary.p50, summary.p99) == (1, 7.0, 7.0)


@pytest.mark.parametrize(
    ("samples_ms", "message"),
    [
        ([], r"needs 1 or more in one row, got shape \(0,\)"),
        ([[1.0]], r"in one row, got shape \(1, 1\)"),
        ([1.0, math.nan], r"samples\[1\]: must be finite, got nan"),
    ],
)
def test_samples_that_cannot_be_summarized_are_named(samples_ms: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarize(samples_ms)
