"""The parts of datasets that something is found by, and looked at afterwards."""

from typing import Final

from profiling.subsets.job import Part

SEARCH_PART: Final[Part] = "train"
REPORT_PART: Final[Part] = "validation"
