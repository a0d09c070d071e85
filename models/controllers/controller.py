"""The one-stage controller: budget and features in, a logit for every setting out."""

# Shape suffixes: B = requests, F = features, S = settings.

from collections.abc import Sequence

from torch import Tensor, nn

from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName, make_head
from models.controllers.trunk import Trunk


class Controller(nn.Module):
    """Choose among the combinations of the knobs' levels.

    Which features a request has is the caller's business: free ones (image size, vision tokens of each tier, text
    length), the question's embedding, the vision embedding. They come concatenated, and are standardised by what
    ``trunk.standardize.fit`` was shown.

    Args:
        levels: How many levels each knob has: ``(tiers, top_k, counts of active blocks)``, or some of them.
        num_features: Features of a request; 0 for a network that knows only the budget.
        fastest_ms: Time below which hardly any setting of the device is in time.
        slowest_ms: Time above which nearly every setting is in time.
        head: ``joint``: a logit of its own for each combination; ``factorised``: sums of the levels' logits.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head.
        encoding: How budgets are encoded.

    Raises:
        ValueError: If a number is out of its range or a name unknown.
    """

    def __init__(
        self,
        levels: Sequence[int],
        num_features: int,
        *,
        fastest_ms: float,
        slowest_ms: float,
        head: HeadName = "joint",
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
    ) -> None:
        super().__init__()
        self.trunk = Trunk(
            num_features,
            fastest_ms=fastest_ms,
            slowest_ms=slowest_ms,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
        )
        self.head = make_head(head, hidden_dim, levels)

    def forward(self, budget_ms_B: Tensor, features_BF: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits, in the order of ``KnobGrid.settings``.

        Args:
            budget_ms_B: ``(batch,)`` milliseconds.
            features_BF: ``(batch, num_features)``.

        Raises:
            ValueError: If there are more or fewer features than the network reads.
        """
        logits_BS: Tensor = self.head(self.trunk(budget_ms_B, features_BF))
        return logits_BS
