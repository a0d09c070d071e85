"""Images of COCO 2014, which several datasets ask about."""

import re
from pathlib import Path
from typing import Final

from profiling.datasets.sample import ImageFile

_FILE_NAME: Final = re.compile(r"COCO_(train|val|test)20\d\d_(?P<number>\d{12})\.jpg")


def coco_image(root: Path, folder: str, number: int) -> ImageFile:
    """Return an image by its folder, such as ``val2014``, and number."""
    return ImageFile(path=root / "coco" / folder / f"COCO_{folder}_{number:012}.jpg")


def coco_image_id(number: int) -> str:
    """Return the id that an image has in every dataset; numbers are unique over COCO's folders."""
    return f"coco/{number}"


def coco_number(file_name: str) -> int | None:
    """Return the number of an image that is named as COCO names them, else nothing."""
    match = _FILE_NAME.fullmatch(file_name)
    return int(match["number"]) if match else None
