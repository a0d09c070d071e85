"""Runs side by side: whether they answered the same requests, and each one's rows in the same order."""

from collections.abc import Sequence
from dataclasses import replace

from profiling.adaptive.request import Key
from profiling.adaptive.run_files import Run
from profiling.adaptive.served import Served


def in_same_order(runs: Sequence[Run]) -> list[Run]:
    """Put the rows of all runs into the order of the first one's.

    Requests are told apart by dataset, split, sample and budget.

    Raises:
        ValueError: If a run lacks a request of another one or answered one twice, pictures differ, or an answer has no
            accuracy.
    """
    by_key = {run.name: _by_key(run) for run in runs}
    _check_none_is_missing(by_key)
    first = by_key[runs[0].name]
    for name, rows in by_key.items():
        for key, row in rows.items():
            if row.image_id != first[key].image_id:
                raise ValueError(
                    f"runs: {name} was asked {_words(key)} about picture {row.image_id!r}, {runs[0].name} about "
                    f"{first[key].image_id!r}"
                )
    return [replace(run, rows=[by_key[run.name][key] for key in first]) for run in runs]


def _by_key(run: Run) -> dict[Key, Served]:
    found: dict[Key, Served] = {}
    for row in run.rows:
        if row.key in found:
            raise ValueError(f"runs: {run.name} answered {_words(row.key)} twice")
        found[row.key] = row
    unscored = [key for key, row in found.items() if row.accuracy is None]
    if unscored:
        raise ValueError(
            f"runs: {run.name} has no accuracy for {len(unscored)} of its {len(found)} requests, the first is "
            f"{_words(unscored[0])}"
        )
    return found


def _check_none_is_missing(by_key: dict[str, dict[Key, Served]]) -> None:
    asked = {key: None for rows in by_key.values() for key in rows}  # in order, unlike a set
    for name, rows in by_key.items():
        missing = [key for key in asked if key not in rows]
        if missing:
            raise ValueError(
                f"runs: {name} lacks {len(missing)} of the {len(asked)} requests of all runs, the first is "
                f"{_words(missing[0])}"
            )


def _words(key: Key) -> str:
    dataset, split, sample_id, budget_ms = key
    return f"{dataset}/{split} {sample_id!r} under {budget_ms:g} ms"
