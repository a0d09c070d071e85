"""A latency budget as numbers that a network reads easily."""

# Shape suffixes: B = requests, E = numbers of an encoding.

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EncodingName = Literal["rbf", "sinusoid"]
Array = NDArray[np.float32]


class BudgetEncoding(nn.Module, ABC):
    """Encode where a budget lies between a device's reference times, on a logarithmic scale.

    Relative to the device, so that a policy may move to another one. Budgets beyond the reference times, and the
    negative ones that are left when time has run out, count as those times. A checkpoint carries the times.

    Args:
        fastest_ms: Time below which hardly any setting is in time.
        slowest_ms: Time above which nearly every setting is in time.
        num_units: Numbers of an encoding.

    Raises:
        ValueError: If the times do not ascend from above 0, or there are fewer than two numbers.
    """

    _limits_ms: Tensor

    def __init__(self, fastest_ms: float, slowest_ms: float, *, num_units: int = 16) -> None:
        super().__init__()
        if not 0 < fastest_ms < slowest_ms < math.inf:
            raise ValueError(f"budget: needs 0 < fastest_ms < slowest_ms, got {fastest_ms} and {slowest_ms}")
        if num_units < 2 or num_units % 2:
            raise ValueError(f"budget: num_units: must be even and 2 or more, got {num_units}")
        self.register_buffer("_limits_ms", torch.tensor([fastest_ms, slowest_ms]))
        self.num_units = num_units

    def position(self, budget_ms_B: Tensor) -> Tensor:
        """Return where each budget lies: 0 at the fastest time, 1 at the slowest, ``(batch,)``."""
        # In float64: what float32 rounds off, the fastest wave of a sinusoid would show 128 times as large.
        fastest_ms, slowest_ms = self._limits_ms.double()
        log_ratio_B = (budget_ms_B.double().clamp(fastest_ms, slowest_ms) / fastest_ms).log()
        position_B: Tensor = (log_ratio_B / (slowest_ms / fastest_ms).log()).float()
        return position_B

    @abstractmethod
    def forward(self, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, num_units)``, each number in [-1, 1]."""

    def frozen(self) -> Callable[[Array], Array]:
        """Return the same from array to array, for one budget at a time at a fraction of the cost."""
        fastest_ms, slowest_ms = self._limits_ms.double().numpy()
        log_range, units = np.log(slowest_ms / fastest_ms), self._frozen_units()

        def encode(budget_ms_B: Array) -> Array:
            clamped_B = np.minimum(np.maximum(budget_ms_B, fastest_ms), slowest_ms)
            position_B1 = (np.log(clamped_B / fastest_ms) / log_range).astype(np.float32)[:, None]
            return units(position_B1)

        return encode

    @abstractmethod
    def _frozen_units(self) -> Callable[[Array], Array]:
        """Return what makes the numbers ``(batch, num_units)`` of positions ``(batch, 1)``."""


class RbfEncoding(BudgetEncoding):
    """How near the budget is to each of evenly spread centres, by Gaussians as wide as their distance."""

    _center_E: Tensor

    def __init__(self, fastest_ms: float, slowest_ms: float, *, num_units: int = 16) -> None:
        super().__init__(fastest_ms, slowest_ms, num_units=num_units)
        self.register_buffer("_center_E", torch.linspace(0, 1, num_units), persistent=False)

    def forward(self, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, num_units)``."""
        distance_BE = (self.position(budget_ms_B)[:, None] - self._center_E) * (self.num_units - 1)
        return (-0.5 * distance_BE.square()).exp()

    def _frozen_units(self) -> Callable[[Array], Array]:
        center_E, last = self._center_E.numpy().copy(), self.num_units - 1

        def units(position_B1: Array) -> Array:
            distance_BE = (position_B1 - center_E) * last
            unit_BE: Array = np.exp(-0.5 * distance_BE * distance_BE)
            return unit_BE

        return units


class SinusoidEncoding(BudgetEncoding):
    """Sines and cosines of half a wave from the fastest to the slowest time, one wave, two, four and so on."""

    _frequency_E: Tensor

    def __init__(self, fastest_ms: float, slowest_ms: float, *, num_units: int = 16) -> None:
        super().__init__(fastest_ms, slowest_ms, num_units=num_units)
        frequency_E = math.pi * 2.0 ** torch.arange(num_units // 2)
        self.register_buffer("_frequency_E", frequency_E, persistent=False)

    def forward(self, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, num_units)``."""
        angle_BE = self.position(budget_ms_B)[:, None] * self._frequency_E
        return torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1)

    def _frozen_units(self) -> Callable[[Array], Array]:
        frequency_E = self._frequency_E.numpy().copy()

        def units(position_B1: Array) -> Array:
            angle_BE = position_B1 * frequency_E
            return np.concatenate([np.sin(angle_BE), np.cos(angle_BE)], axis=1)

        return units


def budget_encoding(name: EncodingName, fastest_ms: float, slowest_ms: float) -> BudgetEncoding:
    """Build an encoding by its name.

    Raises:
        ValueError: If there is none of that name, or the times do not ascend from above 0.
    """
    if name == "rbf":
        return RbfEncoding(fastest_ms, slowest_ms)
    if name == "sinusoid":
        return SinusoidEncoding(fastest_ms, slowest_ms)
    raise ValueError(f"budget_encoding: must be rbf or sinusoid, got {name!r}")
