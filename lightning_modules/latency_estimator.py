"""Train the latency estimator: regression in log space, quantile heads, conformal calibration."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError, MetricCollection, R2Score

from lightning_modules.checkpoints import check_sizes, select_devices, stamp
from lightning_modules.metrics import AbsoluteErrorQuantile, CollectedRows, Coverage
from models.latency_estimator import (
    DEFAULT_QUANTILES,
    TARGETS,
    LatencyEstimator,
    LatencyRows,
    interval_pairs,
    pinball_loss,
)
from models.latency_terms import COMPONENTS
from profiling.checkpoint_file import check_maker
from profiling.splits import TEST_GROUPS

Loss = Literal["pinball", "huber", "mse"]

# Beyond two percent the Huber loss grows linearly: timings have long tails that should not pull the median.
_HUBER_DELTA = 0.02


class LatencyEstimatorModule(LightningModule):
    """Regress component latencies and their quantiles.

    The loss compares logarithms, so it is about relative errors: the chosen one trains the medians, the pinball loss
    trains the other quantiles around them. After each validation epoch the quantiles of every device and target are
    conformalized on the validation rows; checkpoints carry the result.

    Logs ``train/loss``, ``val/loss``, and the metrics of docs/metrics.md for each component and the total:
    ``val/<metric>/<target>`` and ``test/<metric>/<group>/<target>``. A target of which fewer than two rows were
    measured logs nothing.

    Args:
        devices: Labels of the devices in the profiles.
        shapes: For each device the numbers of the model that was measured there.
        coefficients: Where the physical base starts, for each device, component and term.
        quantiles: Ascending levels, 0.5 among them. Two that sum to 1 make a two-sided interval.
        loss: What trains the medians.
        hidden_dim: Units of the residual's layers.
        embedding_dim: Numbers that describe a device to the residual.

    Raises:
        ValueError: If an argument does not fit the estimator.
    """

    def __init__(
        self,
        devices: list[str],
        shapes: list[dict[str, int]],
        coefficients: list[list[list[float]]],
        *,
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        loss: Loss = "huber",
        hidden_dim: int = 48,
        embedding_dim: int = 4,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.estimator = LatencyEstimator(
            devices,
            shapes,
            coefficients=coefficients,
            quantiles=quantiles,
            hidden_dim=hidden_dim,
            embedding_dim=embedding_dim,
        )
        self.loss = loss
        self.register_buffer("_levels", torch.tensor(list(quantiles)), persistent=False)
        self.val_rows = CollectedRows()
        self.test_rows = CollectedRows()
        self.val_metrics = nn.ModuleDict({target: _metrics(quantiles, f"val/|/{target}") for target in TARGETS})
        self.test_metrics = nn.ModuleDict(
            {
                f"{group}/{target}": _metrics(quantiles, f"test/|/{group}/{target}")
                for group in TEST_GROUPS
                for target in TARGETS
            }
        )

    def forward(self, features_BF: Tensor, device_B: Tensor) -> Tensor:
        """Return calibrated quantiles in milliseconds, ``(rows, targets, levels)``."""
        return self.estimator.quantiles_ms(features_BF, device_B)

    def training_step(self, batch: LatencyRows, batch_idx: int) -> Tensor:
        """Fit the medians and the quantiles around them."""
        log_median_BC, log_spread_BCQ = self.estimator(batch.features, batch.device)
        loss = self._loss(log_median_BC, log_spread_BCQ, batch.target_ms[:, : len(COMPONENTS)])
        self.log("train/loss", loss, batch_size=len(batch.features))
        return loss

    def validation_step(self, batch: LatencyRows, batch_idx: int) -> None:
        """Keep the rows until the epoch's calibration is known."""
        self.val_rows.update(_pack(batch))

    def on_validation_epoch_end(self) -> None:
        """Calibrate on the rows of the epoch, then log how good the calibrated estimator is."""
        rows = _unpack(self.val_rows.compute())
        self.val_rows.reset()
        log_median_BC, log_spread_BCQ = self.estimator(rows.features, rows.device)
        loss = self._loss(log_median_BC, log_spread_BCQ, rows.target_ms[:, : len(COMPONENTS)])
        # Every process holds all rows, so nothing is left to put together.
        self.log("val/loss", loss, prog_bar=True, rank_zero_only=False, batch_size=len(rows.features), sync_dist=True)
        self._calibrate(rows)
        quantile_ms = self(rows.features, rows.device)
        for t, target in enumerate(TARGETS):
            self._log_target(self.val_metrics[target], quantile_ms[:, t], rows.target_ms[:, t])

    def test_step(self, batch: LatencyRows, batch_idx: int) -> Tensor:
        """Return calibrated quantiles, ``(rows, targets, levels)``, for whoever observes the test."""
        self.test_rows.update(_pack(batch))
        return cast("Tensor", self(batch.features, batch.device))

    def on_test_epoch_end(self) -> None:
        """Log the metrics of each group of held-out rows."""
        rows = _unpack(self.test_rows.compute())
        self.test_rows.reset()
        quantile_ms = self(rows.features, rows.device)
        for g, group in enumerate(TEST_GROUPS):
            in_group = rows.group == g
            for t, target in enumerate(TARGETS):
                metrics = self.test_metrics[f"{group}/{target}"]
                self._log_target(metrics, quantile_ms[in_group, t], rows.target_ms[in_group, t])

    def predict_step(self, batch: LatencyRows, batch_idx: int) -> Tensor:
        """Return calibrated quantiles in milliseconds, ``(rows, targets, levels)``."""
        return cast("Tensor", self(batch.features, batch.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which recipe made the checkpoint."""
        stamp(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint; bring the devices into the order of this run's profiles.

        Raises:
            ValueError: If the checkpoint is not this module's, has other sizes or lacks a device.
        """
        check_maker(checkpoint, type(self).__name__)
        select_devices(checkpoint, self.estimator)
        check_sizes(checkpoint, self)

    def _loss(self, log_median_BC: Tensor, log_spread_BCQ: Tensor, target_ms_BC: Tensor) -> Tensor:
        is_measured_BC = ~target_ms_BC.isnan()
        log_target_BC = torch.where(is_measured_BC, target_ms_BC, 1.0).log()
        error_BC = log_target_BC - log_median_BC
        if self.loss == "pinball":
            median_loss_BC = error_BC.abs()
        elif self.loss == "huber":
            median_loss_BC = F.huber_loss(error_BC, torch.zeros_like(error_BC), reduction="none", delta=_HUBER_DELTA)
        else:
            median_loss_BC = error_BC**2
        # The medians are not pulled about by the other levels: each loss has parameters of its own.
        around_BCQ = pinball_loss(error_BC.detach()[..., None] - log_spread_BCQ, cast("Tensor", self._levels))
        loss_BC = (median_loss_BC + around_BCQ.mean(dim=-1)) * is_measured_BC
        return loss_BC.sum() / is_measured_BC.sum().clamp(min=1)

    @torch.no_grad()
    def _calibrate(self, rows: LatencyRows) -> None:
        quantile_BTQ = self.estimator.uncalibrated_ms(rows.features, rows.device)
        for d in range(len(self.estimator.devices)):
            own = rows.device == d
            self.estimator.conformalize(d, quantile_BTQ[own], rows.target_ms[own])

    def _log_target(self, metrics: nn.Module, quantile_ms_BQ: Tensor, target_ms_B: Tensor) -> None:
        is_measured_B = ~target_ms_B.isnan()
        if is_measured_B.sum() < 2:
            return
        quantiles, target = quantile_ms_BQ[is_measured_B], target_ms_B[is_measured_B]
        collection = cast("MetricCollection", metrics)
        collection.update(preds=quantiles[:, self.estimator.median_index], target=target, quantiles=quantiles)
        self.log_dict(collection, batch_size=len(target))


def _metrics(quantiles: Sequence[float], key: str) -> MetricCollection:
    prefix, postfix = key.split("|")
    pairs = interval_pairs(quantiles)
    # Rows are put together before they are counted, once for all metrics.
    metrics: dict[str, Any] = {
        "mae_ms": MeanAbsoluteError(sync_on_compute=False),
        "rmse_ms": MeanSquaredError(squared=False, sync_on_compute=False),
        "mape": MeanAbsolutePercentageError(sync_on_compute=False),
        "r2": R2Score(sync_on_compute=False),
        "p95_error_ms": AbsoluteErrorQuantile(0.95, sync_on_compute=False),
    }
    in_a_pair = {q for low, high in pairs for q in (low, high)}
    for low, high in pairs:
        width_pct = 100 * (quantiles[high] - quantiles[low])
        metrics[f"coverage_{width_pct:g}"] = Coverage(high, lower=low, sync_on_compute=False)
    for q, level in enumerate(quantiles):
        if level > 0.5 and q not in in_a_pair:
            metrics[f"coverage_p{100 * level:g}"] = Coverage(q, sync_on_compute=False)
    return MetricCollection(metrics, prefix=prefix, postfix=postfix, compute_groups=False)


def _pack(rows: LatencyRows) -> Tensor:
    return torch.cat([rows.features, rows.target_ms, rows.device[:, None], rows.group[:, None]], dim=1)


def _unpack(packed: Tensor) -> LatencyRows:
    features, target_ms, codes = packed.split([packed.shape[1] - len(TARGETS) - 2, len(TARGETS), 2], dim=1)
    return LatencyRows(features, codes[:, 0].long(), target_ms, codes[:, 1].long())
