"""Which model to run, and which levels of its knobs: what commands take as arguments."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from models.checkpoint import load_molmo, random_molmo, read_hf_config, snapshot_directory
from models.config import MolmoConfig, released_hf_config
from models.engine import EngineName
from models.knobs import MOLMOE_1B_GRID, ExpertCounts, KnobGrid, Tier, own_grid, spread_blocks
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.released import RELEASED
from models.tokenizer import SpecialTokens, load_tokenizer
from models.weights_digest import weights_digest
from profiling.block_table import read_block_table
from profiling.environment import collect_environment
from profiling.level_table import read_level_table
from profiling.schema import Environment

_log = logging.getLogger(__name__)

DtypeName = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The model to measure.

    Args:
        name: A snapshot directory, a hub id in the local cache, or, with random weights, a released model's name.
        random_weights: Build the shape without weights; every record says so.
        router_skew: With random weights: how unevenly the routers choose; 0 is almost even.
        dtype: Type of the weights.
        match_router_mass: Scale the chosen experts' weights so that they sum to what those of the trained top_k would.
    """

    name: str
    random_weights: bool = False
    router_skew: float = 0.0
    dtype: DtypeName = "bfloat16"
    match_router_mass: bool = False

    def load(self, device: str) -> Molmo:
        """Load or build the model on a device."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        matches = self.match_router_mass
        if self.random_weights:
            return random_molmo(
                self.name, device=device, dtype=dtype, router_skew=self.router_skew, match_router_mass=matches
            )
        return load_molmo(self.name, device=device, dtype=dtype, match_router_mass=matches)

    def hf_config(self) -> dict[str, Any]:
        """Return the content of the model's ``config.json``."""
        if self.random_weights and self.name in RELEASED:
            return released_hf_config(self.name)
        return read_hf_config(snapshot_directory(self.name))

    def environment(self, device: str, *, engine: EngineName, grid: KnobGrid) -> Environment:
        """Describe the model where it runs, for the records that come of it."""
        return collect_environment(
            torch.device(device),
            engine=engine,
            dtype=self.dtype,
            model=self.name,
            model_shape=self.hf_config(),
            random_weights=self.random_weights,
            router_skew=self.router_skew if self.random_weights else None,
            match_router_mass=self.match_router_mass,
            experts_by_top_k=grid.to_json().get("experts_by_top_k"),
        )

    def processor(self, model: Molmo, device: str, *, reads_words: bool) -> MolmoProcessor:
        """Make the model's processor on a device, with its tokenizer where it reads words.

        Raises:
            ValueError: If the tokenizer is missing or damaged.
        """
        if not reads_words:
            return MolmoProcessor(model.config, SpecialTokens.of_shape(model.config), device=device)
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(self.name))
        return MolmoProcessor(model.config, special_tokens, tokenizer, device=device)


@dataclass(frozen=True, kw_only=True)
class GridLevels:
    """Levels of the knobs to measure. What is null is as in the grid that the model was trained for, else MolmoE-1B's.

    Args:
        tiers: Image tiers, cheapest first.
        top_k: Experts per token; ``[0]`` for a dense model.
        num_active_blocks: How many blocks run; which ones, unless null, is spread evenly over the model.
        block_table: File of ``prune`` that says which blocks run instead.
        level_table: File of ``levels`` that says what levels of top_k mean; the plain number if null.
    """

    tiers: tuple[Tier, ...] | None = None
    top_k: tuple[int, ...] | None = None
    num_active_blocks: tuple[int, ...] | None = None
    block_table: str | None = None
    level_table: str | None = None

    def grid_of(self, model: ModelSource) -> KnobGrid:
        """Build the grid for a model, and warn of tables that were made for other weights.

        Raises:
            ValueError: If the model cannot be read, has not as many blocks or experts, or a table is of another shape.
        """
        hf_config = model.hf_config()
        tables = {
            "block_table": self.block_table and read_block_table(self.block_table),
            "level_table": self.level_table and read_level_table(self.level_table),
        }
        weights = "" if model.random_weights else weights_digest(snapshot_directory(model.name))
        for name, table in tables.items():
            if table and table.weights != weights:
                _log.warning(
                    "%s: %s was made for other weights, those of %s: other models miss other blocks and experts",
                    *(name, getattr(self, name), table.model),
                )
        return self.grid(MolmoConfig.from_hf(hf_config, source=model.name), own_grid(hf_config, source=model.name))

    def grid(self, config: MolmoConfig, own: KnobGrid | None = None) -> KnobGrid:
        """Build the grid for a model.

        Args:
            config: Shape of the model.
            own: The grid that it was trained for, if any.

        Raises:
            ValueError: If the model has not that many blocks or experts, or a table is another model's.
        """
        usual = own or MOLMOE_1B_GRID
        top_k = usual.top_k if self.top_k is None else self.top_k
        grid = KnobGrid(
            tiers=usual.tiers if self.tiers is None else self.tiers,
            top_k=top_k,
            blocks_by_count=self._blocks_by_count(config, own),
            experts_by_top_k=self._experts_by_top_k(config, top_k, own),
        )
        for setting in grid.settings():
            setting.check(num_blocks=config.num_blocks, num_experts=config.num_experts)
        return grid

    def _experts_by_top_k(
        self, config: MolmoConfig, top_k: tuple[int, ...], own: KnobGrid | None
    ) -> Mapping[int, ExpertCounts]:
        if self.level_table is not None:
            return read_level_table(self.level_table).experts_by_top_k(config, top_k)
        known = {} if own is None else own.experts_by_top_k
        return {level: experts for level, experts in known.items() if level in top_k}

    def _blocks_by_count(self, config: MolmoConfig, own: KnobGrid | None) -> Mapping[int, tuple[int, ...]]:
        if self.block_table is not None:
            return read_block_table(self.block_table).blocks_by_count(config, self.num_active_blocks)
        if own is not None and self.num_active_blocks is None:
            return own.blocks_by_count
        usual = MOLMOE_1B_GRID.blocks_by_count
        counts = tuple(usual) if self.num_active_blocks is None else self.num_active_blocks
        return {count: spread_blocks(config.num_blocks, count) for count in counts}
