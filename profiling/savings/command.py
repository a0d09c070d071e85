"""The ``savings`` command: what choosing settings by what is asked saves at equal accuracy."""

# Shape suffixes: N = samples, S = settings.

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from profiling.controllers.answered import read_answered, without_pictures_of
from profiling.controllers.feature_file import FeatureFile, read_feature_files
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Codes, Outcomes, read_outcomes
from profiling.controllers.requests import Requests
from profiling.files import write_json
from profiling.progress import progress_bar
from profiling.savings.forecasts import TEACHINGS
from profiling.savings.prices import least_time
from profiling.savings.report import Saving, measure_saving, savings_table, setting_words, summary
from profiling.savings.two_folds import TwoFolds, choose_in_two_folds

_SLACKS: Final = (0.0, 0.01, 0.02)
_ORACLE: Final = "oracle by question"
_SMALLEST_SHARE: Final = 0.01  # that is worth telling


def savings(
    profile: str,
    output_dir: Path,
    *,
    answers: Sequence[str] = (),
    features: Sequence[str] = (),
    num_halvings: int = 10,
    seed: int = 42,
) -> None:
    """Compare settings chosen by what is asked with the best setting for all, in latency at equal accuracy.

    Three ways to choose: by dataset, by what a question asks by its words, and by linear models of the very question.
    All parts of the profile are put together and halved by picture, several times. Writes ``savings.json``, ``.md`` and
    ``.tex``.

    Args:
        profile: Profile with answers, each question at every setting: a file, a folder or a glob pattern.
        output_dir: Where to write.
        answers: Files of ``answer-grid``: many more questions to learn accuracies from, beside either half. Those about
            pictures of the profile are left out, and a dataset counts as much as in the profile.
        features: Files of ``controller-features`` for all of these questions, so that the linear models know the words
            and the overview; without, they know sizes and kinds of question alone.
        num_halvings: How often; one halving alone may save much more or less than another.
        seed: Of the halves and of the intervals.

    Raises:
        ValueError: If the profile or the answers cannot be read, have no answers or lack a setting of a question, do
            not belong together, features are missing, or the profile is never halved.
    """
    if num_halvings < 1:
        raise ValueError(f"num_halvings: must be 1 or more, got {num_halvings}")
    outcomes = read_outcomes([profile])
    _check_complete(outcomes, "profile")
    known = read_feature_files(features) if features else None
    measured = _requests(outcomes, known)
    answered = _read_answers(answers, outcomes, known) if answers else None
    halvings = _halve(measured, answered, seeds=range(seed, seed + num_halvings))
    found: list[Saving] = []
    learned: list[dict[str, Any]] = []
    for place, slack in enumerate(_SLACKS):
        for name, by_seed in halvings.items():
            own = [by_slack[place] for by_slack in by_seed]
            found.append(measure_saving(outcomes, own, [one.chosen_N for one in own], policy=name, seed=seed))
            learned.append(_lesson_json(outcomes, name, slack, own))
        best = [oracle_by_question(outcomes, one.static_N) for one in own]  # static settings do not depend on the way
        found.append(measure_saving(outcomes, own, best, policy=_ORACLE, seed=seed))
    _write(outcomes, 0 if answered is None else len(answered), found, learned, output_dir)


def oracle_by_question(outcomes: Outcomes, static_N: Codes) -> Codes:
    """Choose for each question by its own outcomes, so that all are as accurate as statically in the least time."""
    target = float(outcomes.accuracy_NS[np.arange(len(outcomes)), static_N].mean())
    return least_time(outcomes.latency_ms_NS, outcomes.accuracy_NS, target=target)


def _halve(measured: Requests, answered: Requests | None, *, seeds: Sequence[int]) -> dict[str, list[list[TwoFolds]]]:
    """Choose in two folds in every way, once for each seed, for every slack."""
    halvings: dict[str, list[list[TwoFolds]]] = {name: [] for name in TEACHINGS}
    with progress_bar(Console()) as progress:
        task = progress.add_task("halvings", total=len(seeds) * len(TEACHINGS))
        for name, teach in TEACHINGS.items():
            for seed in seeds:
                halvings[name].append(choose_in_two_folds(measured, answered, teach, slacks=_SLACKS, seed=seed))
                progress.advance(task)
    return halvings


def _requests(outcomes: Outcomes, known: FeatureFile | None) -> Requests:
    if known is None:
        return Requests(outcomes=outcomes, features=without_embeddings(outcomes))
    return Requests(outcomes=outcomes, features=known.features_of(outcomes, source="features"))


def _read_answers(files: Sequence[str], measured: Outcomes, known: FeatureFile | None) -> Requests:
    answered = without_pictures_of(read_answered(files, measured, dataset_names=[]), measured)
    _check_complete(answered, "answers")
    return _requests(answered, known)


def _check_complete(outcomes: Outcomes, where: str) -> None:
    if not outcomes.is_measured_NS.all():
        sample, setting = np.argwhere(~outcomes.is_measured_NS)[0]
        raise ValueError(
            f"{where}: savings needs every setting of every question, sample "
            f"{outcomes.samples['sample_id'].iloc[int(sample)]!r} lacks {setting_words(outcomes, int(setting))}"
        )


def _lesson_json(outcomes: Outcomes, policy: str, slack: float, halvings: Sequence[TwoFolds]) -> dict[str, Any]:
    """Say what was learned, and which share of each dataset got which setting, over all halvings."""
    dataset_N = outcomes.samples["dataset"].to_numpy()
    shares = {}
    for dataset in np.unique(dataset_N).tolist():
        chosen = np.concatenate([folds.chosen_N[dataset_N == dataset] for folds in halvings])
        share_S = np.bincount(chosen, minlength=len(outcomes.settings)) / len(chosen)
        order = [place for place in (-share_S).argsort(kind="stable").tolist() if share_S[place] >= _SMALLEST_SHARE]
        shares[dataset] = {setting_words(outcomes, place): round(float(share_S[place]), 3) for place in order}
    return {
        "policy": policy,
        "slack": slack,
        "static": [setting_words(outcomes, lesson.static) for folds in halvings for lesson in folds.lessons],
        "price_ms": [lesson.price_ms for folds in halvings for lesson in folds.lessons],
        "shares": shares,
    }


def _write(
    outcomes: Outcomes,
    num_answered: int,
    found: Sequence[Saving],
    learned: Sequence[dict[str, Any]],
    output_dir: Path,
) -> None:
    environment = outcomes.environment
    subject = (
        f"{environment.model}, {environment.engine} engine, {environment.dtype}, {environment.device}, "
        f"{len(outcomes)} questions about {outcomes.samples['image_id'].nunique()} pictures"
        + (f", {num_answered} more that were only answered teach beside either half" if num_answered else "")
    )
    table = savings_table(found, subject=subject)
    content = {
        "environment": environment.model_dump(mode="json"),
        "num_questions": len(outcomes),
        "num_answered": num_answered,
        "savings": [saving.to_json() for saving in found],
        "lessons": list(learned),
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / "savings.json", content)
    table.write(output_dir / "savings")
    summary(table).show(Console())
