"""COCO captions: one sample an image, its captions the answers."""

from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.coco import coco_image, coco_image_id
from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import Sample

NAME: Final = "coco_caption"
SPLITS: Final = {"train": "train2014", "validation": "val2014"}
SOURCE: Final = "COCO 2014 train/val annotations (https://cocodataset.org/#download)"
QUESTION: Final = "Describe this image in one sentence."


class _Image(OfficialRecord):
    id: int


class _Caption(OfficialRecord):
    id: int
    image_id: int
    caption: str = Field(min_length=1)


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train`` or ``validation``.

    Raises:
        DatasetError: If there is no such split, the file is missing or broken, or an image has no caption.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    file = OfficialFile(path=root / NAME / f"captions_{part}.json", source=SOURCE)
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=str(number),
            image_id=coco_image_id(number),
            image=coco_image(root, part, number),
            question=QUESTION,
            answers=tuple(captions),
        )
        for number, captions in _captions_by_image(file).items()
    ]


def _captions_by_image(file: OfficialFile) -> dict[int, list[str]]:
    images = file.records(_Image, id_fields=("id",), key="images")
    captions: dict[int, list[str]] = {image.id: [] for image in images}
    for index, record in enumerate(file.records(_Caption, id_fields=("id",), key="annotations")):
        if record.image_id not in captions:
            where = f"annotations[{index}] (id {record.id})"
            raise DatasetError(f"{file.path}: {where}: image_id: expected one of images, found {record.image_id}")
        captions[record.image_id].append(record.caption)
    bare = next((number for number, texts in captions.items() if not texts), None)
    if bare is not None:
        raise DatasetError(f"{file.path}: images: expected a caption of every image, found none of id {bare}")
    return captions
