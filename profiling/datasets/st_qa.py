"""ST-VQA, task 3: questions about scene text, without a dictionary."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from pydantic import Field

from profiling.datasets.coco import coco_image_id, coco_number
from profiling.datasets.official import OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import ImageFile, Sample
from profiling.datasets.visual_genome import coco_twins, visual_genome_image_id

NAME: Final = "st_qa"
SPLITS: Final = {"train": "train", "validation": "train", "test": "test"}
SOURCE: Final = "ST-VQA task 3 (https://rrc.cvc.uab.es/?ch=11)"

_NUM_VALIDATION: Final = 1024
_SHUFFLE_SEED: Final = 63069


class _Question(OfficialRecord):
    question_id: int
    file_path: str = Field(min_length=1)
    dataset: str
    question: str = Field(min_length=1)


class _AnsweredQuestion(_Question):
    answers: list[str] = Field(min_length=1)


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train``, ``validation`` or, without answers, ``test``.

    There is no official validation part. As for the Molmo models, the training questions are sorted by id and shuffled
    with a fixed seed; the first 1024 validate. That parts questions, not images.

    Raises:
        DatasetError: If there is no such split, or the file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    file = OfficialFile(path=root / NAME / f"{part}_task_3.json", source=SOURCE)
    model = _Question if split == "test" else _AnsweredQuestion
    questions = _of_split(list(file.records(model, id_fields=("question_id",), key="data")), split)
    # Unpacked from the official archives, images lie in a folder for the part; in the Molmo layout they do not.
    images = root / NAME / f"{part}_imgs"
    images = images if images.is_dir() else root / NAME
    twins = coco_twins(root) if any(question.dataset == "visual_genome" for question in questions) else {}
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=str(question.question_id),
            image_id=_image_id(question, twins),
            image=ImageFile(path=images / question.file_path),
            question=question.question,
            answers=tuple(question.answers) if isinstance(question, _AnsweredQuestion) else (),
            tags={"source": question.dataset},
        )
        for question in questions
    ]


def _of_split(questions: list[_Question], split: str) -> list[_Question]:
    if split == "test":
        return questions
    shuffled = sorted(questions, key=lambda question: question.question_id)
    # The older generator, since it defines the part.
    np.random.RandomState(_SHUFFLE_SEED).shuffle(shuffled)  # type: ignore[arg-type]
    return shuffled[:_NUM_VALIDATION] if split == "validation" else shuffled[_NUM_VALIDATION:]


def _image_id(question: _Question, twins: Mapping[int, int]) -> str:
    file = PurePosixPath(question.file_path)
    coco = coco_number(file.name)
    if coco is not None:
        return coco_image_id(coco)
    if question.dataset == "visual_genome" and file.stem.isdecimal():
        return visual_genome_image_id(int(file.stem), twins)
    return f"{NAME}/{question.file_path}"
