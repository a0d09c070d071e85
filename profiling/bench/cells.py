"""What a benchmark measures: stages, sizes and knob settings, cell by cell, and the least time each cell needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

import torch

from models.config import MolmoConfig
from models.cost import DECODE_STEP, component_costs, floor_ms
from models.knobs import STANDARD_TIERS, KnobSetting, check_top_k, spread_blocks
from models.stages import DECODE, PREFILL, PROJECTOR, VISION_ENCODER
from profiling.bench.hardware import Hardware, HardwareProbe
from profiling.model_source import ModelSource


class BenchStage(StrEnum):
    """A part of a request that is measured alone, and the whole."""

    PREFILL = "prefill"
    DECODE = "decode"
    VISION = "vision"
    REQUEST = "request"


SIZE_OF = {
    BenchStage.PREFILL: "tokens",
    BenchStage.DECODE: "context",
    BenchStage.VISION: "crops",
    BenchStage.REQUEST: "crops",
}
_COMPONENTS = {
    BenchStage.PREFILL: (PREFILL,),
    BenchStage.DECODE: (DECODE_STEP,),
    BenchStage.VISION: (VISION_ENCODER,),
    BenchStage.REQUEST: (VISION_ENCODER, PROJECTOR, PREFILL, DECODE),
}


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """How one stage is measured.

    Args:
        sizes: Prompt tokens (prefill), tokens in the cache (decode), or crops (vision, request).
        contestants: Who runs; the first one's results are those that the others' are checked against.
        warmup: Runs of each contestant that are not counted; three are needed for CUDA graphs of torch.compile.
        rounds: How often the contestants take turns, so that drift of the device meets all of them.
        repeats: Counted runs in a turn.

    Raises:
        ValueError: If there is nothing to measure, or something twice.
    """

    sizes: tuple[int, ...]
    contestants: tuple[str, ...]
    warmup: int = 5
    rounds: int = 10
    repeats: int = 5

    def __post_init__(self) -> None:
        for name, values in {"sizes": self.sizes, "contestants": self.contestants}.items():
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: needs at least one and none twice, got {list(values)}")
        for name, count in {"sizes": min(self.sizes), "rounds": self.rounds, "repeats": self.repeats}.items():
            if count < 1:
                raise ValueError(f"{name}: must be 1 or more, got {count}")
        if self.warmup < 1:
            raise ValueError(f"warmup: must be 1 or more, or the first run would be timed, got {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing that all contestants of a stage are timed at.

    Args:
        stage: What runs.
        size: In the stage's unit, see ``SIZE_OF``.
        top_k: Experts per token; ``None`` where no language model runs.
        num_active_blocks: Blocks that run, spread evenly; ``None`` where no language model runs.
    """

    stage: BenchStage
    size: int
    top_k: int | None = None
    num_active_blocks: int | None = None

    def setting(self, config: MolmoConfig) -> KnobSetting:
        """Return the knob setting of a cell with a language model."""
        assert self.top_k is not None
        assert self.num_active_blocks is not None
        blocks = spread_blocks(config.num_blocks, self.num_active_blocks)
        return KnobSetting(tier=STANDARD_TIERS[-1].name, top_k=self.top_k, active_blocks=blocks)

    def __str__(self) -> str:
        knobs = "" if self.top_k is None else f", top_k {self.top_k}, {self.num_active_blocks} blocks"
        return f"{self.stage}, {self.size} {SIZE_OF[self.stage]}{knobs}"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a benchmark measures; the same for the run that starts it and those that resume it.

    Args:
        model: The model; the stock contestants use its weights.
        prefill: A prompt up to its first token; not measured if null.
        decode: One token behind a context; not measured if null.
        vision: The vision encoder; not measured if null.
        request: A whole request; not measured if null.
        text_tokens: Prompt ids of a whole request besides its vision tokens.
        output_tokens: Tokens that a whole request generates.
        top_k: Levels of experts per token; ``[0]`` for a dense model.
        num_active_blocks: Levels of blocks that run.
        hardware: How the device's own rates are measured.

    Raises:
        ValueError: If there is nothing to measure.
    """

    model: ModelSource
    prefill: StagePlan | None = None
    decode: StagePlan | None = None
    vision: StagePlan | None = None
    request: StagePlan | None = None
    text_tokens: int = 40
    output_tokens: int = 20
    top_k: tuple[int, ...] = (4, 8, 12)
    num_active_blocks: tuple[int, ...] = (8, 12, 16)
    hardware: HardwareProbe = field(default_factory=HardwareProbe)

    def __post_init__(self) -> None:
        if not self.plans():
            raise ValueError(f"benchmark: needs at least one stage of {', '.join(BenchStage)}, got none")
        for name in ("top_k", "num_active_blocks"):
            levels = getattr(self, name)
            if not levels or len(set(levels)) != len(levels):
                raise ValueError(f"{name}: needs at least one level and none twice, got {list(levels)}")
        for name in ("text_tokens", "output_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")

    def plans(self) -> dict[BenchStage, StagePlan]:
        """Return the stages that are measured."""
        plans = {stage: getattr(self, stage) for stage in BenchStage}
        return {stage: plan for stage, plan in plans.items() if plan is not None}

    def cells(self) -> list[Cell]:
        """Lay out the cells: setting by setting, because the stock models are built for each anew."""
        return [*self._vision_cells(), *self._language_cells()]

    def check(self, config: MolmoConfig, contestants: Sequence[str]) -> None:
        """Check the benchmark against a model and the contestants that there are.

        Raises:
            ValueError: If the model has not the levels or positions asked for, or a contestant is unknown.
        """
        for stage, plan in self.plans().items():
            for name in plan.contestants:
                if name not in contestants:
                    raise ValueError(f"{stage}.contestants: must be of {', '.join(contestants)}, got {name!r}")
        for top_k in self.top_k:
            check_top_k(top_k, num_experts=config.num_experts)
        for count in self.num_active_blocks:
            spread_blocks(config.num_blocks, count)
        for cell in self._language_cells():
            positions = self._positions(cell, config)
            if positions > config.max_position_embeddings:
                raise ValueError(
                    f"{cell.stage}.sizes: {cell.size} needs {positions} positions, the model has "
                    f"{config.max_position_embeddings}"
                )

    def floor_ms(self, cell: Cell, config: MolmoConfig, hardware: Hardware) -> float:
        """Return the least time that a cell needs: its operations or its bytes, whichever takes longer.

        Components run one after another, so a whole request needs the sum of theirs.
        """
        is_vision = cell.stage in (BenchStage.VISION, BenchStage.REQUEST)
        num_crops = cell.size if is_vision else 0
        text_tokens = self.text_tokens if is_vision else cell.size
        costs = component_costs(
            config,
            num_crops=num_crops,
            vision_tokens=num_crops * config.tokens_per_crop,
            text_tokens=text_tokens,
            # A decode step of the model of costs sees the prompt and half of the output: here, the token itself.
            output_tokens=self.output_tokens if cell.stage == BenchStage.REQUEST else 2,
            top_k=cell.top_k or 0,
            num_active_blocks=cell.num_active_blocks or 0,
            dtype_bytes=getattr(torch, self.model.dtype).itemsize,
        )
        return sum(
            float(
                floor_ms(
                    costs[component],
                    peak_flops_per_s=hardware.flops_per_s,
                    bandwidth_bytes_per_s=hardware.bandwidth_bytes_per_s,
                )
            )
            for component in _COMPONENTS[cell.stage]
        )

    def _vision_cells(self) -> Iterator[Cell]:
        if self.vision is not None:
            for size in self.vision.sizes:
                yield Cell(stage=BenchStage.VISION, size=size)

    def _language_cells(self) -> Iterator[Cell]:
        for top_k, num_active_blocks in product(self.top_k, self.num_active_blocks):
            for stage, plan in self.plans().items():
                if stage == BenchStage.VISION:
                    continue
                for size in plan.sizes:
                    yield Cell(stage=stage, size=size, top_k=top_k, num_active_blocks=num_active_blocks)

    def _positions(self, cell: Cell, config: MolmoConfig) -> int:
        if cell.stage == BenchStage.REQUEST:
            return cell.size * config.tokens_per_crop + self.text_tokens + self.output_tokens
        return cell.size + (cell.stage == BenchStage.DECODE)
