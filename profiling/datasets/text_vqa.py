"""TextVQA: questions whose answer is written in the image."""

from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.official import OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import ImageFile, Sample

NAME: Final = "text_vqa"
SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}
SOURCE: Final = "TextVQA 0.5.1 (https://textvqa.org/dataset)"


class _Question(OfficialRecord):
    question_id: int
    image_id: str = Field(min_length=1)
    question: str = Field(min_length=1)


class _AnsweredQuestion(_Question):
    answers: list[str] = Field(min_length=1)


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train``, ``validation`` or, without answers, ``test``.

    Raises:
        DatasetError: If there is no such split, or the file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    folder = root / NAME
    file = OfficialFile(path=folder / f"TextVQA_0.5.1_{part}.json", source=SOURCE)
    model = _Question if split == "test" else _AnsweredQuestion
    images = folder / ("test_images" if split == "test" else "train_images")
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=str(question.question_id),
            image_id=f"{NAME}/{question.image_id}",
            image=ImageFile(path=images / f"{question.image_id}.jpg"),
            question=question.question,
            answers=tuple(question.answers) if isinstance(question, _AnsweredQuestion) else (),
        )
        for question in file.records(model, id_fields=("question_id",), key="data")
    ]
