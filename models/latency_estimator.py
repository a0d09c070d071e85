"""A latency estimator that knows the physics: fitted roofline terms times a small monotone correction."""

# Shape suffixes: B = rows, C = components, T = terms, F = features, Q = quantile levels, D = devices, M = monotone
# inputs, U = free inputs, H = hidden units, O = outputs of a layer.

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.latency_terms import COMPONENTS, FEATURES, NUM_HOST_TERMS, TERMS, latency_terms, shape_table

TARGETS = (*COMPONENTS, "total")
DEFAULT_QUANTILES = (0.025, 0.5, 0.9, 0.95, 0.975, 0.99)

# What each component's time may only grow with: crops, context, top_k, blocks.
_GROWS_WITH = ((1, 0, 0, 0), (0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 1, 1))
# What follows the vision encoder depends on the crops in no fixed direction: while the device is busy with more of
# them, the host launches ahead, and the next component waits for it less.
_VARIES_WITH_CROPS = (0, 1, 1, 1)
_REFERENCE = (5.0, 700.0, 8.0, 12.0)
# Crops are few and whole, and a device may answer each with another kernel: a step for every one up to here.
_NUM_CROP_STEPS = 13
# A coefficient of zero would have no logarithm; this one adds next to nothing, even to an ideal device's time.
_SMALLEST_COEFFICIENT = 0.01
# Weights count double, so that the original learning rate of 1e-3 moves them as fast as measured profiles need.
_WEIGHT_GAIN = 2.0
_TYPICAL_SPREAD = 0.02


class LatencyRows(NamedTuple):
    """Measured requests, as the estimator reads them.

    Args:
        features: ``(rows, len(FEATURES))`` float, in the order of ``FEATURES``.
        device: ``(rows,)`` int64 index into the estimator's devices.
        target_ms: ``(rows, len(TARGETS))`` float milliseconds, NaN where nothing was measured.
        group: ``(rows,)`` int64 code of the test group, -1 for none.
    """

    features: Tensor
    device: Tensor
    target_ms: Tensor
    group: Tensor


class LatencyQuantiles(NamedTuple):
    """What the network says, before conformal calibration.

    Args:
        log_median: ``(rows, components)`` natural log of milliseconds.
        log_spread: ``(rows, components, levels)`` added to the median; ascending, zero at the median.
    """

    log_median: Tensor
    log_spread: Tensor


class _MonotoneNetwork(nn.Module):
    """One small network per component, all in one product, growing in its monotone inputs.

    Weights behind a monotone input are taken by absolute value. Units are convex, concave or saturating by thirds, as
    in Runje and Shankaranarayana (2023), "Constrained Monotonic Neural Networks": with convex ones alone the network
    could only be convex.
    """

    def __init__(self, num_networks: int, num_monotone: int, num_free: int, hidden_dim: int) -> None:
        super().__init__()
        third = hidden_dim // 3
        self._split = [third, third, hidden_dim - 2 * third]
        self.monotone_weight = _first_weight(num_networks, num_monotone, hidden_dim)
        self.free_weight = _first_weight(num_networks, num_free, hidden_dim)
        self.hidden_weight = _first_weight(num_networks, hidden_dim, hidden_dim)
        self.out_weight = _first_weight(num_networks, hidden_dim, 1, scale=0.1)
        self.first_bias = nn.Parameter(torch.randn(num_networks, 1, hidden_dim))
        self.hidden_bias = nn.Parameter(torch.randn(num_networks, 1, hidden_dim) * 0.5)

    def forward(self, monotone_CBM: Tensor, free_CBU: Tensor) -> Tensor:
        """Return ``(networks, rows)``."""
        first = torch.baddbmm(self.first_bias, monotone_CBM, self.monotone_weight.abs(), alpha=_WEIGHT_GAIN)
        hidden = self._activate(torch.baddbmm(first, free_CBU, self.free_weight, alpha=_WEIGHT_GAIN))
        hidden = torch.baddbmm(self.hidden_bias, hidden, self.hidden_weight.abs(), alpha=_WEIGHT_GAIN)
        return _WEIGHT_GAIN * torch.bmm(self._activate(hidden), self.out_weight.abs()).squeeze(-1)

    def _activate(self, x: Tensor) -> Tensor:
        convex, concave, saturating = x.split(self._split, dim=-1)
        return torch.cat([F.elu(convex), -F.elu(-concave), torch.tanh(saturating)], dim=-1)


def _first_weight(num_networks: int, num_inputs: int, num_outputs: int, *, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(num_networks, num_inputs, num_outputs) * scale / (num_inputs * _WEIGHT_GAIN))


class LatencyEstimator(nn.Module):
    """Predict quantiles of each component's latency from what is known before a request runs.

    The median is ``base ** share x exp(residual)``. The base adds up non-negative coefficients of a device times the
    physical terms of ``models.latency_terms``, the host's launches and the device's work joined by a smooth maximum.
    The residual is a small network of the same inputs. The median cannot fall when crops (vision encoder) or context,
    top_k or blocks (prefill, decode) grow; quantiles of one row are in order. Both hold by construction.

    A "device" is all that fixes a profile's costs: hardware, engine, number format and model.

    Args:
        devices: Their labels; a row names its device by the index.
        shapes: For each device the numbers of the model measured there, as ``ModelShape.to_mapping`` gives them.
        coefficients: Where the base starts: for each device, component and term a non-negative number; all ones, the
            ideal device, if ``None``.
        quantiles: Ascending levels in (0, 1), 0.5 among them.
        hidden_dim: Units of the residual's two layers.
        embedding_dim: Numbers that describe a device to the residual.

    Raises:
        ValueError: If devices and shapes differ in number or the levels are not as described.
    """

    PER_DEVICE = ("log_coefficient", "sharpness", "embedding", "residual_gain", "log_offset", "shape_table")

    log_offset: Tensor
    residual_gain: Tensor
    shape_table: Tensor
    _grows_with: Tensor
    _reference: Tensor
    _varies_with_crops: Tensor
    _crop_steps: Tensor

    def __init__(
        self,
        devices: Sequence[str],
        shapes: Sequence[Mapping[str, int]],
        *,
        coefficients: Sequence[Sequence[Sequence[float]]] | None = None,
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        hidden_dim: int = 48,
        embedding_dim: int = 4,
    ) -> None:
        super().__init__()
        _check(devices, shapes, quantiles)
        self.devices = tuple(devices)
        self.quantiles = tuple(quantiles)
        self.median_index = self.quantiles.index(0.5)
        num_components, num_devices = len(COMPONENTS), len(devices)
        num_monotone, num_free = len(_REFERENCE) + _NUM_CROP_STEPS, embedding_dim + 1 + _NUM_CROP_STEPS
        self.log_coefficient = nn.Parameter(_first_log_coefficient(coefficients, num_devices))
        self.sharpness = nn.Parameter(torch.zeros(num_devices, num_components))
        self.base_share = nn.Parameter(torch.ones(num_components))
        self.embedding = nn.Parameter(torch.randn(num_devices, embedding_dim) * 0.1)
        self.residual = _MonotoneNetwork(num_components, num_monotone, num_free, hidden_dim)
        self.spread_hidden = nn.Parameter(torch.randn(num_components, num_monotone + num_free, 16) * 0.3)
        self.spread_bias = nn.Parameter(torch.zeros(num_components, 1, 16))
        self.spread_out = nn.Parameter(torch.randn(num_components, 16, len(quantiles) - 1) * 0.1)
        self.spread_out_bias = nn.Parameter(torch.zeros(num_components, 1, len(quantiles) - 1))
        # One for a trained device; a device calibrated from few rows may do better without another's residual.
        self.register_buffer("residual_gain", torch.ones(num_devices, num_components))
        self.register_buffer("log_offset", torch.zeros(num_devices, num_components + 1, len(quantiles)))
        self.register_buffer("shape_table", shape_table(shapes))
        grows_with = torch.tensor(_GROWS_WITH, dtype=torch.float32)
        grows_with = torch.cat([grows_with, grows_with[:, :1].expand(-1, _NUM_CROP_STEPS)], dim=1)
        self.register_buffer("_grows_with", grows_with[:, None], persistent=False)
        varies_with_crops = torch.tensor(_VARIES_WITH_CROPS, dtype=torch.float32)[:, None, None]
        self.register_buffer("_varies_with_crops", varies_with_crops, persistent=False)
        self.register_buffer("_crop_steps", torch.arange(_NUM_CROP_STEPS), persistent=False)
        self.register_buffer("_reference", torch.tensor(_REFERENCE), persistent=False)

    def forward(self, features_BF: Tensor, device_B: Tensor) -> LatencyQuantiles:
        """Predict in log space, uncalibrated: what training works on.

        Args:
            features_BF: ``(rows, len(FEATURES))`` float, in the order of ``FEATURES``.
            device_B: ``(rows,)`` int64 index into ``devices``.
        """
        monotone_CBM, free_CBU = self._inputs(features_BF, device_B)
        log_base_BC = self.log_base(features_BF, device_B)
        correction_BC = self.correction(log_base_BC, self.residual(monotone_CBM, free_CBU).T)
        log_median_BC = log_base_BC + self.residual_gain[device_B] * correction_BC
        spread_in = torch.cat([monotone_CBM, free_CBU], dim=-1)
        hidden = torch.tanh(torch.baddbmm(self.spread_bias, spread_in, self.spread_hidden))
        steps_CBQ = F.softplus(torch.baddbmm(self.spread_out_bias, hidden, self.spread_out)) * _TYPICAL_SPREAD
        return LatencyQuantiles(log_median_BC, self._spread(steps_CBQ.transpose(0, 1)))

    def residual_of(self, features_BF: Tensor, device_B: Tensor) -> Tensor:
        """Return the network's own part, ``(rows, components)`` in log space."""
        residual_CB: Tensor = self.residual(*self._inputs(features_BF, device_B))
        return residual_CB.T

    def correction(self, log_base: Tensor, residual: Tensor) -> Tensor:
        """Return what the network adds to the log of the base, ``(..., components)``.

        The residual can only rise where physics says so. Where the base rises too fast, the network takes a share of
        it away: what is left rises still, so the median stays monotone.
        """
        return residual - torch.sigmoid(-self.base_share) * log_base

    def log_base(self, features_BF: Tensor, device_B: Tensor) -> Tensor:
        """Return the log of the physical base, ``(rows, components)``."""
        terms_BCT = latency_terms(features_BF, self.shape_table[device_B])
        return log_base(terms_BCT, self.log_coefficient[device_B], self.sharpness[device_B])

    def uncalibrated_ms(self, features_BF: Tensor, device_B: Tensor) -> Tensor:
        """Return quantiles of ``TARGETS`` without the conformal offsets, ``(rows, targets, levels)``."""
        log_median_BC, log_spread_BCQ = self(features_BF, device_B)
        component_BCQ = (log_median_BC[..., None] + log_spread_BCQ).exp()
        return self.with_total(component_BCQ, features_BF)

    def quantiles_ms(self, features_BF: Tensor, device_B: Tensor) -> Tensor:
        """Predict.

        Each component's quantiles are those of the network times its conformal factor. The total adds up the
        components' uncalibrated quantiles (exact if they rise together, else too wide) and has factors of its own.

        Args:
            features_BF: ``(rows, len(FEATURES))`` float, in the order of ``FEATURES``.
            device_B: ``(rows,)`` int64 index into ``devices``.

        Returns:
            ``(rows, len(TARGETS), levels)`` milliseconds, ascending over levels.
        """
        factor_BTQ = self.log_offset.exp()[device_B]
        uncalibrated_ms = self.uncalibrated_ms(features_BF, device_B)
        # A part that does not run takes no time, not zero times an infinite factor.
        quantile_ms = torch.where(uncalibrated_ms == 0, 0.0, uncalibrated_ms * factor_BTQ)
        # Offsets are found level by level, so neighbours may swap; moving outwards keeps what they cover.
        lower, upper = quantile_ms[..., : self.median_index + 1], quantile_ms[..., self.median_index :]
        lower = lower.flip(-1).cummin(dim=-1).values.flip(-1)
        return torch.cat([lower, upper.cummax(dim=-1).values[..., 1:]], dim=-1)

    @torch.no_grad()
    def conformalize(self, device: int, quantile_BTQ: Tensor, target_BT: Tensor) -> None:
        """Set a device's offsets from rows that trained nothing; a target never measured keeps its own.

        Args:
            device: Index of the device.
            quantile_BTQ: ``(rows, targets, levels)`` uncalibrated milliseconds for rows of that device.
            target_BT: ``(rows, targets)`` milliseconds, NaN where nothing was measured.
        """
        for t in range(len(TARGETS)):
            measured = ~target_BT[:, t].isnan()
            if measured.any():
                error_BQ = target_BT[measured, t].log()[:, None] - quantile_BTQ[measured, t].log()
                offsets = [conformal_offset(error_BQ[:, q], level) for q, level in enumerate(self.quantiles)]
                self.log_offset[device, t] = torch.tensor(offsets)

    def _inputs(self, features_BF: Tensor, device_B: Tensor) -> tuple[Tensor, Tensor]:
        crops, vision, text, top_k, blocks, output = features_BF.unbind(dim=1)
        tokens = vision + text
        sizes_BM = torch.stack([crops, tokens, top_k, blocks], dim=1).clamp(min=1)
        prefill_BM = (sizes_BM / self._reference).log()
        decode_BM = torch.stack([crops, tokens + output / 2, top_k, blocks], dim=1).clamp(min=1)
        decode_BM = (decode_BM / self._reference).log()
        steps_BM = (crops[:, None] - self._crop_steps).clamp(0, 1)
        monotone_CBM = torch.stack([prefill_BM, prefill_BM, prefill_BM, decode_BM])
        monotone_CBM = torch.cat([monotone_CBM, steps_BM.expand(4, -1, -1)], dim=-1) * self._grows_with
        embedding_CBU = self.embedding[device_B].expand(len(COMPONENTS), -1, -1)
        # Only decode depends on how many tokens are answered.
        answer_B = (1 / (output - 1).clamp(min=1)).unsqueeze(-1)
        zero_B = torch.zeros_like(answer_B)
        answer_CB1 = torch.stack([zero_B, zero_B, zero_B, answer_B])
        return monotone_CBM, torch.cat([embedding_CBU, answer_CB1, steps_BM * self._varies_with_crops], dim=-1)

    def _spread(self, steps_BCQ: Tensor) -> Tensor:
        """Turn positive steps into offsets that leave the median in both directions."""
        below, above = steps_BCQ.split([self.median_index, len(self.quantiles) - 1 - self.median_index], dim=-1)
        below = -below.cumsum(dim=-1).flip(-1)
        return torch.cat([below, torch.zeros_like(steps_BCQ[..., :1]), above.cumsum(dim=-1)], dim=-1)

    def with_total(self, component_BCQ: Tensor, features_BF: Tensor) -> Tensor:
        """Append the sum over a request to quantiles of its components, ``(rows, targets, levels)``."""
        # A request without an image runs no vision part.
        has_image_B = features_BF[:, FEATURES.index("num_crops")] > 0
        vision_BCQ = torch.where(has_image_B[:, None, None], component_BCQ[:, :2], 0.0)
        steps_B = (features_BF[:, FEATURES.index("output_tokens")] - 1).clamp(min=0)
        language_BCQ = component_BCQ[:, 2:]
        total_BQ = vision_BCQ.sum(dim=1) + language_BCQ[:, 0] + language_BCQ[:, 1] * steps_B[:, None]
        return torch.cat([vision_BCQ, language_BCQ, total_BQ[:, None]], dim=1)


def log_base(terms: Tensor, log_coefficient: Tensor, sharpness: Tensor) -> Tensor:
    """Combine physical terms into the log of a time.

    Args:
        terms: ``(..., len(TERMS))`` milliseconds on the ideal device.
        log_coefficient: ``(..., len(TERMS))`` log of how many times slower each is.
        sharpness: ``(...)``; very negative adds up the host's and the device's time, very positive takes the longer.

    Returns:
        ``(...)`` log milliseconds.
    """
    parts = terms * log_coefficient.exp()
    log_host = parts[..., :NUM_HOST_TERMS].sum(dim=-1).log()
    log_work = parts[..., NUM_HOST_TERMS:].sum(dim=-1).log()
    # Launching and working overlap, so their time is between the sum and the maximum: a norm of power 1 to infinity.
    power = 1 + F.softplus(sharpness)
    return torch.logaddexp(power * log_host, power * log_work) / power


def interval_pairs(quantiles: Sequence[float]) -> list[tuple[int, int]]:
    """Return the positions of levels that sum to 1: the ends of two-sided intervals, widest first."""
    return [
        (low, high)
        for low, level in enumerate(quantiles)
        for high, other in enumerate(quantiles)
        if level < 0.5 and math.isclose(level + other, 1)
    ]


def pinball_loss(error: Tensor, level: Tensor) -> Tensor:
    """Return the quantile loss of ``error = truth - prediction`` at each level, element by element."""
    return torch.maximum(level * error, (level - 1) * error)


def conformal_offset(error_N: Tensor, level: float) -> float:
    """Return what to add to a predicted quantile so that it covers its level on exchangeable data.

    The finite-sample quantile of ``truth - prediction`` (Romano et al., 2019, "Conformalized Quantile Regression"),
    one-sided: above the median at least a share ``level`` of new truths lie below, under it at most.

    Args:
        error_N: Truth minus prediction on rows that trained nothing, not empty.
        level: In (0, 1).

    Returns:
        The offset; infinite where so few rows cannot promise the level.
    """
    count = len(error_N)
    ordered = error_N.sort().values
    if level == 0.5:
        return float(ordered[count // 2])
    if level > 0.5:
        rank = math.ceil((count + 1) * level)
        return float(ordered[rank - 1]) if rank <= count else math.inf
    rank = math.floor((count + 1) * level)
    return float(ordered[rank - 1]) if rank >= 1 else -math.inf


def _first_log_coefficient(coefficients: Sequence[Sequence[Sequence[float]]] | None, num_devices: int) -> Tensor:
    shape = (num_devices, len(COMPONENTS), len(TERMS))
    if coefficients is None:
        return torch.zeros(shape)
    first = torch.tensor(coefficients, dtype=torch.float32)
    if first.shape != shape or not bool((first >= 0).all()):
        raise ValueError(f"coefficients: must be non-negative numbers of shape {shape}, got {coefficients}")
    return first.clamp(min=_SMALLEST_COEFFICIENT).log()


def _check(devices: Sequence[str], shapes: Sequence[Mapping[str, int]], quantiles: Sequence[float]) -> None:
    if not devices or len(devices) != len(shapes):
        raise ValueError(f"devices: needs one model shape each, got {len(devices)} devices and {len(shapes)} shapes")
    levels = list(quantiles)
    if levels != sorted(set(levels)) or not levels[0] > 0 or not levels[-1] < 1 or 0.5 not in levels:
        raise ValueError(f"quantiles: must ascend within (0, 1) and include 0.5, got {levels}")
