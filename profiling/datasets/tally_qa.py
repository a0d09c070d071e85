"""TallyQA: how many, about images of COCO and Visual Genome. One sample a question."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import Field

from profiling.datasets.coco import coco_image_id, coco_number
from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import ImageFile, Sample
from profiling.datasets.visual_genome import coco_twins, visual_genome_image_id

NAME: Final = "tally_qa"
SPLITS: Final = {"train": "train", "test": "test"}
SOURCE: Final = "TallyQA (https://github.com/manoja328/tallyqa)"

_FOLDERS: Final = {"train2014": "coco", "val2014": "coco", "VG_100K": "visual_genome", "VG_100K_2": "visual_genome"}


class _Question(OfficialRecord):
    question_id: int
    data_source: str
    image: str
    question: str = Field(min_length=1)
    answer: int = Field(ge=0)
    issimple: bool | None = None


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train`` or ``test``. Only the test file says which questions are simple and which complex.

    Raises:
        DatasetError: If there is no such split, or the file is missing or broken.
    """
    file = OfficialFile(path=root / NAME / f"{split_name(SPLITS, split, dataset=NAME)}.json", source=SOURCE)
    # Each source numbers its questions.
    questions = list(file.records(_Question, id_fields=("data_source", "question_id")))
    twins = coco_twins(root)
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=f"{question.data_source}/{question.question_id}",
            image_id=_image_id(question, twins, where=f"{file.path}: records[{index}] ({question.question_id})"),
            image=ImageFile(path=root / _FOLDERS[PurePosixPath(question.image).parts[0]] / question.image),
            question=question.question,
            answers=(str(question.answer),),
            tags=_tags(question),
        )
        for index, question in enumerate(questions)
    ]


def _image_id(question: _Question, twins: Mapping[int, int], *, where: str) -> str:
    image = PurePosixPath(question.image)
    folder = _FOLDERS.get(image.parts[0]) if len(image.parts) == 2 else None
    coco = coco_number(image.name)
    if folder == "coco" and coco is not None:
        return coco_image_id(coco)
    if folder == "visual_genome" and image.stem.isdecimal():
        return visual_genome_image_id(int(image.stem), twins)
    raise DatasetError(
        f"{where}: image: expected an image of COCO or Visual Genome in {', '.join(_FOLDERS)}, found {question.image!r}"
    )


def _tags(question: _Question) -> dict[str, str]:
    if question.issimple is None:
        return {}
    return {"kind": "simple" if question.issimple else "complex"}
