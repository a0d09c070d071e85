"""From rows of a file to records: one bad row is an error, or is skipped and counted."""

import logging
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from profiling.lineage import plain_rows
from profiling.schema import LINEAGE_NAMES, AnswerRecord, Environment, ProfileError, ProfileRecord

_log = logging.getLogger(__name__)
_KNOWN_FIELDS = [*ProfileRecord.model_fields, *LINEAGE_NAMES.values()]


@dataclass(kw_only=True)
class RowReader:
    """Checks the rows of one file.

    Args:
        path: The file, for errors.
        strict: Raise at the first bad row; otherwise skip bad rows and count them by reason.
        record: What a row must be.
    """

    path: Path
    strict: bool
    record: type[AnswerRecord] = ProfileRecord
    num_skipped: int = 0
    _count_by_reason: Counter[str] = field(default_factory=Counter)
    _first_by_reason: dict[str, str] = field(default_factory=dict)

    def records(self, row: object, where: str) -> list[AnswerRecord]:
        """Return the records of one row: one, or one per run; none when the row is bad and skipped.

        Raises:
            ProfileError: If the row is bad and the reader strict.
        """
        if not isinstance(row, Mapping):
            self.reject(where, f"expected an object with fields, got {reprlib.repr(row)}", "not an object")
            return []
        try:
            return [self.record.model_validate(plain) for plain in plain_rows(row)]
        except ProfileError as err:
            self.reject(where, str(err), str(err))
        except ValidationError as err:
            self.reject(where, *explain(err))
        return []

    def reject(self, where: str, message: str, reason: str) -> None:
        """Deal with a bad row.

        Args:
            where: Its place in the file.
            message: What is wrong, with the value.
            reason: What is wrong without the value, to group by.

        Raises:
            ProfileError: If the reader is strict.
        """
        if self.strict:
            raise ProfileError(f"{self.path}: {where}: {message}")
        self.num_skipped += 1
        self._count_by_reason[reason] += 1
        self._first_by_reason.setdefault(reason, where)

    def finish(self, num_records: int) -> None:
        """Log what was skipped.

        Raises:
            ProfileError: If no record is left.
        """
        skipped = "; ".join(
            f"{count} x {reason} (first: {self._first_by_reason[reason]})"
            for reason, count in self._count_by_reason.most_common()
        )
        if num_records == 0:
            raise ProfileError(f"{self.path}: holds no records" + (f" that can be used: {skipped}" if skipped else ""))
        if skipped:
            _log.warning("%s: skipped %d bad rows: %s", self.path, self.num_skipped, skipped)


def read_environment(raw: object, path: Path) -> Environment:
    """Check an environment block.

    Raises:
        ProfileError: If a field is wrong.
    """
    try:
        return Environment.model_validate(raw)
    except ValidationError as err:
        raise ProfileError(f"{path}: environment: {explain(err)[0]}") from err


def explain(err: ValidationError) -> tuple[str, str]:
    """Word the first of a model's errors: with the value and the number of further errors, and without."""
    # A default that waits for another field fails with it, and says nothing new.
    own = [error for error in err.errors(include_url=False) if error["type"] != "default_factory_not_called"]
    first, *rest = own
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {len(rest)} more)" if rest else ""
    if first["type"] == "missing":
        return f"{name}: required field is missing{more}", f"{name}: required field is missing"
    wrong = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        close = get_close_matches(name, _KNOWN_FIELDS, n=1)
        wrong = "unknown field" + (f", did you mean {close[0]!r}?" if close else "")
    where = f"{name}: " if name else ""
    return f"{where}{wrong}, got {reprlib.repr(first['input'])}{more}", f"{where}{wrong}"
