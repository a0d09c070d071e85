"""Anybody's questions: JSON Lines with an image, a question and its answers a line."""

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiling.datasets.official import DatasetError
from profiling.datasets.sample import ImageFile, Sample
from profiling.rows import explain
from profiling.schema import Identifier

SPLIT: Final = "all"


class _Line(BaseModel):
    """The format is ours, so an unknown field is a mistake."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    image: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answers: list[str]
    id: Identifier | None = None
    image_id: Identifier | None = None
    options: list[str] = []
    budget_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)


def read_json_lines(path: Path) -> list[Sample]:
    """Read a file of questions; the dataset is named as the file is.

    A line is ``{"image": ..., "question": ..., "answers": [...]}``, the image's path relative to the file. It may have
    ``id`` (else its number), ``image_id`` (else the image's path; ``coco/42`` where it is COCO's), ``options`` and
    ``budget_ms``, the milliseconds that its answer may take.

    Args:
        path: A ``.jsonl`` file.

    Raises:
        DatasetError: If the file is missing, or a line is broken.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file of questions")
    samples: dict[str, Sample] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            sample = _sample(_parse(line, f"{path}: line {number}"), number, path)
            if sample.sample_id in samples:
                raise DatasetError(f"{path}: line {number}: id {sample.sample_id!r} occurs twice")
            samples[sample.sample_id] = sample
    return list(samples.values())


def _parse(line: bytes, where: str) -> _Line:
    try:
        parsed = _Line.model_validate(json.loads(line))
    except ValidationError as err:
        raise DatasetError(f"{where}: {explain(err)[0]}") from err
    except ValueError as err:
        wrong = "not JSON" if line.endswith(b"\n") else "cut short, the file's last line is incomplete"
        raise DatasetError(f"{where}: {wrong}: {err}") from err
    strange = [answer for answer in parsed.answers if parsed.options and answer not in parsed.options]
    if strange:
        raise DatasetError(f"{where}: answers: expected some of {', '.join(parsed.options)}, found {strange[0]!r}")
    return parsed


def _sample(line: _Line, number: int, path: Path) -> Sample:
    return Sample(
        dataset=path.stem,
        split=SPLIT,
        sample_id=str(number) if line.id is None else line.id,
        image_id=f"{path.stem}/{line.image}" if line.image_id is None else line.image_id,
        image=ImageFile(path=path.parent / line.image),
        question=line.question,
        answers=tuple(line.answers),
        options=tuple(line.options),
        budget_ms=line.budget_ms,
    )
