from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from profiling.adaptive.journal import Journal
from tests.served_rows import served_row

RUN: dict[str, Any] = {"policy": {"controller": "full"}, "environment": {"device": "x", "date": "monday"}}
FILE = Path("run/requests.jsonl")


def journal_of(run: Mapping[str, Any]) -> Journal:
    return Journal(FILE, run, option="--folder")


def test_what_was_written_is_there_again() -> None:
    journal = journal_of(RUN)
    journal.write(served_row())
    journal.write(served_row(budget_ms=60.0, expected_ms=None))
    journal = journal_of({**RUN, "environment": {"device": "x", "date": "tuesday"}})
    assert list(journal.served.values()) == [served_row(), served_row(budget_ms=60.0, expected_ms=None)]
    assert list(journal.served) == [("d", "test", "s0", 50.0), ("d", "test", "s0", 60.0)]


def test_a_line_that_a_crash_cut_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    journal = journal_of(RUN)
    journal.write(served_row())
    journal.write(served_row(sample_id="s1"))
    FILE.write_text(FILE.read_text()[:-30])
    journal = journal_of(RUN)
    assert len(journal.served) == 1
    journal.write(served_row(sample_id="s2"))
    journal = journal_of(RUN)
    assert [row.sample_id for row in journal.served.values()] == ["s0", "s2"]
    assert "dropped the last line" in caplog.text


def test_rows_of_another_run_are_not_added_to() -> None:
    journal_of(RUN)
    message = (
        r"policy.controller: the file is of a run with 'full' and this one has 'random'; "
        "write to another place with --folder"
    )
    with pytest.raises(ValueError, match=message):
        journal_of({**RUN, "policy": {"controller": "random"}})


@pytest.mark.parametrize(
    ("line", "message"),
    [("nonsense", "line 2: not JSON"), ("3", "line 2: expected an object"), ('{"a": 1}', "line 2: fields missing")],
)
def test_a_broken_line_is_named(line: str, message: str) -> None:
    journal_of(RUN)
    FILE.write_text(f"{FILE.read_text()}{line}\n")
    with pytest.raises(ValueError, match=message):
        journal_of(RUN)
