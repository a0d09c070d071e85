"""A latency budget as numbers that a network reads easily."""

# Shape suffixes: B = requests, E = numbers of an encoding.

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

EncodingName = Literal["rbf", "sinusoid"]


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
        """Return where each budget lies: 0 at the fastest time, 1 at the slowest, ``(batch,)`` float64."""
        fastest_ms, slowest_ms = self._limits_ms.double()
        log_ratio_B = (budget_ms_B.double().clamp(fastest_ms, slowest_ms) / fastest_ms).log()
        position_B: Tensor = log_ratio_B / (slowest_ms / fastest_ms).log()
        return position_B

    @abstractmethod
    def forward(self, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, num_units)`` float32, each number in [-1, 1]."""

    @abstractmethod
    def frozen(self) -> Callable[[float], list[float]]:
        """Return the same from one budget to its numbers, without a tensor and by few calls."""

    def _frozen_limits(self) -> tuple[float, float, float]:
        """Return the reference times, and the logarithm to base 2 of their ratio."""
        fastest_ms, slowest_ms = self._limits_ms.tolist()
        return fastest_ms, slowest_ms, math.log2(slowest_ms / fastest_ms)


class RbfEncoding(BudgetEncoding):
    """How near the budget is to each of evenly spread centres, by Gaussians as wide as their distance."""

    _center_E: Tensor

    def __init__(self, fastest_ms: float, slowest_ms: float, *, num_units: int = 16) -> None:
        super().__init__(fastest_ms, slowest_ms, num_units=num_units)
        self.register_buffer("_center_E", torch.linspace(0, 1, num_units), persistent=False)

    def forward(self, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, num_units)``."""
        distance_BE = (self.position(budget_ms_B)[:, None] - self._center_E) * (self.num_units - 1)
        return (-0.5 * distance_BE.square()).exp().float()

    def frozen(self) -> Callable[[float], list[float]]:
        """See ``BudgetEncoding``."""
        fastest_ms, slowest_ms, log_range = self._frozen_limits()
        last, centers = self.num_units - 1, (self._center_E.double() * (self.num_units - 1)).tolist()

        def encode(budget_ms: float) -> list[float]:
            place = math.log2(min(max(budget_ms, fastest_ms), slowest_ms) / fastest_ms) / log_range * last
            return [math.exp(-0.5 * (place - center) * (place - center)) for center in centers]

        return encode


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
        return torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1).float()

    def frozen(self) -> Callable[[float], list[float]]:
        """See ``BudgetEncoding``."""
        fastest_ms, slowest_ms, log_range = self._frozen_limits()
        frequencies = self._frequency_E.tolist()

        def encode(budget_ms: float) -> list[float]:
            position = math.log2(min(max(budget_ms, fastest_ms), slowest_ms) / fastest_ms) / log_range
            return [wave(position * each) for wave in (math.sin, math.cos) for each in frequencies]

        return encode


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
