"""From a picture to the crops that the vision encoder reads, exactly as the released models were trained."""

# Shape suffixes: N = images of one size, H, W = their height and width, C = crops (overview first), P = patches in a
# crop, D = numbers in a patch.

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from models.config import MolmoConfig
from models.inputs import PAD
from models.knobs import Tier, Tiling
from models.tiling import CropGeometry, ImageLayout, image_layout

ImageLike = Image.Image | NDArray[np.uint8]

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SIZES_KEPT: Final = 256


def preprocessor_config(config: MolmoConfig) -> dict[str, Any]:
    """Return what the ``preprocessor_config.json`` of a released model says, for a model of any shape."""
    rows, columns = config.pooled_grid
    return {
        "base_image_input_size": list(config.vision.image_size),
        "do_normalize": True,
        "image_mean": list(_CLIP_MEAN),
        "image_std": list(_CLIP_STD),
        "image_padding_mask": True,
        "image_patch_size": config.vision.patch_size,
        "image_token_length_h": rows,
        "image_token_length_w": columns,
        "max_crops": config.max_crops,
        "overlap_margins": list(config.overlap_margins),
    }


@dataclass(frozen=True, kw_only=True)
class ProcessedImage:
    """An image as the model takes it.

    Args:
        crops: ``(crops, patches, patch_dim)``, float32, normalised; the overview first, then row by row.
        patch_mask: ``(crops, patches)``, float32: share of each patch that shows the image. As in the released models
            the rows are one crop late: row 0 belongs to the first crop after the overview, and the last row is -1.
            Pictures of one size share this memory.
        layout: How the image was cut.
    """

    crops: Tensor
    patch_mask: Tensor
    layout: ImageLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """A whole image as one crop, and what its other crops are cut from once a tier is chosen.

    Args:
        pixels: ``(3, height, width)``, float32 in [0, 1]: the image.
        crop: ``(patches, patch_dim)``, float32, normalised: the same at every tier.
        patch_mask: ``(patches,)``, float32: share of each patch that shows the image.
    """

    pixels: Tensor
    crop: Tensor
    patch_mask: Tensor


class ImageProcessor:
    """Cut images into normalised crops.

    On a GPU only the picture's bytes are sent there; what is cut there differs from the CPU's crops by rounding.

    Args:
        config: The model's shape.
        device: Where images are cut, and where the crops are then.

    Raises:
        ValueError: If the model's crops, patches and margins do not fit together.
    """

    def __init__(self, config: MolmoConfig, *, device: torch.device | str = "cpu") -> None:
        self.geometry = CropGeometry.from_config(config)
        self.device = torch.device(device)
        # Of each device that pictures are on; and what follows from sizes alone, of which there are few.
        self._colors = cache(_Colors.on)
        self._patch_mask = lru_cache(_SIZES_KEPT)(self._patch_mask_of)

    def overview(self, image: ImageLike) -> Overview:
        """Cut the overview alone.

        Args:
            image: See ``__call__``.

        Raises:
            ValueError: If the image is empty, of another type or shape, or so thin that nothing of it would be left.
        """
        pixels_3HW = _as_pixels(_as_array(image), self.device)
        crop_11PD = self._room(1, 1, self.device)
        mask_2P = self._cut(pixels_3HW[None], self.geometry.overview_canvas, crop_11PD)
        return Overview(pixels=pixels_3HW, crop=crop_11PD[0, 0], patch_mask=mask_2P[0])

    def __call__(
        self, image: ImageLike | Overview, *, tier: Tier | None = None, tiling: Tiling = "target"
    ) -> ProcessedImage:
        """Cut an image.

        Args:
            image: A picture (turned upright as its EXIF data says, transparency dropped), or an array
                ``(height, width, 3)``, uint8, RGB; or its overview, which is then not cut again.
            tier: Range of crops; ``None`` cuts as the released model does.
            tiling: How the tier is applied, see ``image_layout``.

        Raises:
            ValueError: If the image is empty, of another type or shape, or so thin that nothing of it would be left.
        """
        if isinstance(image, Overview):
            pixels_3HW, overview_1PD = image.pixels, image.crop[None]
        else:
            pixels_3HW, overview_1PD = _as_pixels(_as_array(image), self.device), None
        batch = self.cut_batch(pixels_3HW[None], tier=tier, tiling=tiling, overviews_NPD=overview_1PD)
        return ProcessedImage(crops=batch.crops[0], patch_mask=batch.patch_mask, layout=batch.layout)

    def cut_batch(
        self,
        pixels_N3HW: Tensor,
        *,
        tier: Tier | None = None,
        tiling: Tiling = "target",
        overviews_NPD: Tensor | None = None,
    ) -> ProcessedImage:
        """Cut images of one size in one go, on the device where they are.

        Args:
            pixels_N3HW: ``(images, 3, height, width)``, uint8, or float32 in [0, 1].
            tier: Range of crops; ``None`` cuts as the released model does.
            tiling: How the tier is applied, see ``image_layout``.
            overviews_NPD: ``(images, patches, patch_dim)``: their overviews, where they are cut already.

        Returns:
            The images with one dimension more in front of ``crops``; what they share is there once.

        Raises:
            ValueError: If the images are so thin that nothing of them would be left.
        """
        if pixels_N3HW.dtype == torch.uint8:
            pixels_N3HW = _in_unit_range(pixels_N3HW)
        num_images, _, height, width = pixels_N3HW.shape
        layout = image_layout(height, width, self.geometry, tier=tier, tiling=tiling)
        crops = self._room(num_images, layout.num_crops, pixels_N3HW.device)
        if overviews_NPD is None:
            self._cut(pixels_N3HW, self.geometry.overview_canvas, crops[:, :1])
        else:
            crops[:, 0] = overviews_NPD
        patch_mask = self._cut(pixels_N3HW, layout.canvas_pixels, crops[:, 1:])
        return ProcessedImage(crops=crops, patch_mask=patch_mask, layout=layout)

    def _room(self, num_images: int, num_crops: int, device: torch.device) -> Tensor:
        """Allocate ``(images, crops, patches, patch_dim)``."""
        num_patches, patch_dim = self.geometry.patches_per_side**2, 3 * self.geometry.patch_pixels**2
        return torch.empty(num_images, num_crops, num_patches, patch_dim, device=device)

    def _cut(self, pixels_N3HW: Tensor, canvas: tuple[int, int], out_NCPD: Tensor) -> Tensor:
        """Fit images into a canvas, centred, and cut that into ``out``; return its patch mask."""
        device = out_NCPD.device
        colors, fitted = self._colors(device), _fitted_size(pixels_N3HW, canvas)
        resized = F.interpolate(pixels_N3HW, size=fitted, mode="bilinear", antialias=True)
        # Its weights are shares of one, so colours stay within their range. Channels come last here, as they do in a
        # patch: then patches are copied in runs.
        full = colors.black.expand(len(resized), *canvas, 3).clone()
        top, left = _margins(canvas, fitted)
        inside = full[:, top : top + fitted[0], left : left + fitted[1]]
        torch.addcmul(colors.black, resized.permute(0, 2, 3, 1), colors.scale, out=inside)
        patches = self._patches(full)
        out_NCPD.view(patches.shape).copy_(patches)
        return self._patch_mask(canvas, fitted, device)

    def _patches(self, canvas: Tensor) -> Tensor:
        """View ``(images, height, width, 3)`` by image, row, column, patch row and column, y, x, channel."""
        side, step, patch = self.geometry.crop_pixels, self.geometry.window_pixels, self.geometry.patch_pixels
        crops = canvas.unfold(1, side, step).unfold(2, side, step)
        return crops.unfold(4, patch, patch).unfold(5, patch, patch).permute(0, 1, 2, 4, 5, 6, 7, 3)

    @torch.inference_mode(mode=False)  # or what is kept could not be trained with later
    def _patch_mask_of(self, canvas: tuple[int, int], fitted: tuple[int, int], device: torch.device) -> Tensor:
        """``(crops + 1, patches)``: each patch's share of real pixels.

        The overview went to the front but the missing row to the end: so the released models were trained.
        """
        top, left = _margins(canvas, fitted)
        rows = self._real_pixels(canvas[0], top, fitted[0])
        columns = self._real_pixels(canvas[1], left, fitted[1])
        real_pixels = rows[:, None, :, None] * columns[None, :, None, :]
        share_CP = real_pixels.reshape(len(rows) * len(columns), -1).to(torch.float32) / self.geometry.patch_pixels**2
        return F.pad(share_CP, (0, 0, 0, 1), value=PAD).to(device)

    def _real_pixels(self, length: int, start: int, extent: int) -> Tensor:
        """``(crops, patches)`` along one axis: pixels of each patch that show the image."""
        is_real = torch.zeros(length, dtype=torch.int64, device="cpu")
        is_real[start : start + extent] = 1
        crops = is_real.unfold(0, self.geometry.crop_pixels, self.geometry.window_pixels)
        return crops.unfold(1, self.geometry.patch_pixels, self.geometry.patch_pixels).sum(dim=2)


class _Colors(NamedTuple):
    """Normalisation as one product and one sum.

    Args:
        black: ``(3,)`` what 0 becomes. Padding is black before normalisation, not zero after it.
        scale: ``(3,)`` what 1 adds to that.
    """

    black: Tensor
    scale: Tensor

    @classmethod
    @torch.inference_mode(mode=False)
    def on(cls, device: torch.device) -> "_Colors":
        mean, std = torch.tensor([_CLIP_MEAN, _CLIP_STD], dtype=torch.float64, device="cpu")
        return cls(*(numbers.to(device, torch.float32) for numbers in (-mean / std, 1 / std)))


def _as_array(image: ImageLike) -> NDArray[np.uint8]:
    """``(height, width, 3)`` uint8, RGB."""
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"image: needs at least 1x1 pixels, got height {image.height} and width {image.width}")
        if image.mode[0] in "IF":
            raise ValueError(
                f"image: needs 8 bits a channel, got a picture of mode {image.mode!r}; scale it down first"
            )
        array = np.array(_upright(image))
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ValueError(f"image: must be a PIL image or a uint8 array, got {type(image).__name__}")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"image: array must be uint8 of shape (height, width, 3), got {array.dtype} of shape {array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(f"image: needs at least 1x1 pixels, got height {array.shape[0]} and width {array.shape[1]}")
    return array


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF data says, and into RGB; nothing is copied where nothing is to be done."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _as_pixels(array: NDArray[np.uint8], device: torch.device) -> Tensor:
    """``(3, height, width)`` float32 in [0, 1]."""
    if device.type == "cuda":
        # Memory that is pinned from the start, or the host would wait for all that the device has been given.
        pinned = torch.empty(array.shape, dtype=torch.uint8, device="cpu", pin_memory=True)
        np.copyto(pinned.numpy(), array)
        bytes_HW3 = pinned.to(device, non_blocking=True)
    else:
        bytes_HW3 = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return _in_unit_range(bytes_HW3.permute(2, 0, 1))


def _in_unit_range(bytes_: Tensor) -> Tensor:
    """Turn bytes into contiguous float32 in [0, 1]."""
    return torch.div(bytes_, 255, out=torch.empty(bytes_.shape, dtype=torch.float32, device=bytes_.device))


def _fitted_size(pixels: Tensor, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image scaled to fit, in float32 as the released models round them."""
    height, width = np.float32(pixels.shape[-2]), np.float32(pixels.shape[-1])
    scale = min(np.float32(canvas[0]) / height, np.float32(canvas[1]) / width)
    fitted = int(height * scale), int(width * scale)
    if 0 in fitted:
        raise ValueError(
            f"image: too thin, {pixels.shape[-2]}x{pixels.shape[-1]} pixels (height x width) scaled to fit into "
            f"{canvas[0]}x{canvas[1]} leave nothing of it"
        )
    return fitted


def _margins(canvas: tuple[int, int], fitted: tuple[int, int]) -> tuple[int, int]:
    """Pixels above and to the left of an image that is centred in a canvas."""
    return (canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2
