import re

import pytest

from profiling.suite.families import FAMILIES
from profiling.suite.speed import bench_suite


def test_the_command_prints_a_rate_for_each_family(capsys: pytest.CaptureFixture[str]) -> None:
    bench_suite(num_samples=2, canvas_pixels=32, num_workers=2)
    printed = capsys.readouterr().out
    assert "32x32 pixels, 2 worker(s)" in printed
    for family in FAMILIES:
        assert re.search(rf"{family}\s*\S\s*[\d,]+\s*\S\s*[\d,]+", printed)


@pytest.mark.parametrize("field", ["num_samples", "canvas_pixels", "num_workers"])
def test_numbers_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be 1 or more, got 0"):
        bench_suite(**{field: 0})
