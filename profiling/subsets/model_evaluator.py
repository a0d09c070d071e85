"""Measure subsets of a model's blocks on datasets."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint import snapshot_directory
from models.config import MolmoConfig
from models.knobs import STANDARD_TIERS, Tier, Tiling, check_top_k
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.datasets.sample import Sample
from profiling.model_source import ModelSource
from profiling.subsets.data import EvaluationData
from profiling.subsets.job import NO_COST, Cost, Job, Outcome, Part
from profiling.subsets.measures import Subject, measured, portions
from profiling.subsets.prepared import MemoryBudget, Preparation, PreparedSamples
from profiling.subsets.retry import clean_memory

_BYTES_PER_GIB: Final = 2**30
_BYTES_PER_MIB: Final = 2**20

ReadSamples = Callable[[Part, int], Mapping[str, list[Sample]]]
"""Gives so many samples of each dataset's part."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model and the way that it is asked.

    Args:
        model: The model. Its folder holds the tokenizer too, with random weights as well.
        data: The datasets.
        tier: What images are cut into.
        tiling: How the tier is applied.
        top_k: Experts per token; as trained if null.
        batch_size: Samples that are measured at once.
        cache_gib: Memory of the device to keep encoded samples in; those beyond it are encoded for each subset anew.

    Raises:
        ValueError: If a number is out of range.
    """

    model: ModelSource
    data: EvaluationData
    tier: Tier = field(default_factory=lambda: STANDARD_TIERS[-1])
    tiling: Tiling = "target"
    top_k: int | None = None
    batch_size: int = 32
    cache_gib: float = 8.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be 1 or more, got {self.batch_size}")
        if self.cache_gib < 0:
            raise ValueError(f"cache_gib: must be 0 or more, got {self.cache_gib}")

    @property
    def label(self) -> str:
        """What captions call it."""
        weights = ", random weights (answers mean nothing)" if self.model.random_weights else ""
        return f"{self.model.name}{weights}, {self.model.dtype}, tier {self.tier.name}"

    def config(self) -> MolmoConfig:
        """Return the model's shape.

        Raises:
            ValueError: If its config cannot be read, or it cannot run with that many experts.
        """
        config = MolmoConfig.from_hf(self.model.hf_config(), source=self.model.name)
        if self.top_k is not None:
            check_top_k(self.top_k, num_experts=config.num_experts)
        return config

    def evaluator(self, device: str) -> "ModelEvaluator":
        """Load the model on a device.

        Raises:
            ValueError: If it or its tokenizer cannot be read, or it has not that many experts.
        """
        self.config()
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(self.model.name))
        model = self.model.load(device)
        processor = MolmoProcessor(model.config, special_tokens, tokenizer, device=device)
        setting = model.full_setting
        if self.top_k is not None:
            setting = replace(setting, top_k=self.top_k)
        return ModelEvaluator(
            Subject(model=model, processor=processor, setting=setting), self, read_samples=self.data.samples
        )


class ModelEvaluator:
    """Runs a model with the blocks that a job names.

    Args:
        subject: The whole model.
        asked: The way that it is asked.
        read_samples: Where samples come from.
    """

    def __init__(self, subject: Subject, asked: EvaluatedModel, *, read_samples: ReadSamples) -> None:
        self._subject = subject
        self._asked = asked
        self._read_samples = read_samples
        self._part: Part | None = None
        self._prepared: dict[int, dict[str, PreparedSamples]] = {}

    def evaluate(self, job: Job) -> Outcome:
        """See ``SubsetEvaluator``."""
        setting = replace(self._subject.setting, active_blocks=job.blocks, experts=job.experts)
        subject = replace(self._subject, setting=self._subject.model.checked(setting))
        cost, device = NO_COST, self._subject.model.language_model.head.weight.device
        values: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name, batches in self._samples(job).items():
            parts: defaultdict[str, list[NDArray[np.float64]]] = defaultdict(list)
            for portion in portions(job.measure, batches):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                start = perf_counter()
                gave = measured(job.measure, subject, portion)
                for quantity, value in gave.values.items():
                    parts[quantity].append(value.detach().double().cpu().numpy())
                cost += Cost(
                    forward_passes=gave.forward_passes,
                    backward_passes=gave.backward_passes,
                    seconds=perf_counter() - start,
                    peak_memory_mib=_peak_memory_mib(device),
                )
            values[name] = {quantity: np.concatenate(found) for quantity, found in parts.items()}
        return Outcome(values=values, cost=cost)

    def _samples(self, job: Job) -> dict[str, PreparedSamples]:
        """Return the samples of a job; those of one part are kept until the other is asked for."""
        if job.part != self._part:
            self._part = job.part
            self._prepared.clear()
            clean_memory()
            self._budget = MemoryBudget(int(self._asked.cache_gib * _BYTES_PER_GIB))
        if job.num_samples not in self._prepared:
            preparation = Preparation(
                model=self._subject.model,
                processor=self._subject.processor,
                data=self._asked.data,
                setting=self._subject.setting,
                tier=self._asked.tier,
                tiling=self._asked.tiling,
            )
            self._prepared[job.num_samples] = {
                name: PreparedSamples(members, preparation, batch_size=self._asked.batch_size, budget=self._budget)
                for name, members in self._read_samples(job.part, job.num_samples).items()
            }
        return self._prepared[job.num_samples]


def _peak_memory_mib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / _BYTES_PER_MIB if device.type == "cuda" else 0.0
