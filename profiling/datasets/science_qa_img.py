"""ScienceQA, the questions with an image: multiple choice from school lessons."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import Field

from profiling.datasets.official import DatasetError, OfficialFile, OfficialRecord, split_name
from profiling.datasets.sample import ImageFile, Sample

NAME: Final = "science_qa_img"
SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}
SOURCE: Final = "ScienceQA (https://scienceqa.github.io)"


class _Problem(OfficialRecord):
    question: str = Field(min_length=1)
    choices: list[str] = Field(min_length=1)
    answer: int = Field(ge=0)
    hint: str
    image: str | None
    subject: str | None = None


def read(root: Path, split: str, *, molmo_compat: bool = False) -> list[Sample]:
    """Read ``train``, ``validation`` or ``test``.

    Args:
        root: The folder of all datasets.
        split: The part.
        molmo_compat: Where there is a hint, ask it twice and leave the question out, as the Molmo models were trained.
            Otherwise a hint goes in front of its question.

    Raises:
        DatasetError: If there is no such split, or a file is missing or broken.
    """
    part = split_name(SPLITS, split, dataset=NAME)
    folder = root / NAME
    file = OfficialFile(path=folder / "problems.json", source=SOURCE)
    return [
        Sample(
            dataset=NAME,
            split=split,
            sample_id=own_id,
            image_id=f"{NAME}/{own_id}",
            image=ImageFile(path=folder / "images" / part / own_id / problem.image),
            question=_question(problem, molmo_compat=molmo_compat),
            answers=(problem.choices[problem.answer],),
            options=tuple(problem.choices),
            tags={"subject": problem.subject} if problem.subject else {},
        )
        for own_id, problem in _problems(file, _ids(folder / "pid_splits.json", part))
        if problem.image is not None
    ]


def _ids(path: Path, part: str) -> list[str]:
    rows = OfficialFile(path=path, source=SOURCE).rows(part)
    ids = [row for row in rows if isinstance(row, str)]
    if len(ids) < len(rows):
        index = next(i for i, row in enumerate(rows) if not isinstance(row, str))
        raise DatasetError(f"{path}: {part}[{index}]: expected a problem's id as text, found {rows[index]!r}")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DatasetError(f"{path}: {part}: id {twice!r} occurs twice")
    return ids


def _problems(file: OfficialFile, ids: list[str]) -> Iterator[tuple[str, _Problem]]:
    problems = file.mapping()
    for own_id in ids:
        where = f"problem {own_id!r}"
        if own_id not in problems:
            raise DatasetError(f"{file.path}: {where}: no such problem, but pid_splits.json names it")
        problem = file.record(_Problem, problems[own_id], where=where)
        if problem.answer >= len(problem.choices):
            raise DatasetError(
                f"{file.path}: {where}: answer: expected the index of one of {len(problem.choices)} choices, "
                f"found {problem.answer}"
            )
        yield own_id, problem


def _question(problem: _Problem, *, molmo_compat: bool) -> str:
    if not problem.hint:
        return problem.question
    return f"{problem.hint}\n{problem.hint if molmo_compat else problem.question}"
