"""The block table: a file that says which blocks run, for each number of active blocks."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.config import MolmoConfig
from models.knobs import KnobGrid, Tier
from profiling.checked_file import read_checked
from profiling.files import written_whole

BLOCK_TABLE_VERSION: Final = 1


class BlockTableError(ValueError):
    """A block table cannot be read or does not fit a model; says where and what was expected."""


class TableScore(BaseModel):
    """How right the answers of a subset are, on samples that it was not chosen by.

    Args:
        accuracy_mean: Mean over datasets of their mean accuracy.
        accuracy_std: Standard deviation over datasets, 0 for a single one.
        num_datasets: Datasets behind the mean; the same ones for every subset.
        drop: Mean accuracy of the whole model minus this one's, on the same samples.
        drop_low: Lower end of its 95 % interval over samples.
        drop_high: Upper end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy_mean: FiniteFloat
    accuracy_std: FiniteFloat
    num_datasets: int = Field(ge=1)
    drop: FiniteFloat
    drop_low: FiniteFloat
    drop_high: FiniteFloat


class TableGain(BaseModel):
    """By how much more right a subset's answers are than those of as many blocks spread evenly, on the same samples.

    Args:
        value: Mean accuracy of the one minus that of the other, every dataset of the same weight.
        low: Lower end of its 95 % interval over samples.
        high: Upper end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class TableEntry(BaseModel):
    """The subset for one number of active blocks.

    Args:
        active_blocks: Sorted indices.
        found_by: The searches that found it, or what it is known as.
        score: How right its answers are.
        gain: By how much they are better than those of evenly spread blocks; older tables do not say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    active_blocks: tuple[int, ...]
    found_by: str
    score: TableScore
    gain: TableGain | None = None

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        blocks = self.active_blocks
        if not blocks or list(blocks) != sorted(set(blocks)) or blocks[0] < 0:
            raise ValueError(f"must be sorted, distinct and not negative, got {list(blocks)}")
        return self


class BlockTable(BaseModel):
    """Which blocks run, for each number of active blocks. The subsets need not nest.

    Args:
        version: Of this layout.
        model: Name of the model.
        weights: Digest of its weights.
        random_weights: Whether these mean nothing, and the scores neither.
        num_blocks: Blocks that it has.
        pinned: Blocks that always run.
        dataset_names: Datasets that subsets were chosen and scored on.
        search_samples: Samples of each dataset that subsets were chosen by.
        report_samples: Other samples of each dataset, that the scores are of.
        date: When it was made.
        by_count: Subsets by their size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = BLOCK_TABLE_VERSION
    model: str
    weights: str
    random_weights: bool = False
    num_blocks: int = Field(ge=1)
    pinned: tuple[int, ...]
    dataset_names: tuple[str, ...] = Field(min_length=1)
    search_samples: int = Field(ge=1)
    report_samples: int = Field(ge=1)
    date: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    by_count: dict[int, TableEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        if self.version != BLOCK_TABLE_VERSION:
            raise ValueError(f"version: must be {BLOCK_TABLE_VERSION}, got {self.version}")
        for count, entry in self.by_count.items():
            if len(entry.active_blocks) != count:
                raise ValueError(f"by_count.{count}: must name {count} blocks, got {list(entry.active_blocks)}")
            if entry.active_blocks[-1] >= self.num_blocks:
                raise ValueError(
                    f"by_count.{count}: the model has blocks 0 to {self.num_blocks - 1}, got {entry.active_blocks[-1]}"
                )
            missing = sorted(set(self.pinned) - set(entry.active_blocks))
            if missing:
                raise ValueError(f"by_count.{count}: must hold the pinned blocks, lacks {missing}")
        return self

    def blocks_by_count(self, config: MolmoConfig, counts: tuple[int, ...] | None = None) -> dict[int, tuple[int, ...]]:
        """Return the subsets alone, as a ``KnobGrid`` takes them.

        Args:
            config: Shape of the model that is to run with them.
            counts: Their sizes, in order; all from the smallest on if ``None``.

        Raises:
            BlockTableError: If the model has another number of blocks, or the table has not a size.
        """
        if config.num_blocks != self.num_blocks:
            raise BlockTableError(
                f"block table: made for {self.model} with {self.num_blocks} blocks, the model has {config.num_blocks}"
            )
        wanted = sorted(self.by_count) if counts is None else counts
        for count in wanted:
            if count not in self.by_count:
                known = ", ".join(map(str, sorted(self.by_count)))
                raise BlockTableError(f"block table: has subsets of {known} blocks, got {count}")
        return {count: self.by_count[count].active_blocks for count in wanted}

    def grid(self, config: MolmoConfig, *, tiers: tuple[Tier, ...], top_k: tuple[int, ...]) -> KnobGrid:
        """Build the knobs of a model with this table's blocks.

        Raises:
            BlockTableError: If the model has another number of blocks.
            ValueError: If it has not that many experts.
        """
        grid = KnobGrid(tiers=tiers, top_k=top_k, blocks_by_count=self.blocks_by_count(config))
        for setting in grid.settings():
            setting.check(num_blocks=config.num_blocks, num_experts=config.num_experts)
        return grid

    def write(self, path: Path) -> None:
        """Write the table's file."""
        with written_whole(path) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n")


def read_block_table(path: Path | str) -> BlockTable:
    """Read a block table.

    Raises:
        BlockTableError: If the file is missing or not a block table; names the field.
    """
    return read_checked(path, BlockTable, error=BlockTableError, written_by="`main.py prune` writes block tables")
