"""What an answer is worth under a latency budget."""

# Shape suffixes: B = requests, each under one budget; S = settings, N = budget bins.

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


class Reward(nn.Module, ABC):
    """Value of every outcome of each request; the more, the better."""

    is_learning = False
    """Whether ``update`` does anything."""

    @abstractmethod
    def forward(self, accuracy_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, settings)`` rewards.

        Args:
            accuracy_BS: ``(batch, settings)`` in [0, 1]; ``(batch, 1)`` for the outcomes of one choice works as well.
            latency_ms_BS: Same shape.
            budget_ms_B: ``(batch,)``.
        """

    def update(self, probability_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> None:
        """Learn from a step's policy; most rewards have nothing to learn.

        Args:
            probability_BS: ``(batch, settings)`` of the policy, 0 where nothing was measured.
            latency_ms_BS: ``(batch, settings)``.
            budget_ms_B: ``(batch,)``.
        """

    def diagnostics(self) -> dict[str, Tensor]:
        """Return what was learned so far, by name, for logs; most rewards have learned nothing."""
        return {}


class OverrunPenalty(Reward):
    """``alpha * accuracy - beta * max(0, latency - budget) / budget``: being 10 % late costs ``beta / 10``.

    Args:
        alpha: Weight of the accuracy.
        beta: Weight of the overrun.

    Raises:
        ValueError: If a weight is negative.
    """

    def __init__(self, *, alpha: float = 1.0, beta: float = 0.5) -> None:
        super().__init__()
        for name, weight in (("alpha", alpha), ("beta", beta)):
            if not weight >= 0:
                raise ValueError(f"OverrunPenalty: {name}: must be 0 or more, got {weight}")
        self.alpha = alpha
        self.beta = beta

    def forward(self, accuracy_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, settings)`` rewards."""
        overrun_BS = (latency_ms_BS / budget_ms_B[:, None] - 1).clamp(min=0)
        return self.alpha * accuracy_BS - self.beta * overrun_BS


class Goodput(Reward):
    """The accuracy if the answer is in time, else nothing."""

    def forward(self, accuracy_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, settings)`` rewards."""
        return accuracy_BS * (latency_ms_BS <= budget_ms_B[:, None])


class Lagrangian(Reward):
    """The accuracy less a price for being late, which rises while more answers are late than promised.

    Budgets fall into bins, each with a price of its own (the multiplier of its constraint), found by dual ascent.

    Args:
        bin_edges_ms: Budgets at which a new bin begins, ascending; one bin more than edges.
        target_miss_rate: Share of late answers that is allowed.
        learning_rate: How much a price moves for each step and late answer too many.
        first_price: Where prices start.

    Raises:
        ValueError: If the edges do not ascend from above 0, or a number is out of its range.
    """

    is_learning = True
    price_N: Tensor
    _edges_ms: Tensor

    def __init__(
        self,
        bin_edges_ms: Sequence[float],
        *,
        target_miss_rate: float = 0.05,
        learning_rate: float = 0.05,
        first_price: float = 0.5,
    ) -> None:
        super().__init__()
        edges_ms = list(bin_edges_ms)
        if edges_ms != sorted(set(edges_ms)) or any(not edge > 0 for edge in edges_ms):
            raise ValueError(f"Lagrangian: bin_edges_ms: must ascend from above 0, got {edges_ms}")
        if not 0 < target_miss_rate < 1:
            raise ValueError(f"Lagrangian: target_miss_rate: must be in (0, 1), got {target_miss_rate}")
        if not learning_rate > 0 or not first_price >= 0:
            raise ValueError(
                "Lagrangian: learning_rate must be above 0 and first_price 0 or more, "
                f"got {learning_rate} and {first_price}"
            )
        self.bin_edges_ms = edges_ms
        self.first_price = first_price
        self.target_miss_rate = target_miss_rate
        self.learning_rate = learning_rate
        self.register_buffer("price_N", torch.full((len(edges_ms) + 1,), first_price))
        self.register_buffer("_edges_ms", torch.tensor(edges_ms, dtype=torch.float32))

    def forward(self, accuracy_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> Tensor:
        """Return ``(batch, settings)`` rewards."""
        price_B = self.price_N[self._bin(budget_ms_B)]
        return accuracy_BS - price_B[:, None] * (latency_ms_BS > budget_ms_B[:, None])

    @torch.no_grad()
    def update(self, probability_BS: Tensor, latency_ms_BS: Tensor, budget_ms_B: Tensor) -> None:
        """Move each bin's price by what its requests, in all processes, are expected to be late too often."""
        late_B = (probability_BS * (latency_ms_BS > budget_ms_B[:, None])).sum(dim=-1)
        bin_B = self._bin(budget_ms_B)
        late_and_count_2N = torch.stack(
            [
                torch.zeros_like(self.price_N).index_add_(0, bin_B, late_B),
                torch.zeros_like(self.price_N).index_add_(0, bin_B, torch.ones_like(late_B)),
            ]
        )
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(late_and_count_2N)
        late_N, count_N = late_and_count_2N
        too_many_N = (late_N / count_N.clamp(min=1) - self.target_miss_rate) * (count_N > 0)
        self.price_N.add_(too_many_N, alpha=self.learning_rate).clamp_(min=0)

    def diagnostics(self) -> dict[str, Tensor]:
        """Return each bin's price as ``price/from_<edge>_ms``; the first bin begins at 0."""
        starts_ms = [0.0, *self.bin_edges_ms]
        return {f"price/from_{start_ms:g}_ms": price for start_ms, price in zip(starts_ms, self.price_N, strict=True)}

    def _bin(self, budget_ms_B: Tensor) -> Tensor:
        bin_B: Tensor = torch.bucketize(budget_ms_B, self._edges_ms, right=True)
        return bin_B
