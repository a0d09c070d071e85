"""Official files of datasets: JSON that is read whole and checked record by record."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from profiling.rows import explain


class DatasetError(ValueError):
    """A dataset cannot be read. The message names file, record, field, what was expected and what was found."""


class OfficialRecord(BaseModel):
    """The fields of an official record that we read; the file's others are left alone. Text is not a number."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


Record = TypeVar("Record", bound=OfficialRecord)


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """A JSON file of a dataset's official distribution.

    Args:
        path: Where it must lie.
        source: The distribution it belongs to, for the error when it is missing.
    """

    path: Path
    source: str

    @cached_property
    def content(self) -> object:
        """What the file holds; read when first asked for.

        Raises:
            DatasetError: If it is missing, cut or not JSON.
        """
        require_file(self.path, self.source)
        try:
            return json.loads(self.path.read_bytes())
        except json.JSONDecodeError as err:
            is_cut = err.msg.startswith("Unterminated") or not err.doc[err.pos :].strip()
            cut = ", the file may be cut short" if is_cut else ""
            where = f"line {err.lineno}, column {err.colno}"
            raise DatasetError(f"{self.path}: {where}: not JSON: {err.msg}{cut}") from err
        except UnicodeDecodeError as err:
            raise DatasetError(f"{self.path}: byte {err.start}: not UTF-8 text") from err

    def mapping(self) -> Mapping[str, object]:
        """Read a file that is an object.

        Raises:
            DatasetError: If it is not.
        """
        if not isinstance(self.content, dict):
            raise DatasetError(f"{self.path}: expected an object, found {_kind(self.content)}")
        return self.content

    def rows(self, key: str | None = None) -> list[object]:
        """Read the list under a key of the file's object, or the file itself where it is the list.

        Raises:
            DatasetError: If there is no such list.
        """
        if key is None:
            rows = self.content
        else:
            content = self.mapping()
            if key not in content:
                raise DatasetError(f"{self.path}: {key}: required field is missing, found {', '.join(content)}")
            rows = content[key]
        if not isinstance(rows, list):
            where = f"{key}: " if key else ""
            raise DatasetError(f"{self.path}: {where}expected a list, found {_kind(rows)}")
        return rows

    def records(self, model: type[Record], *, id_fields: tuple[str, ...], key: str | None = None) -> Iterator[Record]:
        """Check the records of a list, one after the other: millions of them at once would be slow to keep.

        Args:
            model: What a record holds.
            id_fields: Fields that together name a record; no two records may have the same.
            key: See ``rows``.

        Raises:
            DatasetError: If a record is wrong or its id occurs twice.
        """
        index_by_id: dict[tuple[object, ...], int] = {}
        for index, row in enumerate(self.rows(key)):
            where = f"{key or 'records'}[{index}]"
            record = self.record(model, row, where=where, id_fields=id_fields)
            own_id = tuple(getattr(record, field) for field in id_fields)
            first = index_by_id.setdefault(own_id, index)
            if first != index:
                name = " ".join(f"{field} {value}" for field, value in zip(id_fields, own_id, strict=True))
                raise DatasetError(f"{self.path}: {where}: {name} is taken, {key or 'records'}[{first}] has it too")
            yield record

    def record(self, model: type[Record], row: object, *, where: str, id_fields: tuple[str, ...] = ()) -> Record:
        """Check one record.

        Raises:
            DatasetError: If it is wrong.
        """
        try:
            return model.model_validate(row)
        except ValidationError as err:
            known = row if isinstance(row, dict) else {}
            name = " ".join(f"{field} {known[field]}" for field in id_fields if field in known)
            raise DatasetError(f"{self.path}: {where}{f' ({name})' if name else ''}: {explain(err)[0]}") from err


def require_file(path: Path, source: str) -> None:
    """Say which official file belongs where, if it is not there.

    Raises:
        DatasetError: If it is not.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; {path.name} of {source} belongs there (docs/datasets.md)")


def split_name(names: Mapping[str, str], split: str, *, dataset: str) -> str:
    """Return what a dataset's files call one of our splits.

    Raises:
        DatasetError: If it has no such split.
    """
    if split not in names:
        raise DatasetError(f"{dataset}: split: expected one of {', '.join(names)}, found {split!r}")
    return names[split]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
