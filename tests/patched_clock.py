"""A time source that gives exact times, for tests of what measures."""

import pytest


class Squares:
    """Time source whose mark number n, counted from 1, lies at n * n ms: no two durations are alike."""

    def __init__(self) -> None:
        self.num_marks = 0

    def mark(self) -> object:
        self.num_marks += 1
        return self.num_marks

    def synchronize(self) -> None:
        pass

    def elapsed_ms(self, start: object, end: object) -> float:
        assert isinstance(start, int)
        assert isinstance(end, int)
        return float(end**2 - start**2)


def patch_clock(monkeypatch: pytest.MonkeyPatch) -> Squares:
    """Let every clock of this process read one such source, and return it."""
    source = Squares()
    monkeypatch.setattr("profiling.clock.time_source", lambda _: source)
    return source
