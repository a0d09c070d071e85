"""Outcomes on disk: one file a job, whole or not there, found again by the next run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from models.knobs import ExpertCounts
from profiling.files import switched_on, write_json, written_whole
from profiling.subsets.job import Blocks, Cost, Job, Measure, Outcome, Part
from profiling.subsets.measures import quantity_shapes

RESULT_VERSION: Final = 1
_DIGITS: Final = 6


class ResultError(ValueError):
    """A folder of results cannot be used; says which file, and what to do."""


class _ResultFile(BaseModel):
    """Content of a result file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    blocks: Blocks
    measure: Measure
    part: Part
    num_samples: int
    experts: ExpertCounts | None = None
    cost: Cost
    values: dict[str, dict[str, list[FiniteFloat] | list[list[FiniteFloat]]]]


class ResultStore:
    """The results of one folder.

    Args:
        folder: Where they lie; made when the first is written.
        dataset_names: The datasets that every result must hold.
    """

    def __init__(self, folder: Path, dataset_names: tuple[str, ...]) -> None:
        self._folder = folder
        self._dataset_names = dataset_names

    def path(self, job: Job) -> Path:
        """Return the file of a job."""
        return self._folder / f"{job.part}-{job.num_samples}" / job.measure / f"{job.name}.json"

    def read(self, job: Job) -> Outcome | None:
        """Return the outcome of a job that was done before, ``None`` if it was not.

        Raises:
            ResultError: If its file is damaged or is another job's.
        """
        path = self.path(job)
        if not path.exists():
            return None
        try:
            result = _ResultFile.model_validate_json(path.read_bytes())
        except ValidationError as err:
            first = err.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ResultError(f"{path}: {where}: {first['msg']}; remove the file to measure it again") from err
        found = Job(
            blocks=result.blocks,
            measure=result.measure,
            part=result.part,
            num_samples=result.num_samples,
            experts=result.experts,
        )
        names = tuple(result.values)
        if (found, names, result.version) != (job, self._dataset_names, RESULT_VERSION):
            raise ResultError(
                f"{path}: expected {job} ({', '.join(self._dataset_names)}), version {RESULT_VERSION}, found {found} "
                f"({', '.join(names)}), version {result.version}; remove the file to measure it again"
            )
        try:
            values = {name: _arrays(name, quantities, job) for name, quantities in result.values.items()}
        except ResultError as err:
            raise ResultError(f"{path}: {err}; remove the file to measure it again") from err
        return Outcome(values=values, cost=result.cost)

    def write(self, job: Job, outcome: Outcome) -> None:
        """Keep the outcome of a job.

        Raises:
            ResultError: If a value is not finite.
        """
        for name, quantities in outcome.values.items():
            for quantity, values in quantities.items():
                if not np.isfinite(values).all():
                    raise ResultError(
                        f"{job}: {name}: {quantity}: must be finite, got {values[~np.isfinite(values)][0]}"
                    )
        path = self.path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "version": RESULT_VERSION,
            **asdict(job),
            "cost": asdict(outcome.cost),
            "values": {
                name: {quantity: _rounded(values) for quantity, values in quantities.items()}
                for name, quantities in outcome.values.items()
            },
        }
        with written_whole(path) as partial:
            partial.write_text(json.dumps(content) + "\n")


def _arrays(name: str, quantities: Mapping[str, Sequence[Any]], job: Job) -> dict[str, NDArray[np.float64]]:
    """Check what a file holds for a dataset."""
    shapes = quantity_shapes(job)
    if set(quantities) != set(shapes):
        raise ResultError(f"values.{name}: expected {', '.join(shapes)}, found {', '.join(quantities) or 'nothing'}")
    for quantity, rows in quantities.items():
        widths = sorted({(len(row),) if isinstance(row, list) else () for row in rows})
        found = [(len(rows), *width) for width in widths] or [(0,)]
        if found != [shapes[quantity]]:
            raise ResultError(
                f"values.{name}.{quantity}: expected shape {shapes[quantity]}, found {' and '.join(map(str, found))}"
            )
    return {quantity: np.asarray(rows, dtype=np.float64) for quantity, rows in quantities.items()}


def _rounded(values: NDArray[np.float64]) -> list[Any]:
    """Round to significant digits, since quantities may be of any size."""
    rounded: list[Any] = (
        np.asarray([float(f"{value:.{_DIGITS}g}") for value in values.flat]).reshape(values.shape).tolist()
    )
    return rounded


def claim(output_dir: Path, described: Mapping[str, Any], *, file_name: str) -> None:
    """Note in a folder what is measured there, or check that a folder in use measures the same.

    Args:
        output_dir: The folder.
        described: What its results depend on.
        file_name: Name of the note.

    Raises:
        ResultError: If the folder was used for something else, or its note is damaged.
    """
    path = output_dir / file_name
    wanted = json.loads(json.dumps(described))
    if not path.exists():
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as err:
        raise ResultError(f"output_dir: {path} is not JSON ({err}); remove it or give another folder") from err
    if not isinstance(found, dict):
        raise ResultError(f"output_dir: {path} must hold an object; remove it or give another folder")
    differing = sorted(key for key in wanted | found if switched_on(wanted.get(key)) != switched_on(found.get(key)))
    if differing:
        raise ResultError(
            f"output_dir: {path} describes results of another {', '.join(differing)}; give another folder"
        )
