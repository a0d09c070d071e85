"""Teach vision tokens what their patches show: a loss beside that of the answers, where pictures are labelled."""

# Shape suffixes: B = requests, R = rows and columns of labelled cells, C = crops, P = patches in a crop, T = pooled
# tokens in a crop, V = patches in a pooling window (4), L = labels, D = width of the language model.

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.tiling import ImageLayout

UNKNOWN = 255  # label of a cell of which nothing is known
_NOTHING = 0
_NOTHING_WEIGHT = 0.1  # most patches show nothing


class PatchLabels(nn.Module):
    """Name what each patch shows, from the vision token that it was pooled into.

    Args:
        hidden_dim: Width of the vision tokens.
        num_labels: How many labels there are; 0 is "nothing".
    """

    def __init__(self, hidden_dim: int, num_labels: int) -> None:
        super().__init__()
        self.weight_L: Tensor
        self.num_labels = num_labels
        self.linear = nn.Linear(hidden_dim, 4 * num_labels)
        self.register_buffer(
            "weight_L", torch.ones(num_labels).index_fill(0, torch.tensor([_NOTHING]), _NOTHING_WEIGHT)
        )

    def forward(self, vision_tokens_BCTD: Tensor) -> Tensor:
        """Return ``(batch, crops, tokens, window, labels)`` logits."""
        logits: Tensor = self.linear(vision_tokens_BCTD).unflatten(-1, (4, self.num_labels))
        return logits

    def loss(self, logits_BCTVL: Tensor, cells_BRR: Tensor, layout: ImageLayout) -> Tensor:
        """Compare logits with the labels of pictures, cell by cell; unknown cells do not count.

        Args:
            logits_BCTVL: From ``forward``.
            cells_BRR: ``(batch, rows, columns)``, uint8: label of each cell of the square pictures.
            layout: How the pictures were cut.
        """
        rows_CP, columns_CP = patch_cells(layout, cells_BRR.shape[-1])
        device = cells_BRR.device
        rows_CP, columns_CP = (index.to(device, non_blocking=True) for index in (rows_CP, columns_CP))
        side = layout.geometry.tokens_per_side
        label_BCP = cells_BRR[:, rows_CP, columns_CP]
        windows = label_BCP.unflatten(-1, (side, 2, side, 2)).transpose(-3, -2)
        return F.cross_entropy(
            logits_BCTVL.flatten(0, -2).float(), windows.flatten().long(), weight=self.weight_L, ignore_index=UNKNOWN
        )


def patch_cells(layout: ImageLayout, num_cells: int) -> tuple[Tensor, Tensor]:
    """Say in which cell of a square picture the middle of each patch lies.

    Args:
        layout: How the picture was cut; it fills the canvas.
        num_cells: Cells along a side of the picture.

    Returns:
        Row and column, each ``(crops, patches)``, int64.
    """
    geometry = layout.geometry
    middle = (torch.arange(geometry.patches_per_side) + 0.5) * geometry.patch_pixels

    def cells(start_C: Tensor, canvas_pixels: int) -> Tensor:
        share = (start_C[:, None] + middle) / canvas_pixels
        return (share * num_cells).long()

    height, width = layout.canvas_pixels
    rows = cells(torch.arange(layout.rows) * geometry.window_pixels, height)
    columns = cells(torch.arange(layout.columns) * geometry.window_pixels, width)
    shape = (layout.rows, layout.columns, geometry.patches_per_side, geometry.patches_per_side)
    overview = cells(torch.zeros(1), geometry.crop_pixels)[0]
    side = geometry.patches_per_side
    row_CP = rows[:, None, :, None].expand(shape).reshape(-1, side**2)
    column_CP = columns[None, :, None, :].expand(shape).reshape(-1, side**2)
    return (
        torch.cat([overview.repeat_interleave(side)[None], row_CP]),
        torch.cat([overview.repeat(side)[None], column_CP]),
    )
