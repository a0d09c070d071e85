"""What the comparison of levels' meanings found, as tables and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from profiling.levels.candidates import Candidate, Kind
from profiling.levels.comparison import MOST_SLOWER_SHARE, Compared
from profiling.levels.measurement import MassChanges
from profiling.markup import Table
from profiling.subsets.job import run_lengths

_WORDS: Final = {
    Kind.UNIFORM: "plain number",
    Kind.MODALITY: "by modality",
    Kind.LAYER_WEIGHTS: "by block, from weights",
    Kind.LAYER_SENSITIVITY: "by block, from samples",
}


def levels_table(found: Sequence[Compared], *, vision_share: float, subject: str) -> Table:
    """Lay out every candidate beside the plain number of its level."""
    rows = [
        (
            str(each.candidate.top_k),
            words(each.candidate),
            run_lengths(each.candidate.experts.text),
            run_lengths(each.candidate.experts.vision),
            f"{each.candidate.mean_experts(vision_share):.2f}",
            str(each.accuracy),
            "" if is_plain(each) else str(each.train_change),
            "" if is_plain(each) else str(each.change),
            f"{each.time_ms:.2f}",
            "" if is_plain(each) else str(each.time_change_ms),
            _verdict(each),
        )
        for each in found
    ]
    return Table(
        columns=(
            "level",
            "kind",
            "text",
            "vision",
            "mean",
            "accuracy",
            "change, train",
            "change, validation",
            "ms",
            "change, ms",
            "verdict",
        ),
        rows=tuple(rows),
        caption=f"{subject}. Text, vision: experts by block, 3x4 for 3 in four blocks; mean: over the tokens of "
        f"prompts ({vision_share:.0%} vision tokens) and blocks. Change: against the plain number of the level on the "
        "same samples or requests; intervals 95 %, over samples or requests, those of changes on validation corrected "
        "for the number of levels. As fast: the upper end of the time's change is at most "
        f"{100 * MOST_SLOWER_SHARE:.0f} % of the plain number's time. Adopted: the level's best on train of those as "
        "fast, if the interval on validation is above zero.",
    )


def matched_mass_table(changes: MassChanges, *, subject: str) -> Table:
    """Lay out what scaling router weights to the mass of the trained top_k changes.

    Args:
        changes: Accuracy and its change by level.
        subject: What was measured.
    """
    return Table(
        columns=("level", "accuracy", "change"),
        rows=tuple((str(top_k), f"{accuracy:.3f}", str(change)) for top_k, (accuracy, change) in changes.items()),
        caption=f"{subject}. Router weights scaled to the sum that the trained top_k's would have "
        "(model.match_router_mass), against not doing so; 95 % intervals over samples.",
    )


def levels_json(found: Sequence[Compared], changes: MassChanges, *, vision_share: float) -> dict[str, Any]:
    """Return what ``levels.json`` holds."""
    return {
        "vision_share": vision_share,
        "candidates": [
            asdict(each) | {"mean_experts": each.candidate.mean_experts(vision_share), "is_adopted": each.is_adopted}
            for each in found
        ],
        "matched_router_mass": {
            str(top_k): {"accuracy": accuracy, "change": asdict(change)}
            for top_k, (accuracy, change) in changes.items()
        },
    }


def is_plain(each: Compared) -> bool:
    """Tell whether a candidate is the plain number."""
    return each.candidate.kind is Kind.UNIFORM


def words(candidate: Candidate) -> str:
    """Say how a candidate was found."""
    return _WORDS[candidate.kind]


def _verdict(each: Compared) -> str:
    if is_plain(each):
        return ""
    if each.is_adopted:
        return "adopted"
    if not each.is_as_fast:
        return "not shown as fast"
    return "chosen, not shown better" if each.is_chosen else ""
