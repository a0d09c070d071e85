"""How wrong and how well covered predicted latencies are, as torchmetrics."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class CollectedRows(Metric):
    """Keep rows until the epoch ends, then give back those of all processes."""

    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor) -> None:
        """Keep ``(rows, columns)``."""
        self.rows.append(rows)

    def compute(self) -> Tensor:
        """Return all rows, ``(rows of every process, columns)``."""
        return dim_zero_cat(self.rows)


class AbsoluteErrorQuantile(Metric):
    """The absolute error that a share of predictions stays below.

    Args:
        level: That share.
        sync_on_compute: Whether processes put their rows together.
    """

    full_state_update = False
    errors: list[Tensor]

    def __init__(self, level: float, *, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.level = level
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add predictions and truths, both ``(rows,)``."""
        self.errors.append((preds - target).abs())

    def compute(self) -> Tensor:
        """Return the quantile."""
        errors = dim_zero_cat(self.errors)
        # Unlike torch.quantile, a sorted position has no limit on the number of rows.
        return errors.sort().values[min(int(self.level * len(errors)), len(errors) - 1)]


class Coverage(Metric):
    """The share of truths at or below an upper quantile and, where one is named, at or above a lower one.

    Args:
        upper: Column of the upper quantile.
        lower: Column of the lower quantile; ``None`` for a one-sided interval.
        sync_on_compute: Whether processes put their counts together.
    """

    full_state_update = False
    covered: Tensor
    total: Tensor

    def __init__(self, upper: int, *, lower: int | None = None, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.upper = upper
        self.lower = lower
        self.add_state("covered", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, target: Tensor, quantiles: Tensor) -> None:
        """Add truths ``(rows,)`` and predicted quantiles ``(rows, levels)``."""
        is_covered = target <= quantiles[:, self.upper]
        if self.lower is not None:
            is_covered &= target >= quantiles[:, self.lower]
        self.covered += is_covered.sum()
        self.total += len(target)

    def compute(self) -> Tensor:
        """Return the share."""
        return self.covered / self.total
