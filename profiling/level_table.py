"""The level table: a file that says what the levels of top_k mean, block by block, for text and for vision tokens."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.config import MolmoConfig
from models.knobs import ExpertCounts
from profiling.checked_file import read_checked
from profiling.files import written_whole

LEVEL_TABLE_VERSION: Final = 1


class LevelTableError(ValueError):
    """A level table cannot be read or does not fit a model; says where and what was expected."""


class LevelScore(BaseModel):
    """How a level's meaning compares with the same number of experts everywhere.

    Args:
        accuracy_change: Mean accuracy minus that of the plain number, on samples that no meaning was chosen by.
        accuracy_low: Lower end of its interval over samples, corrected for the number of levels.
        accuracy_high: Upper end.
        plain_ms: Time of a request with the plain number.
        time_change_ms: Time of a request minus that, on the same requests in one run.
        time_high_ms: Upper end of its 95 % interval over requests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy_change: FiniteFloat
    accuracy_low: FiniteFloat
    accuracy_high: FiniteFloat
    plain_ms: FiniteFloat
    time_change_ms: FiniteFloat
    time_high_ms: FiniteFloat


class LevelEntry(BaseModel):
    """What a level means.

    Args:
        text: Experts of a text token in each block.
        vision: Experts of a vision token in each block.
        found_by: How it was found.
        score: How it compares; none where the level is the plain number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: tuple[int, ...]
    vision: tuple[int, ...]
    found_by: str
    score: LevelScore | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.experts()
        return self

    def experts(self) -> ExpertCounts:
        """Return the numbers as a setting takes them."""
        return ExpertCounts(text=self.text, vision=self.vision)


class LevelTable(BaseModel):
    """What each level of top_k means.

    Args:
        version: Of this layout.
        model: Name of the model.
        weights: Digest of its weights.
        random_weights: Whether these mean nothing, and the scores neither.
        num_blocks: Blocks that it has.
        dataset_names: Datasets that meanings were chosen and scored on.
        search_samples: Samples of each dataset that meanings were chosen by.
        report_samples: Other samples of each dataset, that the scores are of.
        device: What times were measured on.
        engine: How the model ran meanwhile.
        date: When it was made.
        by_top_k: Meanings by level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = LEVEL_TABLE_VERSION
    model: str
    weights: str
    random_weights: bool = False
    num_blocks: int = Field(ge=1)
    dataset_names: tuple[str, ...] = Field(min_length=1)
    search_samples: int = Field(ge=1)
    report_samples: int = Field(ge=1)
    device: str
    engine: str
    date: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    by_top_k: dict[int, LevelEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        if self.version != LEVEL_TABLE_VERSION:
            raise ValueError(f"version: must be {LEVEL_TABLE_VERSION}, got {self.version}")
        for top_k, entry in self.by_top_k.items():
            if len(entry.text) != self.num_blocks:
                raise ValueError(f"by_top_k.{top_k}: must name {self.num_blocks} blocks, got {len(entry.text)}")
        return self

    def experts_by_top_k(self, config: MolmoConfig, top_k: tuple[int, ...]) -> dict[int, ExpertCounts]:
        """Return what levels mean where that is not the plain number, as a ``KnobGrid`` takes it.

        Args:
            config: Shape of the model that is to run with them.
            top_k: The levels.

        Raises:
            LevelTableError: If the table has not a level.
            ValueError: If the model has another number of blocks, or not so many experts.
        """
        found = {}
        for level in top_k:
            if level not in self.by_top_k:
                known = ", ".join(map(str, sorted(self.by_top_k)))
                raise LevelTableError(f"level table: has the levels {known}, got {level}")
            experts = self.by_top_k[level].experts()
            experts.check(num_blocks=config.num_blocks, num_experts=config.num_experts)
            if experts != ExpertCounts.uniform(level, self.num_blocks):
                found[level] = experts
        return found

    def write(self, path: Path) -> None:
        """Write the table's file."""
        with written_whole(path) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n")


def read_level_table(path: Path | str) -> LevelTable:
    """Read a level table.

    Raises:
        LevelTableError: If the file is missing or not a level table; names the field.
    """
    return read_checked(path, LevelTable, error=LevelTableError, written_by="`main.py levels` writes level tables")
