"""Teach vision tokens what their patches show: a loss beside that of the answers, where pictures are labelled."""

# Shape suffixes: B = requests, R = rows and columns of labelled cells, C = crops, P = patches in a crop, T = pooled
# tokens in a crop, V = patches in a pooling window (4), L = labels, D = width of the language model, N = points along a
# side of a crop.

from functools import cache

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
        rows_CP, columns_CP = patch_cells(layout, cells_BRR.shape[-1], cells_BRR.device)
        side = layout.geometry.tokens_per_side
        label_BCP = cells_BRR[:, rows_CP, columns_CP]
        windows = label_BCP.unflatten(-1, (side, 2, side, 2)).transpose(-3, -2)
        return F.cross_entropy(
            logits_BCTVL.flatten(0, -2).float(), windows.flatten().long(), weight=self.weight_L, ignore_index=UNKNOWN
        )


@cache
def patch_cells(layout: ImageLayout, num_cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Say in which cell of a square picture the middle of each patch lies.

    Args:
        layout: How the picture was cut; it fills the canvas.
        num_cells: Cells along a side of the picture.
        device: Where the result is needed, and kept: there are few layouts.

    Returns:
        Row and column, each ``(crops, patches)``, int64.
    """
    middle = (torch.arange(layout.geometry.patches_per_side) + 0.5) * layout.geometry.patch_pixels
    row_CP, column_CP = cells_along(layout, middle, num_cells)
    return row_CP.to(device), column_CP.to(device)


def cells_along(layout: ImageLayout, middle_N: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    """Say in which cell of a square picture points of its crops lie; a point on an edge is in the later cell.

    Args:
        layout: How the picture was cut; it fills the canvas.
        middle_N: Places of the points along a side of a crop, in pixels.
        num_cells: Cells along a side of the picture.

    Returns:
        Row and column, each ``(crops, points of a crop row by row)``, int64.
    """
    geometry = layout.geometry

    def cells(start_C: Tensor, canvas_pixels: int) -> Tensor:
        # Divided last: whole numbers of cells stay whole.
        return ((start_C[:, None] + middle_N) * num_cells / canvas_pixels).long()

    height, width = layout.canvas_pixels
    rows = cells(torch.arange(layout.rows) * geometry.window_pixels, height)
    columns = cells(torch.arange(layout.columns) * geometry.window_pixels, width)
    side = len(middle_N)
    shape = (layout.rows, layout.columns, side, side)
    overview = cells(torch.zeros(1), geometry.crop_pixels)[0]
    image_rows = rows[:, None, :, None].expand(shape).reshape(-1, side**2)
    image_columns = columns[None, :, None, :].expand(shape).reshape(-1, side**2)
    return (
        torch.cat([overview.repeat_interleave(side)[None], image_rows]),
        torch.cat([overview.repeat(side)[None], image_columns]),
    )
