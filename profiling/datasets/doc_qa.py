"""DocVQA, task 1: questions about one page of a document."""

from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.official import OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import ImageFile, Sample

NAME: Final = "doc_qa"
SPLITS: Final = {"train": "train_v1.0_withQT", "validation": "val_v1.0_withQT", "test": "test_v1.0"}
SOURCE: Final = "DocVQA task 1 (https://rrc.cvc.uab.es/?ch=17)"


class _Question(OfficialRecord):
    questionId: int
    image: str = Field(min_length=1)
    question: str = Field(min_length=1)
    question_types: list[str] | None = None


class _AnsweredQuestion(_Question):
    answers: list[str] = Field(min_length=1)


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train``, ``validation`` or, without answers, ``test``.

    Raises:
        DatasetError: If there is no such split, or the file is missing or broken.
    """
    folder = root / NAME
    path = folder / f"{split_name(SPLITS, split, dataset=NAME)}.json"
    model = _Question if split == "test" else _AnsweredQuestion
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=str(question.questionId),
            image_id=f"{NAME}/{question.image}",
            image=ImageFile(path=folder / question.image),
            question=question.question,
            answers=tuple(question.answers) if isinstance(question, _AnsweredQuestion) else (),
            tags={"question_types": ", ".join(question.question_types)} if question.question_types else {},
        )
        for question in OfficialFile(path=path, source=SOURCE).records(model, id_fields=("questionId",), key="data")
    ]
