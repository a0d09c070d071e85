from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from profiling.adaptive.run_files import read_rows, read_run, write_rows
from tests.served_rows import served_row, write_run

FILE = Path("run/requests.parquet")
ROWS = [served_row(), served_row(budget_ms=60.0, expected_ms=None, accuracy=None, metric=None, is_truncated=True)]


def test_what_a_run_wrote_is_read_again() -> None:
    run = read_run(write_run(Path("run"), ROWS, policy="mine", subject="tiny on a device"), name="first")
    assert run.rows == ROWS
    assert (run.name, run.policy, run.subject) == ("first", "mine", "tiny on a device")


def test_values_that_no_row_has_are_read_as_none() -> None:
    write_rows([ROWS[1]], Path("requests.parquet"))
    assert read_rows(Path("requests.parquet")) == [ROWS[1]]


def test_a_folder_that_lacks_a_file_is_told() -> None:
    Path("run").mkdir()
    with pytest.raises(
        ValueError, match=r"^run/requests.parquet: no such file; `test` of adaptive inference writes it"
    ):
        read_run(Path("run"), name="run")
    write_rows(ROWS, FILE)
    with pytest.raises(ValueError, match=r"^run/totals.json: no such file; `test` of adaptive inference writes it"):
        read_run(Path("run"), name="run")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: FILE.write_bytes(FILE.read_bytes()[:-20]), r"requests.parquet: not a Parquet file, or cut short"),
        (
            lambda: _rewrite(lambda rows: rows.drop(columns=["tier", "budget_ms"])),
            r"lacks the columns budget_ms, tier$",
        ),
        (lambda: _rewrite(lambda rows: rows[:0]), r"requests.parquet: holds no request$"),
        (
            lambda: _rewrite(lambda rows: rows.assign(latency_ms=[1.0, float("nan")])),
            r"rows\[1\].latency_ms: .*, got None$",
        ),
        (lambda: Path("run/totals.json").write_text('{"policy": "full"}'), r"totals.json: subject: Field required$"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(damage: Callable[[], object], message: str) -> None:
    write_run(Path("run"), ROWS)
    damage()
    with pytest.raises(ValueError, match=message):
        read_run(Path("run"), name="run")


def _rewrite(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(FILE)).to_parquet(FILE, index=False)
