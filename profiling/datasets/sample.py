"""What every dataset is read into."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from PIL import Image, ImageOps


class ImageSource(Protocol):
    """An image that is opened when it is needed, by a worker, and can be sent to one."""

    def open(self) -> Image.Image:
        """Decode the image to RGB, turned upright.

        Raises:
            ValueError: If there is none or it is broken; the message names it.
        """


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image in a file of its own.

    Args:
        path: The file.
    """

    path: Path

    def open(self) -> Image.Image:
        """See ``ImageSource``."""
        try:
            with self.path.open("rb") as file:
                return decode_rgb(file, name=str(self.path))
        except FileNotFoundError as err:
            raise ValueError(f"{self.path}: no such image") from err
        except OSError as err:
            raise ValueError(f"{self.path}: cannot be read: {err.strerror}") from err


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A question about an image.

    Args:
        dataset: Name of the dataset.
        split: Name of its part.
        sample_id: Unique within the dataset and split.
        image_id: Equal where two samples show the same image, over datasets that share images too: ``coco/…``.
        image: The image.
        question: The question alone, without a prompt's style.
        answers: What annotators answered, each as often as given; none where a test set keeps them back.
        options: Choices of a multiple-choice question, else empty; the answer is then one of them.
        question_has_options: Whether the question names its options itself, so that a prompt must not repeat them.
        tags: What results are reported apart by, such as ``{"kind": "complex"}``.
        budget_ms: Time that the answer may take, where the question says so.
    """

    dataset: str
    split: str
    sample_id: str
    image_id: str
    image: ImageSource
    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    question_has_options: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    budget_ms: float | None = None


def decode_rgb(file: BinaryIO, *, name: str) -> Image.Image:
    """Decode an image to RGB, turned upright as its EXIF data says, transparency dropped.

    Args:
        file: The encoded image.
        name: What an error calls it.

    Raises:
        ValueError: If it is broken, or has more than 8 bits a channel, which would be clipped.
    """
    try:
        with Image.open(file) as image:
            mode = image.mode
            upright = None if mode[0] in "IF" else _as_rgb(ImageOps.exif_transpose(image))
    # What Pillow's decoders let through for one broken file or another.
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError) as err:
        raise ValueError(f"{name}: cannot be decoded as an image: {err}") from err
    if upright is None:
        raise ValueError(f"{name}: expected 8 bits a channel, found a picture of mode {mode!r}")
    return upright


def _as_rgb(image: Image.Image) -> Image.Image:
    # Straight from a palette with transparency Pillow warns, though nothing else is lost.
    return (image.convert("RGBA") if image.has_transparency_data else image).convert("RGB")
