import re

import pytest

from profiling.adaptive.run_files import Run
from profiling.adaptive.same_requests import in_same_order
from profiling.adaptive.served import Served
from tests.served_rows import served_row

ROWS = [served_row(sample_id=name, image_id=f"i{name}", budget_ms=ms) for name in "abc" for ms in (50.0, 62.5)]


def run(name: str, rows: list[Served]) -> Run:
    return Run(name=name, policy="full", subject="a device", rows=rows)


def test_rows_are_put_into_the_order_of_the_first_run() -> None:
    one, two = in_same_order([run("one", ROWS), run("two", ROWS[::-1])])
    assert one.rows == two.rows == ROWS
    assert (two.name, two.policy, two.subject) == ("two", "full", "a device")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (ROWS, ROWS[1:4], "two lacks 3 of the 6 requests of all runs, the first is d/test 'a' under 50 ms"),
        (ROWS[:5], ROWS, "one lacks 1 of the 6 requests of all runs, the first is d/test 'c' under 62.5 ms"),
        (ROWS, [*ROWS, ROWS[2]], "two answered d/test 'b' under 50 ms twice"),
        (
            ROWS,
            [*ROWS[:5], served_row(sample_id="c", image_id="other", budget_ms=62.5)],
            "two was asked d/test 'c' under 62.5 ms about picture 'other', one about 'ic'",
        ),
        (
            ROWS,
            [*ROWS[1:], served_row(sample_id="a", image_id="ia", accuracy=None)],
            "two has no accuracy for 1 of its 6 requests, the first is d/test 'a' under 50 ms",
        ),
    ],
)
def test_other_requests_are_refused(first: list[Served], second: list[Served], message: str) -> None:
    with pytest.raises(ValueError, match=f"^runs: {re.escape(message)}$"):
        in_same_order([run("one", first), run("two", second)])
