"""OK-VQA: questions about COCO images whose answers need knowledge from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.official import OfficialFile, split_name
from profiling.datasets.sample import Sample
from profiling.datasets.vqa_files import VqaAnnotation, VqaAnswer, read_vqa_files

NAME: Final = "okvqa"
SPLITS: Final = {"train": "train2014", "validation": "val2014"}
SOURCE: Final = "OK-VQA 1.1 (https://okvqa.allenai.org/download.html)"


class _Answer(VqaAnswer):
    """The annotator's words are in ``raw_answer``; ``answer`` is their stem, which nobody would say."""

    raw_answer: str

    @property
    def text(self) -> str:
        return self.raw_answer


class _Annotation(VqaAnnotation):
    answers: Sequence[_Answer] = Field(min_length=1)


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train`` or ``validation``.

    Raises:
        DatasetError: If there is no such split, or a file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    folder = root / NAME
    return read_vqa_files(
        OfficialFile(path=folder / f"OpenEnded_mscoco_{part}_questions.json", source=SOURCE),
        OfficialFile(path=folder / f"mscoco_{part}_annotations.json", source=SOURCE),
        dataset=NAME,
        split=split,
        root=root,
        image_folder=part,
        annotation_model=_Annotation,
    )
