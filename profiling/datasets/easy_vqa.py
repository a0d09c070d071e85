"""easy-VQA: simple questions about one shape in a small image; 3 MB, on the Python Package Index."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord, require_file, split_name
from profiling.datasets.root import find_root
from profiling.datasets.sample import ImageFile, Sample

NAME: Final = "easy_vqa"
SPLITS: Final = {"train": "train", "test": "test"}
SOURCE: Final = "the Python package easy-vqa (pip install easy-vqa)"


class _Question(OfficialRecord):
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    image: int = Field(ge=0)


def installed_or_root(root: Path | str | None) -> Path:
    """Return where the package ``easy-vqa`` is installed, unless a root has a folder of that name.

    Raises:
        DatasetError: If the package is not installed either and no root is named.
    """
    if root is not None and (Path(root) / NAME).is_dir():
        return find_root(root)
    package = find_spec(NAME)
    if package is not None and package.origin is not None:
        return Path(package.origin).parents[1]
    try:
        return find_root(root)
    except DatasetError as err:
        raise DatasetError(f"{NAME}: pip install easy-vqa, or: {err}") from err


def read(root: Path, split: str) -> list[Sample]:
    """Read ``train`` or ``test`` from the package's folder ``easy_vqa`` in the root.

    Raises:
        DatasetError: If there is no such split, or a file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    data = root / NAME / "data"
    known = _known_answers(data / "answers.txt")
    file = OfficialFile(path=data / part / "questions.json", source=SOURCE)
    samples = []
    for index, row in enumerate(file.rows()):
        where = f"records[{index}]"
        if not isinstance(row, list) or len(row) != len(_Question.model_fields):
            raise DatasetError(f"{file.path}: {where}: expected a list of question, answer and image, found {row!r}")
        record = file.record(_Question, dict(zip(_Question.model_fields, row, strict=True)), where=where)
        if record.answer not in known:
            raise DatasetError(
                f"{file.path}: {where}: answer: expected one of {', '.join(sorted(known))}, found {record.answer!r}"
            )
        samples.append(
            Sample(
                dataset=NAME,
                split=split,
                sample_id=str(index),
                image_id=f"{NAME}/{part}/{record.image}",
                image=ImageFile(path=data / part / "images" / f"{record.image}.png"),
                question=record.question,
                answers=(record.answer,),
            )
        )
    return samples


def _known_answers(path: Path) -> set[str]:
    require_file(path, SOURCE)
    return set(path.read_text(encoding="utf-8").split())
