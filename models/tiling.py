"""How an image is cut into crops, and how many tokens that makes: a function of its size alone, no pixels needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from models.config import MolmoConfig
from models.knobs import Tier, Tiling

DROPPED = -100
_POOLING = 2


@dataclass(frozen=True, kw_only=True)
class CropGeometry:
    """Sizes that the cutting of an image depends on. Crops are square and overlap by their margins.

    Args:
        crop_pixels: Side of a crop in pixels.
        patch_pixels: Side of a patch in pixels.
        left_margin: Patches at the left and at the top of a crop that repeat its neighbour's.
        right_margin: Patches at the right and at the bottom of a crop that repeat its neighbour's.
        max_crops: Most crops when no tier is asked for, the overview not counted.

    Raises:
        ValueError: If patches do not fill the crop, the 2x2 pooling would straddle a margin, or nothing is left between
            the margins.
    """

    crop_pixels: int
    patch_pixels: int
    left_margin: int
    right_margin: int
    max_crops: int

    def __post_init__(self) -> None:
        if self.crop_pixels % self.patch_pixels:
            raise ValueError(
                f"image_size: must be a multiple of the patch size {self.patch_pixels}, got {self.crop_pixels}"
            )
        for patches in (self.left_margin, self.right_margin):
            if patches < 0 or patches % _POOLING:
                raise ValueError(f"overlap_margins: 2x2 pooling needs even numbers of patches, got {patches}")
        if self.patches_per_side % _POOLING:
            raise ValueError(f"image_size: 2x2 pooling needs an even number of patches, got {self.patches_per_side}")
        if self.window_pixels <= 0:
            raise ValueError(
                f"overlap_margins: must leave part of the {self.patches_per_side} patches of a crop, "
                f"got {self.left_margin} and {self.right_margin}"
            )

    @classmethod
    def from_config(cls, config: MolmoConfig) -> "CropGeometry":
        """Read the geometry of a model.

        Raises:
            ValueError: If the model's crops are not square or do not fit their patches and margins.
        """
        height, width = config.vision.image_size
        if height != width:
            raise ValueError(f"image_size: crops must be square as in every released Molmo, got {height}x{width}")
        left_margin, right_margin = config.overlap_margins
        return cls(
            crop_pixels=height,
            patch_pixels=config.vision.patch_size,
            left_margin=left_margin,
            right_margin=right_margin,
            max_crops=config.max_crops,
        )

    @property
    def patches_per_side(self) -> int:
        """Patches along a side of a crop."""
        return self.crop_pixels // self.patch_pixels

    @property
    def overview_canvas(self) -> tuple[int, int]:
        """Height and width that the whole image is fitted into for the overview."""
        return self.crop_pixels, self.crop_pixels

    @property
    def margin_pixels(self) -> int:
        """Pixels of both margins together: what the outer crops add to the windows."""
        return (self.left_margin + self.right_margin) * self.patch_pixels

    @property
    def window_pixels(self) -> int:
        """Step from one crop to the next."""
        return self.crop_pixels - self.margin_pixels

    @property
    def tokens_per_side(self) -> int:
        """Pooled tokens along a side of a crop."""
        return self.patches_per_side // _POOLING

    @property
    def window_tokens(self) -> int:
        """Pooled tokens along a side of a crop's window."""
        return self.tokens_per_side - (self.left_margin + self.right_margin) // _POOLING


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """An image cut into ``rows`` x ``columns`` crops, beside the overview.

    In the sequence the overview comes first, then the image: each is a start token, its rows of vision tokens with a
    column token after each row, and an end token.

    Args:
        rows: Crops from top to bottom.
        columns: Crops from left to right.
        geometry: Sizes of the crops.
    """

    rows: int
    columns: int
    geometry: CropGeometry

    @property
    def num_crops(self) -> int:
        """Crops that the vision encoder sees, the overview included."""
        return 1 + self.rows * self.columns

    @property
    def canvas_pixels(self) -> tuple[int, int]:
        """Height and width that the image is fitted into before it is cut."""
        window, margin = self.geometry.window_pixels, self.geometry.margin_pixels
        return self.rows * window + margin, self.columns * window + margin

    @property
    def token_grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of vision tokens: of the overview, and of the image without its overlaps."""
        side, window = self.geometry.tokens_per_side, self.geometry.window_tokens
        margin = side - window
        return (side, side), (self.rows * window + margin, self.columns * window + margin)

    @property
    def num_vision_tokens(self) -> int:
        """Vision tokens that reach the language model, those of the overview included."""
        return sum(rows * columns for rows, columns in self.token_grids)

    @property
    def num_layout_tokens(self) -> int:
        """Start, column and end tokens around the vision tokens."""
        return sum(rows + 2 for rows, _ in self.token_grids)

    @property
    def num_tokens(self) -> int:
        """Ids that the image takes in the sequence."""
        return self.num_vision_tokens + self.num_layout_tokens

    def token_positions(self) -> Tensor:
        """Say where each pooled token of each crop goes.

        Returns:
            ``(crops, tokens_per_crop)``, int64: position counted from the image's first id; ``DROPPED`` where the token
            repeats a neighbour's.
        """
        side, window = self.geometry.tokens_per_side, self.geometry.window_tokens
        (overview_rows, overview_columns), (_, image_columns) = self.token_grids
        along = torch.arange(side)
        # Each grid is preceded by its start token; each of its rows is one id longer than its vision tokens.
        overview = 1 + along[:, None] * (overview_columns + 1) + along
        image_start = overview_rows * (overview_columns + 1) + 2
        row = torch.arange(self.rows)[:, None] * window + along
        column = torch.arange(self.columns)[:, None] * window + along
        image = image_start + 1 + row[:, None, :, None] * (image_columns + 1) + column[None, :, None, :]
        is_kept = self._is_kept(self.rows)[:, None, :, None] & self._is_kept(self.columns)[None, :, None, :]
        image = image.where(is_kept, DROPPED)
        return torch.cat([overview.reshape(1, -1), image.reshape(-1, side * side)])

    def _is_kept(self, num_crops: int) -> Tensor:
        """``(crops, tokens_per_side)`` bool along one axis: inner margins are dropped, outer ones kept."""
        first = self.geometry.left_margin // _POOLING
        is_kept = torch.zeros(num_crops, self.geometry.tokens_per_side, dtype=torch.bool)
        is_kept[:, first : first + self.geometry.window_tokens] = True
        is_kept[0, :first] = True
        is_kept[-1, first + self.geometry.window_tokens :] = True
        return is_kept


def choose_tiling(height: int, width: int, *, window: int, margin_pixels: int, max_crops: int) -> tuple[int, int]:
    """Cut an image as the released models do: ``max_crops`` is an upper bound.

    Of the tilings that need no downscaling the one that upscales least, else the one that downscales least. Where
    several are equal the one with fewest crops, then fewest rows.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        window: Step from one crop to the next in pixels.
        margin_pixels: Pixels of both margins of a crop.
        max_crops: Most crops.

    Returns:
        Rows and columns of crops.
    """
    tilings = _tilings(1, max_crops)
    # float32 throughout: near-ties must fall as they did when the released models were trained.
    content = np.array([height - margin_pixels, width - margin_pixels], dtype=np.float32)
    with np.errstate(divide="ignore"):
        scale = ((tilings * window).astype(np.float32) / content).min(axis=1)
    fits = scale >= 1
    best = np.where(fits, scale, np.float32(1e10)).argmin() if fits.any() else scale.argmax()
    rows, columns = tilings[best].tolist()
    return rows, columns


def choose_target_tiling(
    height: int, width: int, *, window: int, margin_pixels: int, min_crops: int, max_crops: int
) -> tuple[int, int]:
    """Cut an image into at least ``min_crops`` and at most ``max_crops`` crops, however small it is.

    The tiling that wastes least on padding: the one whose aspect ratio is nearest to the image's. Where several
    are equal the one with fewest crops, then fewest rows. The image is scaled up or down to fill it.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        window: Step from one crop to the next in pixels.
        margin_pixels: Pixels of both margins of a crop.
        min_crops: Fewest crops.
        max_crops: Most crops.

    Returns:
        Rows and columns of crops.
    """
    tilings = _tilings(min_crops, max_crops)
    canvas = tilings * window + margin_pixels
    # Share of the canvas that the fitted image covers. Exact integers first, so that mirrored tilings tie exactly.
    by_width, by_height = canvas[:, 0] * width, canvas[:, 1] * height
    covered_fraction = np.minimum(by_width, by_height) / np.maximum(by_width, by_height)
    rows, columns = tilings[covered_fraction.argmax()].tolist()
    return rows, columns


def image_layout(
    height: int, width: int, geometry: CropGeometry, *, tier: Tier | None = None, tiling: Tiling = "target"
) -> ImageLayout:
    """Say how an image is cut.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        geometry: Sizes of the crops.
        tier: Range of crops; ``None`` cuts as the released model does, whatever ``tiling`` says.
        tiling: Whether the tier is aimed at (``target``) or only bounds the crops from above (``upper_bound``) and so
            does nothing to images that already fit.

    Raises:
        ValueError: If the image has no pixels or the tiling is unknown.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image: needs at least 1x1 pixels, got height {height} and width {width}")
    if tiling not in ("upper_bound", "target"):
        raise ValueError(f"tiling: must be 'upper_bound' or 'target', got {tiling!r}")
    window, margin = geometry.window_pixels, geometry.margin_pixels
    if tier is not None and tiling == "target":
        rows, columns = choose_target_tiling(
            height, width, window=window, margin_pixels=margin, min_crops=tier.min_crops, max_crops=tier.max_crops
        )
    else:
        max_crops = geometry.max_crops if tier is None else tier.max_crops
        rows, columns = choose_tiling(height, width, window=window, margin_pixels=margin, max_crops=max_crops)
    return ImageLayout(rows=rows, columns=columns, geometry=geometry)


def tier_changes(
    sizes: Sequence[tuple[int, int]], tiers: Sequence[Tier], geometry: CropGeometry, *, tiling: Tiling = "target"
) -> dict[str, int]:
    """Count the images that each tier cuts otherwise than the tier below it: a tier that changes none does nothing.

    Args:
        sizes: Height and width of each image.
        tiers: Cheapest first.
        geometry: Sizes of the crops.
        tiling: How the tiers are applied.

    Returns:
        Number of images by name of the tier; the cheapest tier has none below it and is left out.
    """
    layouts = [[image_layout(*size, geometry, tier=tier, tiling=tiling) for size in sizes] for tier in tiers]
    return {
        tier.name: sum(here != below for here, below in zip(layouts[i], layouts[i - 1], strict=True))
        for i, tier in enumerate(tiers)
        if i > 0
    }


@cache
def _tilings(min_crops: int, max_crops: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Every ``(rows, columns)`` with that many crops, fewest crops first, then fewest rows."""
    tilings = [
        (rows, crops // rows)
        for crops in range(min_crops, max_crops + 1)
        for rows in range(1, crops + 1)
        if crops % rows == 0
    ]
    return np.array(tilings, dtype=np.int64)
