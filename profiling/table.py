"""Profile records in memory: columns, because a million rows are no place for Python objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from profiling.columns import ARROW_SCHEMA
from profiling.schema import AnswerRecord, Environment, ProfileError

# What must agree before times may be compared; the number of threads matters where the CPU does the work.
_BENCH_FIELDS = ("engine", "dtype", "model", "random_weights", "router_skew")


@dataclass(frozen=True, kw_only=True)
class ProfileTable:
    """Measured rows and where they were measured.

    Args:
        columns: The native columns in the record's order, then ``device``.
        environments: Environment of each device in the ``device`` column.
    """

    columns: pa.Table
    environments: Mapping[str, Environment]

    @classmethod
    def from_columns(cls, columns: pa.Table, environment: Environment) -> "ProfileTable":
        """Build a table from checked native columns measured in one environment."""
        device = pa.DictionaryArray.from_arrays(np.zeros(len(columns), dtype=np.int32), [environment.device])
        return cls(columns=columns.append_column("device", device), environments={environment.device: environment})

    @classmethod
    def from_records(cls, records: Iterable[AnswerRecord], environment: Environment) -> "ProfileTable":
        """Build a table from checked records measured in one environment."""
        rows = [record.model_dump() for record in records]
        return cls.from_columns(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA), environment)

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @property
    def environment(self) -> Environment:
        """The environment of a table that holds one device.

        Raises:
            ProfileError: If the table holds several devices.
        """
        if len(self.environments) != 1:
            raise ProfileError(f"environment: the table mixes devices ({', '.join(self.environments)}), choose one")
        return next(iter(self.environments.values()))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a numeric column as ``(rows,)`` float64; absent values are NaN.

        Raises:
            ProfileError: If the table has no such numeric column.
        """
        values = self._column(name)
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            raise ProfileError(f"column {name!r}: holds no numbers but {values.type}")
        return np.asarray(pc.cast(values, pa.float64()).to_numpy(), dtype=np.float64)

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """Return a text column as ``(rows,)`` int64 codes and the texts they stand for; absent values are -1.

        Codes count up in order of first appearance.

        Raises:
            ProfileError: If the table has no such text column.
        """
        values = self._column(name)
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        if not pa.types.is_string(encoded.type.value_type):
            raise ProfileError(f"column {name!r}: holds no text but {values.type}")
        encoded = encoded.unify_dictionaries().combine_chunks()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return np.asarray(codes, dtype=np.int64), encoded.dictionary.to_pylist()

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "ProfileTable":
        """Return some rows, given by index or by a mask."""
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        columns = self.columns.take(pa.array(indices))
        left = set(pc.unique(columns["device"]).to_pylist())
        return replace(self, columns=columns, environments={d: e for d, e in self.environments.items() if d in left})

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame; whole numbers with gaps become floating point."""
        frame: pd.DataFrame = self.columns.to_pandas()
        return frame

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.columns.column_names:
            raise ProfileError(f"column {name!r}: unknown, choose one of {', '.join(self.columns.column_names)}")
        return self.columns[name]


def concat(
    tables: Sequence[ProfileTable], *, names: Sequence[str] | None = None, allow_mixed_devices: bool = False
) -> ProfileTable:
    """Join tables. Of several environments of one device the first is kept.

    Args:
        tables: At least one.
        names: What to call each table in errors, file names usually.
        allow_mixed_devices: Join tables of different devices, told apart by the ``device`` column.

    Raises:
        ProfileError: If devices differ and may not, or one device was measured in ways that cannot be compared.
    """
    labels = names or [f"table {i}" for i in range(len(tables))]
    first_seen: dict[str, tuple[str, Environment]] = {}
    for label, table in zip(labels, tables, strict=True):
        for device, environment in table.environments.items():
            other_label, other = first_seen.setdefault(device, (label, environment))
            _check_comparable(other_label, other, label, environment)
    if len(first_seen) > 1 and not allow_mixed_devices:
        found = " and ".join(f"{device!r} ({label})" for device, (label, _) in first_seen.items())
        raise ProfileError(f"device: profiles of different devices cannot be joined unless you allow it, got {found}")
    joined = pa.concat_tables([table.columns for table in tables]).unify_dictionaries().combine_chunks()
    return ProfileTable(columns=joined, environments={device: env for device, (_, env) in first_seen.items()})


def _check_comparable(first_label: str, first: Environment, label: str, environment: Environment) -> None:
    is_gpu = first.cuda is not None and environment.cuda is not None
    for field in _BENCH_FIELDS if is_gpu else (*_BENCH_FIELDS, "num_threads"):
        one, two = getattr(first, field), getattr(environment, field)
        if one != two:
            raise ProfileError(
                f"{label}: environment: {field}: must be {one!r} as in {first_label}, measured on the same device "
                f"{first.device!r}, got {two!r}"
            )
