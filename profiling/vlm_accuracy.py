"""How right a snapshot's answers are, as a file: by family and knob setting, and by kind of question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.knobs import KnobGrid, KnobSetting
from profiling.answers import spot_settings
from profiling.checked_file import read_checked
from profiling.schema import Environment

BLIND: Final = "blind"
MAJORITY: Final = "majority"

Baseline = Literal["blind", "majority"]


class AccuracyError(ValueError):
    """A file of accuracies cannot be read; says where and what was expected."""


class _Row(BaseModel):
    """What is said of one family.

    Args:
        family: Name of the dataset.
        accuracy: Mean score.
        num_samples: How many samples it is the mean of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    accuracy: float = Field(ge=0, le=1)
    num_samples: int = Field(ge=1)


class Accuracy(_Row):
    """How right the answers of one family were with one setting.

    Args:
        tier: Knob that the model ran with; those of the full setting where it was not shown the pictures or not asked.
        top_k: Likewise.
        num_active_blocks: Likewise.
        active_blocks: Likewise.
        baseline: ``blind`` without pictures, ``majority`` without a model, null for the model itself.
    """

    tier: str
    top_k: int
    num_active_blocks: int
    active_blocks: tuple[int, ...]
    baseline: Baseline | None

    @classmethod
    def of(
        cls, family: str, setting: KnobSetting, values: Sequence[float], *, baseline: Baseline | None = None
    ) -> "Accuracy":
        """Average the scores of a family."""
        return cls(
            family=family,
            accuracy=sum(values) / len(values),
            num_samples=len(values),
            tier=setting.tier,
            top_k=setting.top_k,
            num_active_blocks=setting.num_active_blocks,
            active_blocks=setting.active_blocks,
            baseline=baseline,
        )

    @property
    def setting(self) -> KnobSetting:
        """What the model ran with."""
        return KnobSetting(tier=self.tier, top_k=self.top_k, active_blocks=self.active_blocks)


class KindAccuracy(_Row):
    """How right the answers to one kind of question were at the full setting.

    Args:
        kind: What is asked, as the dataset's tags say.
        difficulty: ``easy`` or ``hard``, as they say.
    """

    kind: str
    difficulty: str


class AccuracyReport(BaseModel):
    """How right a snapshot's answers are.

    Args:
        environment: The snapshot, and what it ran on.
        split: Part of the datasets.
        seed: Of the samples drawn.
        rows: By family and setting, baselines among them.
        kinds: By kind of question, of families that tell them apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: Environment
    split: str
    seed: int
    rows: tuple[Accuracy, ...] = Field(min_length=1)
    kinds: tuple[KindAccuracy, ...] = ()

    @classmethod
    def read(cls, path: Path | str) -> "AccuracyReport":
        """Read a file.

        Raises:
            AccuracyError: If it is missing or not of that kind.
        """
        return read_checked(path, cls, error=AccuracyError, written_by="evaluate-vlm writes them")

    def markdown(self, grid: KnobGrid, full: KnobSetting) -> str:
        """Write tables: families by single knobs and baselines, the mean over families for every setting, and kinds."""
        name = f"{self.environment.model}, {self.split} samples, {self.environment.device}, {self.environment.dtype}"
        lines = [f"# Accuracy of {name}", "", *self._family_lines(grid, full)]
        lines += ["", "Mean over the families, by setting:", "", *self._setting_lines(grid)]
        if self.kinds:
            lines += ["", "At the full setting, by kind of question:", "", *self._kind_lines()]
        return "\n".join(lines) + "\n"

    def _family_lines(self, grid: KnobGrid, full: KnobSetting) -> list[str]:
        spots = spot_settings(grid, full)
        by_family: dict[str, dict[str, Accuracy]] = {}
        for row in self.rows:
            names = [row.baseline] if row.baseline else [name for name, spot in spots.items() if spot == row.setting]
            by_family.setdefault(row.family, {}).update(dict.fromkeys(names, row))
        columns = [*spots, BLIND, MAJORITY]
        lines = [_line(["family", "n", *columns]), _line(["---"] * (len(columns) + 2))]
        for family, cells in by_family.items():
            numbers = [f"{cells[column].accuracy:.3f}" for column in columns]
            lines.append(_line([family, str(cells["full"].num_samples), *numbers]))
        return lines

    def _setting_lines(self, grid: KnobGrid) -> list[str]:
        by_setting: dict[KnobSetting, list[float]] = {}
        for row in self.rows:
            if row.baseline is None:
                by_setting.setdefault(row.setting, []).append(row.accuracy)
        counts = list(grid.blocks_by_count)
        lines = [_line(["tier", "top_k", *(f"{count} blocks" for count in counts)])]
        lines.append(_line(["---"] * (len(counts) + 2)))
        for tier in grid.tiers:
            for top_k in grid.top_k:
                means = [by_setting.get(grid.setting(tier=tier.name, top_k=top_k, num_active_blocks=c)) for c in counts]
                cells = ["" if mean is None else f"{sum(mean) / len(mean):.3f}" for mean in means]
                if any(cells):
                    lines.append(_line([tier.name, str(top_k), *cells]))
        return lines

    def _kind_lines(self) -> list[str]:
        columns = ["family", "kind", "difficulty", "n", "accuracy"]
        return [
            _line(columns),
            _line(["---"] * len(columns)),
            *(
                _line([row.family, row.kind, row.difficulty, str(row.num_samples), f"{row.accuracy:.3f}"])
                for row in self.kinds
            ),
        ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
