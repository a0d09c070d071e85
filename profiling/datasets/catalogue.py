"""Datasets by name: how each is read, asked and scored."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from profiling.datasets import (
    coco_2014_vqa,
    coco_caption,
    doc_qa,
    easy_vqa,
    mmmu,
    okvqa,
    science_qa_img,
    st_qa,
    tally_qa,
    text_vqa,
)
from profiling.datasets.json_lines import SPLIT, read_json_lines
from profiling.datasets.official import DatasetError
from profiling.datasets.root import find_root
from profiling.datasets.sample import Sample
from profiling.scoring.result import ScoreName
from profiling.suite import suite

_log = logging.getLogger(__name__)

Reader = Callable[[Path, str], list[Sample]]
"""Reads a split of a dataset from the folder of all datasets."""

Maker = Callable[[str, int], list[Sample]]
"""Makes so many samples of a split that has no last one, from the first on."""


class TaskType(StrEnum):
    """What a dataset asks of a model."""

    GENERAL = "general"
    SCENE_TEXT = "scene_text"
    DOCUMENTS = "documents"
    COUNTING = "counting"
    SCIENCE = "science"
    CAPTIONS = "captions"


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """What is known about a dataset.

    Args:
        read: Its reader.
        splits: Its parts.
        default_split: The part that is read when none is named: one with answers, not trained on by the Molmo models
            where there is such a part.
        score: How its answers are scored.
        task: What it asks.
        style: Answering style in the prompt.
        options_style: Style of its questions with options, if another.
        max_new_tokens: How long an answer may get.
        read_as_molmo: Its reader with the Molmo loader's mistakes, where they change what is asked.
        make: What makes as many samples as are asked for, where none are drawn from a file.
        find_root: Where its files are, given a root or none.
    """

    read: Reader
    splits: tuple[str, ...]
    default_split: str
    score: ScoreName
    task: TaskType
    style: str
    max_new_tokens: int
    options_style: str | None = None
    read_as_molmo: Reader | None = None
    make: Maker | None = None
    find_root: Callable[[Path | str | None], Path] = find_root

    def prompt_style(self, sample: Sample) -> str:
        """Return the answering style to ask a sample with, for ``models.processor``."""
        return self.options_style if sample.options and self.options_style else self.style


def _nowhere(_root: Path | str | None) -> Path:
    """Return some folder, for datasets that look at none."""
    return Path()


def _generated(
    family: str, *, task: TaskType, style: str, score: ScoreName = ScoreName.EXACT_MATCH, max_new_tokens: int = 12
) -> tuple[str, DatasetEntry]:
    """Name and describe a family of the generated suite.

    Most have one right answer and are scored by ``exact_match``. VQA soft accuracy would count case where all ten
    annotators agree, and signs are written in capitals; and it would give ``grey`` less than ``gray``. Styles are those
    of the dataset that a family resembles: a model trained on the suite alone knows none and needs none.
    """
    entry = DatasetEntry(
        read=lambda _root, split: suite.suite_samples([family], split),
        splits=suite.SPLITS,
        default_split="val",
        score=score,
        task=task,
        style=style,
        max_new_tokens=max_new_tokens,
        make=lambda split, num_samples: suite.suite_samples([family], split, num_samples=num_samples),
        find_root=_nowhere,
    )
    return suite.dataset_name(family), entry


_SUITE: Final[Mapping[str, DatasetEntry]] = dict(
    (
        _generated("scenes", task=TaskType.GENERAL, style="vqa2"),
        _generated("text", task=TaskType.SCENE_TEXT, style="text_vqa"),
        # Some annotators write a count as a word.
        _generated("counting", task=TaskType.COUNTING, style="tally_qa", score=ScoreName.EXACT_MATCH_NUMBER_WORDS),
        _generated("tables", task=TaskType.DOCUMENTS, style="doc_qa"),
        _generated("choice", task=TaskType.SCIENCE, style="science_qa", score=ScoreName.MULTIPLE_CHOICE),
        _generated("facts", task=TaskType.GENERAL, style="okvqa"),
        _generated(
            "captions", task=TaskType.CAPTIONS, style="coco_captioning", score=ScoreName.CIDER_D, max_new_tokens=24
        ),
    )
)

CATALOGUE: Final[Mapping[str, DatasetEntry]] = {
    coco_2014_vqa.NAME: DatasetEntry(
        read=coco_2014_vqa.read,
        splits=tuple(coco_2014_vqa.SPLITS),
        default_split="validation",
        score=ScoreName.VQA_OFFICIAL,
        task=TaskType.GENERAL,
        style="vqa2",
        max_new_tokens=12,
    ),
    okvqa.NAME: DatasetEntry(
        read=okvqa.read,
        splits=tuple(okvqa.SPLITS),
        default_split="validation",
        score=ScoreName.VQA_OFFICIAL,
        task=TaskType.GENERAL,
        style="okvqa",
        max_new_tokens=12,
    ),
    text_vqa.NAME: DatasetEntry(
        read=text_vqa.read,
        splits=tuple(text_vqa.SPLITS),
        default_split="validation",
        score=ScoreName.VQA_OFFICIAL,
        task=TaskType.SCENE_TEXT,
        style="text_vqa",
        max_new_tokens=32,
    ),
    st_qa.NAME: DatasetEntry(
        read=st_qa.read,
        splits=tuple(st_qa.SPLITS),
        default_split="validation",
        score=ScoreName.ANLS,
        task=TaskType.SCENE_TEXT,
        style="st_qa",
        max_new_tokens=32,
    ),
    doc_qa.NAME: DatasetEntry(
        read=doc_qa.read,
        splits=tuple(doc_qa.SPLITS),
        default_split="validation",
        score=ScoreName.ANLS,
        task=TaskType.DOCUMENTS,
        style="doc_qa",
        max_new_tokens=32,
    ),
    tally_qa.NAME: DatasetEntry(
        read=tally_qa.read,
        splits=tuple(tally_qa.SPLITS),
        default_split="test",
        score=ScoreName.EXACT_MATCH,
        task=TaskType.COUNTING,
        style="tally_qa",
        max_new_tokens=12,
    ),
    science_qa_img.NAME: DatasetEntry(
        read=science_qa_img.read,
        splits=tuple(science_qa_img.SPLITS),
        default_split="validation",
        score=ScoreName.MULTIPLE_CHOICE,
        task=TaskType.SCIENCE,
        style="science_qa",
        max_new_tokens=12,
        read_as_molmo=partial(science_qa_img.read, molmo_compat=True),
    ),
    mmmu.NAME: DatasetEntry(
        read=mmmu.read,
        splits=tuple(mmmu.SPLITS),
        default_split="validation",
        score=ScoreName.MMMU,
        task=TaskType.SCIENCE,
        style="vqa2",
        options_style="a_okvqa_mc",
        max_new_tokens=16,
    ),
    coco_caption.NAME: DatasetEntry(
        read=coco_caption.read,
        splits=tuple(coco_caption.SPLITS),
        default_split="validation",
        score=ScoreName.CIDER_D,
        task=TaskType.CAPTIONS,
        style="coco_captioning",
        max_new_tokens=64,
    ),
    easy_vqa.NAME: DatasetEntry(
        read=easy_vqa.read,
        splits=tuple(easy_vqa.SPLITS),
        default_split="test",
        score=ScoreName.EXACT_MATCH,
        task=TaskType.GENERAL,
        style="vqa2",
        max_new_tokens=12,
        find_root=easy_vqa.installed_or_root,
    ),
    **_SUITE,
}


def dataset_entry(name: str) -> DatasetEntry:
    """Return what is known about a dataset.

    Args:
        name: One of the catalogue, or the path of a ``.jsonl`` file, see ``json_lines``.

    Raises:
        DatasetError: If there is no such dataset.
    """
    if name.endswith(".jsonl"):
        return DatasetEntry(
            read=lambda _root, _split: read_json_lines(Path(name)),
            splits=(SPLIT,),
            default_split=SPLIT,
            score=ScoreName.EXACT_MATCH,
            task=TaskType.GENERAL,
            style="vqa2",
            options_style="a_okvqa_mc",
            max_new_tokens=32,
            find_root=_nowhere,
        )
    if name not in CATALOGUE:
        raise DatasetError(
            f"dataset_names: expected some of {', '.join(CATALOGUE)} or a path ending in .jsonl, found {name!r}"
        )
    return CATALOGUE[name]


def read_dataset(
    name: str,
    split: str | None = None,
    *,
    root: Path | str | None = None,
    num_samples: int | None = None,
    seed: int = 42,
    molmo_compat: bool = False,
) -> list[Sample]:
    """Read a split of a dataset. Images stay closed.

    Args:
        name: See ``dataset_entry``.
        split: The part; ``None`` takes the dataset's default.
        root: The folder of all datasets, see ``find_root``.
        num_samples: How many to draw, in file order; ``None`` takes all. Fewer are among the more of the same seed. Of
            the generated suite these are the first, of any number; ``None`` takes 1000.
        seed: Of the draw.
        molmo_compat: Read as the Molmo models' loader does, mistakes included.

    Raises:
        DatasetError: If there is no such dataset or split, a file is missing or broken, or there are fewer samples.
    """
    entry = dataset_entry(name)
    part = entry.default_split if split is None else split
    if part not in entry.splits:
        raise DatasetError(f"{name}: split: expected one of {', '.join(entry.splits)}, found {part!r}")
    if entry.make is not None and num_samples is not None:
        if num_samples < 1:
            raise DatasetError(f"{name}: {part}: num_samples: expected 1 or more, found {num_samples}")
        return entry.make(part, num_samples)
    reader = entry.read_as_molmo if molmo_compat and entry.read_as_molmo is not None else entry.read
    samples = reader(entry.find_root(root), part)
    _log.info("%s: %s: read %d samples", name, part, len(samples))
    if not samples:
        raise DatasetError(f"{name}: {part}: holds no samples")
    return samples if num_samples is None else draw_samples(samples, num_samples, seed, where=f"{name}: {part}")


def draw_samples(samples: list[Sample], num_samples: int, seed: int, *, where: str) -> list[Sample]:
    """Draw some samples, in their order. Fewer are among the more of the same seed.

    Args:
        samples: What to draw from.
        num_samples: How many.
        seed: Of the draw.
        where: What an error calls the samples.

    Raises:
        DatasetError: If there are not so many.
    """
    if not 1 <= num_samples <= len(samples):
        raise DatasetError(
            f"{where}: num_samples: expected 1 to {len(samples)}, as many as there are, found {num_samples}"
        )
    drawn = np.random.default_rng(seed).permutation(len(samples))[:num_samples]
    return [samples[index] for index in sorted(drawn)]
