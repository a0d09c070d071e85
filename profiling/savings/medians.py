"""Medians of values that count differently."""

# Shape suffixes: N = values of a column, C = columns, R = weightings.

import numpy as np
from numpy.typing import NDArray

from profiling.controllers.outcomes import Array


def weighted_medians(values_NC: Array, weight_RN: Array | NDArray[np.int64]) -> Array:
    """Return the value of each column below and above which lies half of the weight: ``(weightings, columns)``.

    Between two values that would do, the lower one.

    Args:
        values_NC: ``(values, columns)``.
        weight_RN: ``(weightings, values)``, none negative; the sums positive.
    """
    order_NC = values_NC.argsort(axis=0)
    below_RNC = weight_RN[:, order_NC].cumsum(axis=1)
    place_RC = (2 * below_RNC >= below_RNC[:, -1:]).argmax(axis=1)
    medians_RC: Array = np.take_along_axis(np.take_along_axis(values_NC, order_NC, axis=0), place_RC, axis=0)
    return medians_RC
