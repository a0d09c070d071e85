"""The prompts of a profile's samples, run through the model's first blocks once, so that training need not run them."""

# Shape suffixes: N = samples.

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from models.checkpoint import read_hf_config, snapshot_directory
from models.config import MolmoConfig
from models.controllers.llm_based import remaining_blocks
from models.controllers.prompt_memory import PromptMemory, TierPrompts, join_memories, remember_prompts
from models.inputs import collate
from models.knobs import Tier, Tiling
from models.weights_digest import weights_digest
from profiling.controllers.extraction import Embedder, check_shape, find_samples
from profiling.controllers.facts import FirstBlocks
from profiling.controllers.outcomes import Outcomes
from profiling.datasets.sample import Sample

_log = logging.getLogger(__name__)

_BATCH_SIZE: Final = 32


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """How the prompts of a profile's samples are found and run, for controllers that decide from the first blocks.

    Args:
        snapshot: Folder of the model that was profiled, or a hub id in the local cache.
        num_first_blocks: Blocks that run before the decision.
        root: Folder of the datasets; null takes the environment variable ``MOLMO_DATA_DIR``.
        json_lines: Files of datasets that are none of the catalogue; a profile knows them by the file's name.
        tiling: How tiers are applied to images; as in the profile.

    Raises:
        ValueError: If no block is to run.
    """

    snapshot: str
    num_first_blocks: int = 1
    root: str | None = None
    json_lines: Sequence[str] = ()
    tiling: Tiling = "target"

    def __post_init__(self) -> None:
        if self.num_first_blocks < 1:
            raise ValueError(f"prompts: num_first_blocks: must be 1 or more, got {self.num_first_blocks}")

    def facts(self) -> FirstBlocks:
        """Say which blocks they are, in plain values.

        Raises:
            ValueError: If the snapshot cannot be read.
        """
        folder = snapshot_directory(self.snapshot)
        return FirstBlocks(
            model_digest=weights_digest(folder),
            model_dim=MolmoConfig.from_hf(read_hf_config(folder)).hidden_dim,
            num_blocks=self.num_first_blocks,
        )

    def read(self, outcomes: Outcomes) -> TierPrompts:
        """Find the samples' pictures and questions, and run them on the CPU at every tier.

        What is remembered is float16 and stays in memory; the log says how much that is.

        Raises:
            ValueError: If the model is not the profile's, a setting leaves out one of the first blocks, a sample is no
                longer in its dataset, or a picture is missing or broken.
        """
        remaining_blocks(outcomes.grid, self.num_first_blocks)
        check_shape(outcomes, read_hf_config(snapshot_directory(self.snapshot)), self.snapshot)
        samples = find_samples(outcomes, root=self.root, json_lines=[Path(file) for file in self.json_lines])
        embedder = Embedder.load(self.snapshot, outcomes.grid.tiers, tiling=self.tiling, device="cpu", dtype="float32")
        embedder.model.requires_grad_(False)
        prompts = TierPrompts(
            model=embedder.model,
            tiers=tuple(self._run(embedder, samples, tier) for tier in embedder.tiers),
            row_B=torch.arange(len(samples)),
        )
        mebibytes = prompts.num_bytes / 2**20
        _log.info("prompts: %d samples, %.3f MiB each", len(samples), mebibytes / len(samples))
        return prompts

    @torch.no_grad()
    def _run(self, embedder: Embedder, samples: Sequence[Sample], tier: Tier) -> PromptMemory:
        """Run all samples at a tier."""
        model = embedder.model
        parts = []
        for start in range(0, len(samples), _BATCH_SIZE):
            requests = [
                embedder.processor.from_token_ids(
                    embedder.text.prompt_ids(sample), sample.image.open(), tier=tier, tiling=self.tiling
                )
                for sample in samples[start : start + _BATCH_SIZE]
            ]
            inputs = collate(requests)
            x_BSD = model.embed(inputs, model.encode_images(inputs))
            memory = remember_prompts(model, inputs, x_BSD, num_first_blocks=self.num_first_blocks)
            parts.append(memory.to(torch.float16))
        return join_memories(parts)
