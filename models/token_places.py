"""Teach vision tokens where they are in the whole picture: a loss beside that of the answers, which needs no labels.

A vision token sees the order of its sequence and nothing else of its place: the released models have no embedding of
rows and columns in the language model. Answers alone teach places late, and whatever compares or looks up needs them.
"""

# Shape suffixes: B = requests, S = ids in front of the text, D = width of the language model, A = axes (row, column),
# P = places along a side of the picture.

from functools import cache
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.patch_labels import cells_along
from models.tiling import ImageLayout

NUM_PLACES: Final = 24  # rows and columns; tokens of a square picture in nine crops lie two apart
_NOWHERE: Final = -100  # target of ids that are no vision tokens


class TokenPlaces(nn.Module):
    """Name the row and the column of the picture in which the middle of each vision token lies.

    Args:
        hidden_dim: Width of the language model.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_dim, 2 * NUM_PLACES)

    def forward(self, hidden_BSD: Tensor) -> Tensor:
        """Return ``(batch, sequence, 2, places)`` logits for hidden states that no norm has been applied to."""
        normed_BSD = F.rms_norm(hidden_BSD, hidden_BSD.shape[-1:])
        logits: Tensor = self.linear(normed_BSD).unflatten(-1, (2, NUM_PLACES))
        return logits

    def loss(self, logits_BSAP: Tensor, layout: ImageLayout) -> Tensor:
        """Compare logits with where the tokens are, those of the overview included.

        Args:
            logits_BSAP: From ``forward``, of the begin id and the image's ids behind it.
            layout: How the pictures were cut.
        """
        target_SA = token_places(layout, logits_BSAP.device)
        return F.cross_entropy(
            logits_BSAP.flatten(0, -2).float(),
            target_SA.expand(len(logits_BSAP), -1, -1).flatten(),
            ignore_index=_NOWHERE,
        )


@cache
def token_places(layout: ImageLayout, device: torch.device) -> Tensor:
    """Say in which row and column of the picture the middle of each vision token lies.

    Args:
        layout: How the picture was cut; it fills the canvas.
        device: Where the result is needed, and kept: there are few layouts.

    Returns:
        ``(1 + the image's ids, 2)``, int64: for the begin id and the image's, -100 where an id is no vision token.
    """
    geometry = layout.geometry
    side = geometry.tokens_per_side
    middle = (torch.arange(side) + 0.5) * (geometry.crop_pixels / side)
    position = layout.token_positions().flatten()
    is_kept = position >= 0
    target_SA = torch.full((1 + layout.num_tokens, 2), _NOWHERE)
    for axis, place in enumerate(cells_along(layout, middle, NUM_PLACES)):
        target_SA[1 + position[is_kept], axis] = place.flatten()[is_kept]
    return target_SA.to(device)
