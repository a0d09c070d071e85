"""MMMU: college questions of 30 subjects, most of them multiple choice, one Parquet file a subject."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from profiling.datasets.official import DatasetError, OfficialRecord, require_file, split_name
from profiling.datasets.parquet_image import ParquetImage
from profiling.datasets.sample import Sample
from profiling.rows import explain

NAME: Final = "mmmu"
SPLITS: Final = {"dev": "dev", "validation": "validation", "test": "test"}
SOURCE: Final = "MMMU (https://huggingface.co/datasets/MMMU/MMMU)"
SUBJECTS: Final = (
    *("Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory", "Basic_Medical_Science"),
    *("Biology", "Chemistry", "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine"),
    *("Economics", "Electronics", "Energy_and_Power", "Finance", "Geography", "History", "Literature", "Manage"),
    *("Marketing", "Materials", "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology"),
    *("Public_Health", "Sociology"),
)

_TEXTS: Final = ("id", "question", "options", "answer", "question_type")
_IMAGES: Final = tuple(f"image_{number}" for number in range(1, 8))
_KEPT_BACK: Final = "?"


class _Question(OfficialRecord):
    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    options: str
    answer: str
    question_type: Literal["multiple-choice", "open"]


def read(root: Path, split: str) -> list[Sample]:
    """Read ``dev``, ``validation`` or, without answers, ``test``.

    A sample shows the first image of its question, as for the Molmo models, which take one image; how many there are
    is in its tags. ``<image 2>`` and the like stay in the text.

    Raises:
        DatasetError: If there is no such split, or a file is missing or broken.
    """
    split_name(SPLITS, split, dataset=NAME)
    samples: dict[str, Sample] = {}
    for subject in SUBJECTS:
        for path in _shards(root / NAME / subject, split):
            for sample in _read_shard(path, subject, split):
                if sample.sample_id in samples:
                    raise DatasetError(f"{path}: id {sample.sample_id!r} occurs twice")
                samples[sample.sample_id] = sample
    return list(samples.values())


def _shards(folder: Path, split: str) -> list[Path]:
    """Return a subject's files: one, or as many as the first one's name says."""
    first = next(
        iter(sorted(folder.glob(f"{split}-00000-of-{'[0-9]' * 5}.parquet"))), folder / f"{split}-00000-of-00001.parquet"
    )
    require_file(first, SOURCE)
    count = first.stem.rpartition("-")[2]
    paths = [folder / f"{split}-{number:05}-of-{count}.parquet" for number in range(int(count))]
    for path in paths:
        require_file(path, SOURCE)
    return paths


def _read_shard(path: Path, subject: str, split: str) -> Iterator[Sample]:
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow)
            # The names of the images say which there are; the images themselves stay on disk.
            columns = [*_TEXTS, *(f"{name}.path" for name in _IMAGES)]
            groups = [file.read_row_group(group, columns=columns).to_pylist() for group in range(file.num_row_groups)]
    except (OSError, pa.ArrowException) as err:
        raise DatasetError(f"{path}: not a Parquet file, or cut short: {err}") from err
    for group, rows in enumerate(groups):
        for index, row in enumerate(rows):
            where = f"{path}: row group {group}, row {index} (id {row['id']})"
            present = [name for name in _IMAGES if row[name] is not None]
            if not present:
                raise DatasetError(f"{where}: expected an image in {_IMAGES[0]}, found none")
            image = ParquetImage(path=path, row_group=group, row=index, column=present[0])
            tags = {"subject": subject, "num_images": str(len(present))}
            yield _sample(_question(row, where), image, tags, split=split, where=where)


def _question(row: dict[str, object], where: str) -> _Question:
    try:
        return _Question.model_validate(row)
    except ValidationError as err:
        raise DatasetError(f"{where}: {explain(err)[0]}") from err


def _sample(question: _Question, image: ParquetImage, tags: dict[str, str], *, split: str, where: str) -> Sample:
    options = _texts(question.options, f"{where}: options")
    return Sample(
        dataset=NAME,
        split=split,
        sample_id=question.id,
        image_id=f"{NAME}/{question.id}",
        image=image,
        question=question.question,
        answers=_answers(question, options, where=where, is_kept_back=split == "test"),
        options=options,
        tags=tags | {"question_type": question.question_type},
    )


def _check_columns(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in (*_TEXTS, *_IMAGES) if name not in schema.names]
    if missing:
        raise DatasetError(f"{path}: {missing[0]}: required column is missing, found {', '.join(schema.names)}")
    for name in _IMAGES:
        kind = schema.field(name).type
        if not pa.types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
            raise DatasetError(f"{path}: {name}: expected a column of structs of bytes and path, found {kind}")


def _texts(literal: str, where: str) -> tuple[str, ...]:
    """Read a list that is written as Python writes it; nothing in it is executed."""
    try:
        texts = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as err:
        raise DatasetError(f"{where}: expected a list of texts as Python writes it, found {literal!r}") from err
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"{where}: expected a list of texts as Python writes it, found {literal!r}")
    return tuple(texts)


def _answers(question: _Question, options: tuple[str, ...], *, where: str, is_kept_back: bool) -> tuple[str, ...]:
    if is_kept_back and question.answer == _KEPT_BACK:
        return ()
    if question.question_type == "open":
        is_list = question.answer.startswith("[")
        return _texts(question.answer, f"{where}: answer") if is_list else (question.answer,)
    index = ord(question.answer) - ord("A") if len(question.answer) == 1 else -1
    if not 0 <= index < len(options):
        raise DatasetError(
            f"{where}: answer: expected the letter of one of {len(options)} options, found {question.answer!r}"
        )
    return (options[index],)
