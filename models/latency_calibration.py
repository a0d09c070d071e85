"""Fit a latency estimator to a new device from a few measured rows: its physical base anew, the residual as it was."""

# Shape suffixes: K = candidates, N = rows, C = components, T = terms, Q = quantile levels.

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from models.latency_estimator import LatencyEstimator, LatencyRows, log_base
from models.latency_terms import COMPONENTS, latency_terms

_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
_GAINS = (0.0, 1.0)
_NUM_FOLDS = 5
_NUM_STEPS = 400
_SMALLEST_COEFFICIENT = 0.01
_SHARPNESS_OF_A_SUM = -3.0


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Rows in log space, ``(rows, components)``, with the terms that explain them, ``(rows, components, terms)``."""

    estimator: LatencyEstimator
    terms: Tensor
    residual: Tensor
    log_target: Tensor
    is_measured: Tensor


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A base's parameters: ``(..., components, terms)``, ``(..., components)`` and ``(..., components)``."""

    log_coefficient: Tensor
    sharpness: Tensor
    gain: Tensor

    def predict(self, problem: _Problem) -> Tensor:
        """Return log milliseconds, ``(candidates, rows, components)``."""
        coefficient, sharpness = self.log_coefficient[:, None], self.sharpness[:, None]
        base = log_base(problem.terms, coefficient, sharpness.expand(-1, len(problem.terms), -1))
        return base + self.gain[:, None] * problem.estimator.correction(base, problem.residual)


def calibrate_device(estimator: LatencyEstimator, device: int, rows: LatencyRows, *, fitted: Tensor, seed: int) -> None:
    """Refit one device of an estimator in place.

    The base is pulled, in log space, towards the parameters that the device has now or towards those fitted to the
    rows alone; which of them, how strongly, and whether the residual helps, cross-validation decides for every
    component. The quantiles are conformalized on the rows left out in turn.

    Args:
        estimator: Its device ``device`` holds a copy of another device's parameters and the new shape.
        device: Index of the device to fit.
        rows: A few measured rows of that device.
        fitted: ``(components, terms)`` non-negative coefficients fitted to the rows.
        seed: Of the folds.

    Raises:
        ValueError: If there are fewer rows than folds.
    """
    if len(rows.features) < _NUM_FOLDS:
        raise ValueError(f"rows: calibration needs at least {_NUM_FOLDS}, got {len(rows.features)}")
    problem = _problem(estimator, device, rows)
    fold_N = torch.randperm(len(rows.features), generator=torch.Generator().manual_seed(seed)) % _NUM_FOLDS
    candidates = list(product(_priors(estimator, device, fitted), _RIDGES, _GAINS))
    starts = _stack(candidates)
    ridge_K = torch.tensor([ridge for _, ridge, _ in candidates])
    left_out_KNC = torch.zeros(len(candidates), *problem.log_target.shape)
    for fold in range(_NUM_FOLDS):
        base = _fit(problem, starts, ridge_K, weight_N=(fold_N != fold).float())
        left_out_KNC[:, fold_N == fold] = base.predict(problem)[:, fold_N == fold]
    error_KNC = (left_out_KNC - problem.log_target).abs() * problem.is_measured
    best_C = error_KNC.sum(dim=1).argmin(dim=0)
    base = _fit(problem, starts, ridge_K, weight_N=torch.ones(len(fold_N)))
    components = torch.arange(len(COMPONENTS))
    with torch.no_grad():
        estimator.log_coefficient[device] = base.log_coefficient[best_C, components]
        estimator.sharpness[device] = base.sharpness[best_C, components]
        estimator.residual_gain[device] = base.gain[best_C, components]
        log_spread_NCQ = estimator(rows.features, torch.full((len(fold_N),), device)).log_spread
        component_NCQ = (left_out_KNC[best_C, :, components].T[..., None] + log_spread_NCQ).exp()
        estimator.conformalize(device, estimator.with_total(component_NCQ, rows.features), rows.target_ms)


def _problem(estimator: LatencyEstimator, device: int, rows: LatencyRows) -> _Problem:
    target_NC = rows.target_ms[:, : len(COMPONENTS)]
    is_measured_NC = ~target_NC.isnan()
    device_N = torch.full((len(target_NC),), device)
    with torch.no_grad():
        residual_NC = estimator.residual_of(rows.features, device_N)
    return _Problem(
        estimator=estimator,
        terms=latency_terms(rows.features, estimator.shape_table[device_N]),
        residual=residual_NC,
        log_target=torch.where(is_measured_NC, target_NC, 1.0).log(),
        is_measured=is_measured_NC,
    )


def _priors(estimator: LatencyEstimator, device: int, fitted: Tensor) -> list[tuple[Tensor, Tensor]]:
    now = (estimator.log_coefficient[device].detach(), estimator.sharpness[device].detach())
    alone = (fitted.clamp(min=_SMALLEST_COEFFICIENT).log(), torch.full_like(now[1], _SHARPNESS_OF_A_SUM))
    return [now, alone]


def _stack(candidates: list[tuple[tuple[Tensor, Tensor], float, float]]) -> _Base:
    return _Base(
        log_coefficient=torch.stack([prior[0] for prior, _, _ in candidates]),
        sharpness=torch.stack([prior[1] for prior, _, _ in candidates]),
        gain=torch.stack([torch.full_like(prior[1], gain) for prior, _, gain in candidates]),
    )


def _fit(problem: _Problem, starts: _Base, ridge_K: Tensor, *, weight_N: Tensor) -> _Base:
    """Fit all candidates at once; a device that is slower in everything is not held back by the ridge."""
    with torch.no_grad():
        gap_KNC = (problem.log_target - starts.predict(problem)) * problem.is_measured * weight_N[:, None]
        count_C = (problem.is_measured * weight_N[:, None]).sum(dim=0).clamp(min=1)
    common_KC = (gap_KNC.sum(dim=1) / count_C).requires_grad_()
    change_KCT = torch.zeros_like(starts.log_coefficient, requires_grad=True)
    bend_KC = torch.zeros_like(starts.sharpness, requires_grad=True)
    optimizer = torch.optim.Adam([common_KC, change_KCT, bend_KC], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _NUM_STEPS)
    for _ in range(_NUM_STEPS):
        base = _moved(starts, common_KC, change_KCT, bend_KC)
        error_KNC = (base.predict(problem) - problem.log_target) * problem.is_measured * weight_N[:, None]
        fit_loss_K = (
            F.huber_loss(error_KNC, torch.zeros_like(error_KNC), reduction="none", delta=0.1).sum(1) / count_C
        ).sum(-1)
        pull_K = (change_KCT**2).sum(dim=(1, 2)) + (bend_KC**2).sum(dim=1)
        loss = (fit_loss_K + ridge_K * pull_K).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return _moved(starts, common_KC, change_KCT, bend_KC)


def _moved(starts: _Base, common_KC: Tensor, change_KCT: Tensor, bend_KC: Tensor) -> _Base:
    return _Base(
        log_coefficient=starts.log_coefficient + common_KC[..., None] + change_KCT,
        sharpness=starts.sharpness + bend_KC,
        gain=starts.gain,
    )
