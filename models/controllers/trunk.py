"""What every controller network begins with: a budget and features, turned into a hidden state."""

# Shape suffixes: B = requests, N = training samples, F = features, H = hidden units.

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.controllers.budget_encoding import EncodingName, budget_encoding


class Standardize(nn.Module):
    """Bring each feature to mean 0 and spread 1 over the training samples; as given until they are known.

    Args:
        num_features: How many there are.
    """

    mean_F: Tensor
    scale_F: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(num_features))
        self.register_buffer("scale_F", torch.ones(num_features))

    @torch.no_grad()
    def fit(self, features_NF: Tensor) -> None:
        """Take mean and spread of training samples, ``(samples, features)``; a constant feature keeps its scale."""
        std_F = features_NF.std(dim=0, correction=0)
        self.use(features_NF.mean(dim=0), torch.where(std_F > 0, std_F, 1.0))

    @torch.no_grad()
    def use(self, mean_F: Tensor, scale_F: Tensor) -> None:
        """Take a mean and a spread that are known, both ``(features,)``."""
        self.mean_F.copy_(mean_F)
        self.scale_F.copy_(scale_F)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Return ``(batch, features)``."""
        return (features_BF - self.mean_F) / self.scale_F


class Trunk(nn.Module):
    """A small perceptron on the encoded budget and standardised features.

    Args:
        num_features: Features to standardise; 0 for a network that knows only the budget.
        fastest_ms: Reference time of the device that budgets are encoded by; see ``BudgetEncoding``.
        slowest_ms: The other one.
        num_plain: Inputs to take as they are, such as a level of a knob.
        hidden_dim: Units of a layer.
        num_layers: Layers.
        encoding: How budgets are encoded.

    Raises:
        ValueError: If a number is too small.
    """

    def __init__(
        self,
        num_features: int,
        *,
        fastest_ms: float,
        slowest_ms: float,
        num_plain: int = 0,
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
    ) -> None:
        super().__init__()
        for field, number in (("hidden_dim", hidden_dim), ("num_layers", num_layers)):
            if number < 1:
                raise ValueError(f"controller: {field}: must be 1 or more, got {number}")
        self.budget = budget_encoding(encoding, fastest_ms, slowest_ms)
        self.standardize = Standardize(num_features)
        widths = [self.budget.num_units + num_features + num_plain] + [hidden_dim] * num_layers
        layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.GELU())]
        self.layers = nn.Sequential(*layers)

    def forward(self, budget_ms_B: Tensor, features_BF: Tensor, plain_BP: Tensor | None = None) -> Tensor:
        """Return ``(batch, hidden_dim)``.

        Args:
            budget_ms_B: ``(batch,)``.
            features_BF: ``(batch, num_features)``.
            plain_BP: ``(batch, num_plain)``.

        Raises:
            ValueError: If there are more or fewer features than the network reads.
        """
        num_features = self.standardize.mean_F.shape[0]
        if features_BF.shape[1] != num_features:
            raise ValueError(f"features: the network reads {num_features} of each request, got {features_BF.shape[1]}")
        inputs = [self.budget(budget_ms_B), self.standardize(features_BF)]
        if plain_BP is not None:
            inputs.append(plain_BP)
        hidden_BH: Tensor = self.layers(torch.cat(inputs, dim=1))
        return hidden_BH
