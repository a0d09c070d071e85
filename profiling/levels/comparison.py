"""Compare the meanings of each level with the plain number, and adopt those that answer better in no more time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiling.level_table import LevelEntry, LevelScore
from profiling.levels.candidates import Candidate, Kind
from profiling.resampling import Interval, mean_intervals
from profiling.subsets.change import accuracy_change
from profiling.subsets.job import NO_COST, Outcome

MOST_SLOWER_SHARE: Final = 0.01
"""Share of the plain number's time that a meaning must be shown to add at most."""

_TAILS_PERCENT = 5.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a candidate was measured to do.

    Args:
        candidate: The candidate.
        train: Answers on the samples that are chosen by.
        validation: Answers on other samples.
        time_ms: ``(requests,)``: time of each request.
    """

    candidate: Candidate
    train: Outcome
    validation: Outcome
    time_ms: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A candidate beside the plain number of its level.

    Args:
        candidate: The candidate.
        accuracy: Mean accuracy on samples that nothing was chosen by; 95 % interval.
        train_change: Accuracy minus the plain number's, on the samples that are chosen by; 95 % interval.
        change: The same on the other samples; its interval is corrected for the number of levels.
        time_ms: Mean time of a request.
        plain_ms: The same of the plain number.
        time_change_ms: Time minus the plain number's, on the same requests; 95 % interval over requests.
        is_chosen: Whether it is the level's one candidate that the other samples decide on.
    """

    candidate: Candidate
    accuracy: Interval
    train_change: Interval
    change: Interval
    time_ms: float
    plain_ms: float
    time_change_ms: Interval
    is_chosen: bool = False

    @property
    def is_as_fast(self) -> bool:
        """Whether it is shown to take as little time as the plain number, but for a fixed share of that.

        The whole interval must lie below, so that times that are less certain never make it easier.
        """
        return self.time_change_ms.high <= MOST_SLOWER_SHARE * self.plain_ms

    @property
    def is_adopted(self) -> bool:
        """Whether the level shall mean this from now on."""
        return self.is_chosen and self.is_as_fast and self.change.low > 0

    def entry(self) -> LevelEntry:
        """Return the level table's entry."""
        experts, kind = self.candidate.experts, self.candidate.kind
        if kind is Kind.UNIFORM:
            return LevelEntry(text=experts.text, vision=experts.vision, found_by=kind)
        score = LevelScore(
            accuracy_change=self.change.value,
            accuracy_low=self.change.low,
            accuracy_high=self.change.high,
            plain_ms=self.plain_ms,
            time_change_ms=self.time_change_ms.value,
            time_high_ms=self.time_change_ms.high,
        )
        return LevelEntry(text=experts.text, vision=experts.vision, found_by=kind, score=score)


def compare(measured: Sequence[Measured], *, seed: int) -> list[Compared]:
    """Compare every candidate with the plain number of its level, and choose one for each level.

    Chosen is, of those as fast as the plain number, the one most right on the samples that are chosen by, if it is
    more right than the plain number there.

    Args:
        measured: Candidates of all levels, the plain numbers among them.
        seed: Of the intervals.
    """
    plain = {each.candidate.top_k: each for each in measured if each.candidate.kind is Kind.UNIFORM}
    num_tests = len({each.candidate.top_k for each in measured if each.candidate.kind is not Kind.UNIFORM})
    found = [_compared(each, plain[each.candidate.top_k], seed=seed, num_tests=num_tests) for each in measured]
    chosen = {top_k: _chosen([each for each in found if each.candidate.top_k == top_k]) for top_k in plain}
    return [replace(each, is_chosen=each.candidate == chosen[each.candidate.top_k]) for each in found]


def adopted(found: Sequence[Compared]) -> dict[int, LevelEntry]:
    """Return what each level means from now on."""
    entries = {each.candidate.top_k: each.entry() for each in found if each.candidate.kind is Kind.UNIFORM}
    return entries | {each.candidate.top_k: each.entry() for each in found if each.is_adopted}


def _compared(each: Measured, plain: Measured, *, seed: int, num_tests: int) -> Compared:
    tail_percent = _TAILS_PERCENT / 2 / max(1, num_tests)
    return Compared(
        candidate=each.candidate,
        accuracy=accuracy_change(_nothing_right(each.validation), each.validation, seed=seed),
        train_change=accuracy_change(plain.train, each.train, seed=seed),
        change=accuracy_change(plain.validation, each.validation, seed=seed, tail_percent=tail_percent),
        time_ms=float(each.time_ms.mean()),
        plain_ms=float(plain.time_ms.mean()),
        time_change_ms=mean_intervals((each.time_ms - plain.time_ms)[:, None], seed=seed)[0],
    )


def _nothing_right(outcome: Outcome) -> Outcome:
    values = {name: {"accuracy": np.zeros_like(each["accuracy"])} for name, each in outcome.values.items()}
    return Outcome(values=values, cost=NO_COST)


def _chosen(of_level: Sequence[Compared]) -> Candidate | None:
    better = [each for each in of_level if each.is_as_fast and each.train_change.value > 0]
    return max(better, key=lambda each: each.train_change.value).candidate if better else None
