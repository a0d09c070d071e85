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


def savings(profile: str, output_dir: Path, *, num_halvings: int = 10, seed: int = 42) -> None:
    """Compare a setting for each kind of question with the best setting for all, in latency at equal accuracy.

    Kinds are the dataset, and what a question asks by its words; both are known before anything runs. All parts of the
    profile are put together and halved by picture, several times. Writes ``savings.json``, ``.md`` and ``.tex``.

    Args:
        profile: Profile with answers, each question at every setting: a file, a folder or a glob pattern.
        output_dir: Where to write.
        num_halvings: How often; one halving alone may save much more or less than another.
        seed: Of the halves and of the intervals.

    Raises:
        ValueError: If the profile cannot be read, has no answers, lacks a setting of a question, or is never halved.
    """
    if num_halvings < 1:
        raise ValueError(f"num_halvings: must be 1 or more, got {num_halvings}")
    outcomes = read_outcomes([profile])
    _check_complete(outcomes)
    seeds = range(seed, seed + num_halvings)
    kinds = {name: kinds_of(outcomes) for name, kinds_of in KINDS.items()}
    halvings = {
        name: [choose_in_two_folds(outcomes, kind_N, slacks=_SLACKS, seed=one) for one in seeds]
        for name, kind_N in kinds.items()
    }
    found: list[Saving] = []
    learned: list[dict[str, Any]] = []
    for place, slack in enumerate(_SLACKS):
        for name in kinds:
            own = [by_slack[place] for by_slack in halvings[name]]
            found.append(measure_saving(outcomes, own, [one.chosen_N for one in own], policy=name, seed=seed))
            learned += [_lesson_json(outcomes, name, slack, lesson) for one in own for lesson in one.lessons]
        best = [oracle_by_question(outcomes, one.static_N) for one in own]  # static settings do not depend on kinds
        found.append(measure_saving(outcomes, own, best, policy=_ORACLE, seed=seed))
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
