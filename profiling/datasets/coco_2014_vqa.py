"""VQA v2: ten short answers to each question about a COCO image."""

from pathlib import Path
from typing import Final

from profiling.datasets.official import OfficialFile, split_name
from profiling.datasets.sample import Sample
from profiling.datasets.vqa_files import read_vqa_files

NAME: Final = "coco_2014_vqa"
SPLITS: Final = {"train": "train2014", "validation": "val2014", "test": "test2015"}
SOURCE: Final = "VQA v2 (https://visualqa.org/download.html)"


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train``, ``validation`` or, without answers, ``test``.

    Raises:
        DatasetError: If there is no such split, or a file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    folder = root / NAME
    questions = folder / f"v2_OpenEnded_mscoco_{part}_questions.json"
    annotations = OfficialFile(path=folder / f"v2_mscoco_{part}_annotations.json", source=SOURCE)
    return read_vqa_files(
        OfficialFile(path=questions, source=SOURCE),
        None if split == "test" else annotations,
        dataset=NAME,
        split=split,
        root=root,
        image_folder=part,
    )
