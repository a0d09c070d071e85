"""The file that a benchmark grows in: one JSON line for each finished cell, so that a killed run loses one cell."""

import fcntl
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from profiling.bench.cells import BenchStage, Cell
from profiling.bench.hardware import Hardware
from profiling.bench.runner import Outcome
from profiling.jsonl import drop_cut_line

_log = logging.getLogger(__name__)

# A resumed run is another day's, perhaps after a commit that touched something else.
_MAY_DIFFER: Final = {"date", "commit"}


class BenchLog:
    """Reads what earlier runs of a benchmark finished, and appends to it.

    The first line says what is measured and where, and that stays the environment of the whole. Lines of ``hardware``
    stand before and after the cells of each start.

    Args:
        path: A file in an existing folder.
        benchmark: What is measured, as plain values.
        environment: Where, as plain values.

    Raises:
        ValueError: If the file is another benchmark's or of another environment, is damaged, or is being written to.
    """

    def __init__(self, path: Path, benchmark: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        self.path = path
        self.cells: dict[Cell, dict[str, Outcome]] = {}
        self.hardware: list[Hardware] = []
        self.environment = dict(environment)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            drop_cut_line(path)
            lines = path.read_text(encoding="utf-8").splitlines()
            header = {"benchmark": benchmark, "environment": environment}
            if lines:
                self._read(lines, json.loads(json.dumps(header)))
            else:
                self._append(header)
        except BlockingIOError as err:
            self._file.close()
            raise ValueError(f"output_dir: another run is writing to {path}; wait for it or stop it") from err
        except ValueError:
            self._file.close()
            raise

    def fastest(self) -> Hardware:
        """Return the best rates of all starts: no cell may be held against less than the device can do."""
        return Hardware(
            bandwidth_bytes_per_s=max(rates.bandwidth_bytes_per_s for rates in self.hardware),
            flops_per_s=max(rates.flops_per_s for rates in self.hardware),
        )

    def write_hardware(self, hardware: Hardware) -> None:
        """Append what the device can do now."""
        self.hardware.append(hardware)
        self._append({"hardware": asdict(hardware)})

    def write_cell(self, cell: Cell, outcomes: Mapping[str, Outcome]) -> None:
        """Append a finished cell and wait until it is on disk."""
        self.cells[cell] = dict(outcomes)
        self._append({"cell": asdict(cell), "outcomes": {name: asdict(outcome) for name, outcome in outcomes.items()}})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _append(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, lines: list[str], header: Mapping[str, Any]) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                if number == 1:
                    self._check(content["benchmark"], content["environment"], header)
                elif "hardware" in content:
                    self.hardware.append(Hardware(**content["hardware"]))
                else:
                    cell = Cell(**{**content["cell"], "stage": BenchStage(content["cell"]["stage"])})
                    self.cells[cell] = {name: _outcome(fields) for name, fields in content["outcomes"].items()}
            except (json.JSONDecodeError, KeyError, TypeError) as err:
                raise ValueError(f"{self.path}: line {number}: not a line of a benchmark ({err!r})") from err

    def _check(self, benchmark: Mapping[str, Any], environment: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        changed = [name for name, value in header["benchmark"].items() if benchmark.get(name) != value]
        if changed:
            raise ValueError(
                f"output_dir: {self.path} is of another benchmark ({', '.join(changed)} differ); "
                "give its arguments again or another folder"
            )
        self.environment = dict(environment)
        for name, value in header["environment"].items():
            if name == "commit" and environment.get(name) != value:
                _log.warning("%s: continuing a run of commit %s with commit %s", self.path, environment[name], value)
            if name not in _MAY_DIFFER and environment.get(name) != value:
                raise ValueError(
                    f"output_dir: {self.path} was measured with {name} {environment.get(name)!r} and this run has "
                    f"{value!r}; give another folder"
                )


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**fields, "samples_ms": tuple(fields["samples_ms"])})
