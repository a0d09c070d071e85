"""The ``savings`` command: what choosing settings by what is asked saves at equal accuracy."""

# Shape suffixes: N = samples, S = settings.

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from profiling.controllers.outcomes import Codes, Outcomes, read_outcomes
from profiling.files import write_json
from profiling.savings.kinds import KINDS
from profiling.savings.least_time import least_time
from profiling.savings.report import Saving, measure_saving, savings_table, setting_words, summary
from profiling.savings.two_folds import Lesson, choose_in_two_folds

_SLACKS: Final = (0.0, 0.01, 0.02)
_ORACLE: Final = "oracle by question"


def savings(profile: str, output_dir: Path, *, seed: int = 42) -> None:
    """Compare a setting for each kind of question with the best setting for all, in latency at equal accuracy.

    Kinds are the dataset, and what a question asks by its words; both are known before anything runs. All parts of the
    profile are put together and halved by picture. Writes ``savings.json``, ``.md`` and ``.tex``.

    Args:
        profile: Profile with answers, each question at every setting: a file, a folder or a glob pattern.
        output_dir: Where to write.
        seed: Of the halves and of the intervals.

    Raises:
        ValueError: If the profile cannot be read, has no answers, or a question lacks a setting.
    """
    outcomes = read_outcomes([profile])
    _check_complete(outcomes)
    chosen = {
        name: choose_in_two_folds(outcomes, kinds_of(outcomes), slacks=_SLACKS, seed=seed)
        for name, kinds_of in KINDS.items()
    }
    found: list[Saving] = []
    for by_policy in zip(*chosen.values(), strict=True):
        for name, folds in zip(chosen, by_policy, strict=True):
            found.append(measure_saving(outcomes, folds, folds.chosen_N, policy=name, seed=seed))
        static = by_policy[0]  # the same for all of them
        found.append(
            measure_saving(outcomes, static, oracle_by_question(outcomes, static.static_N), policy=_ORACLE, seed=seed)
        )
    learned = [
        _lesson_json(outcomes, name, folds.slack, lesson)
        for name, by_slack in chosen.items()
        for folds in by_slack
        for lesson in folds.lessons
    ]
    _write(outcomes, found, learned, output_dir)


def oracle_by_question(outcomes: Outcomes, static_N: Codes) -> Codes:
    """Choose for each question by its own outcomes, so that all are as accurate as statically in the least time."""
    target = float(outcomes.accuracy_NS[np.arange(len(outcomes)), static_N].mean())
    return least_time(outcomes.latency_ms_NS, outcomes.accuracy_NS, np.ones(len(outcomes)), target=target)


def _check_complete(outcomes: Outcomes) -> None:
    if not outcomes.is_measured_NS.all():
        sample, setting = np.argwhere(~outcomes.is_measured_NS)[0]
        raise ValueError(
            f"profile: savings needs every setting of every question, sample "
            f"{outcomes.samples['sample_id'].iloc[int(sample)]!r} lacks {setting_words(outcomes, int(setting))}"
        )


def _lesson_json(outcomes: Outcomes, policy: str, slack: float, lesson: Lesson) -> dict[str, Any]:
    return {
        "policy": policy,
        "slack": slack,
        "margin": lesson.margin,
        "static": setting_words(outcomes, lesson.static),
        "by_kind": {kind: setting_words(outcomes, place) for kind, place in lesson.by_kind.items()},
    }


def _write(outcomes: Outcomes, found: Sequence[Saving], learned: Sequence[dict[str, Any]], output_dir: Path) -> None:
    environment = outcomes.environment
    subject = (
        f"{environment.model}, {environment.engine} engine, {environment.dtype}, {environment.device}, "
        f"{len(outcomes)} questions about {outcomes.samples['image_id'].nunique()} pictures"
    )
    table = savings_table(found, subject=subject)
    content = {
        "environment": environment.model_dump(mode="json"),
        "num_questions": len(outcomes),
        "savings": [saving.to_json() for saving in found],
        "lessons": list(learned),
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / "savings.json", content)
    table.write(output_dir / "savings")
    summary(table).show(Console())
