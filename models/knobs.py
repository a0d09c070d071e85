"""The three runtime knobs: image tier, experts per token, active blocks. Arguments of a call, never model state."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Tiling = Literal["upper_bound", "target"]

GRID_KEY: Final = "knob_grid"  # of our own, in a config.json; the released models' files have none


@dataclass(frozen=True, kw_only=True)
class Tier:
    """An image resolution, as a range of crops. The overview crop is not counted, as in the released configs.

    Args:
        name: What the tier is called.
        min_crops: Fewest crops an image is cut into when the tiling aims at the tier (``target``).
        max_crops: Most crops an image may be cut into.

    Raises:
        ValueError: If the range is empty or starts below one crop.
    """

    name: str
    min_crops: int
    max_crops: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_crops <= self.max_crops:
            raise ValueError(
                f"tier {self.name!r}: needs 1 <= min_crops <= max_crops, got {self.min_crops} and {self.max_crops}"
            )


@dataclass(frozen=True, kw_only=True)
class ExpertCounts:
    """What a level of top_k means where it is not the same number of experts for every token in every block.

    Args:
        text: Experts of a text token in each block of the model, generated tokens included.
        vision: Experts of a vision token in each block.

    Raises:
        ValueError: If the two are not of one length, or a number is below 1.
    """

    text: tuple[int, ...]
    vision: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.text) != len(self.vision) or not self.text:
            raise ValueError(
                f"experts: text and vision must name as many blocks, got {len(self.text)} and {len(self.vision)}"
            )
        if min(self.text + self.vision) < 1:
            raise ValueError(f"experts: must be 1 or more in every block, got {min(self.text + self.vision)}")

    @classmethod
    def uniform(cls, top_k: int, num_blocks: int) -> "ExpertCounts":
        """Give every token the same number of experts in every block."""
        return cls(text=(top_k,) * num_blocks, vision=(top_k,) * num_blocks)

    @property
    def is_uniform(self) -> bool:
        """Whether it is one number."""
        return len(set(self.text + self.vision)) == 1

    def check(self, *, num_blocks: int, num_experts: int) -> None:
        """Check the numbers against the shape of a model.

        Raises:
            ValueError: If the model has another number of blocks, or not so many experts.
        """
        if len(self.text) != num_blocks:
            raise ValueError(f"experts: must name {num_blocks} blocks (the model's), got {len(self.text)}")
        check_top_k(max(self.text + self.vision), num_experts=num_experts)


@dataclass(frozen=True, kw_only=True)
class KnobSetting:
    """What one request runs with.

    Args:
        tier: Name of the image tier.
        top_k: Experts per token; 0 for a dense model.
        active_blocks: Sorted indices of the transformer blocks that run. The others are skipped and own no cache.
        experts: What top_k means, where it is but the name of a level.

    Raises:
        ValueError: If the blocks are empty, unsorted, repeated or negative, or top_k is negative.
    """

    tier: str
    top_k: int
    active_blocks: tuple[int, ...]
    experts: ExpertCounts | None = None

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"top_k: must be 1 or more (0 for a dense model), got {self.top_k}")
        if not self.active_blocks:
            raise ValueError("active_blocks: at least one block must run, got none")
        if list(self.active_blocks) != sorted(set(self.active_blocks)) or self.active_blocks[0] < 0:
            raise ValueError(f"active_blocks: must be sorted, distinct and not negative, got {self.active_blocks}")

    @property
    def num_active_blocks(self) -> int:
        """How many blocks run."""
        return len(self.active_blocks)

    def text_top_k(self, block: int) -> int:
        """Return how many experts a text token is given in a block."""
        return self.top_k if self.experts is None else self.experts.text[block]

    def vision_top_k(self, block: int) -> int:
        """Return how many experts a vision token is given in a block."""
        return self.top_k if self.experts is None else self.experts.vision[block]

    def check(self, *, num_blocks: int, num_experts: int) -> None:
        """Check the setting against the shape of a model.

        Raises:
            ValueError: If a block or a number of experts does not exist in the model.
        """
        if self.active_blocks[-1] >= num_blocks:
            raise ValueError(f"active_blocks: the model has blocks 0 to {num_blocks - 1}, got {self.active_blocks[-1]}")
        check_top_k(self.top_k, num_experts=num_experts)
        if self.experts is not None:
            self.experts.check(num_blocks=num_blocks, num_experts=num_experts)


def check_top_k(top_k: int, *, num_experts: int) -> None:
    """Check a number of experts per token against a model.

    Raises:
        ValueError: If the model cannot route to that many experts.
    """
    if num_experts == 0 and top_k != 0:
        raise ValueError(f"top_k: a dense model has no experts, so top_k must be 0, got {top_k}")
    if num_experts > 0 and not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k: must be 1 to {num_experts} (the model's experts), got {top_k}")


@dataclass(frozen=True, kw_only=True)
class KnobGrid:
    """The levels of each knob that a controller may choose from.

    Args:
        tiers: Image tiers, cheapest first.
        top_k: Experts per token, fewest first; ``(0,)`` for a dense model.
        blocks_by_count: Which blocks run, for each number of active blocks. The sets need not nest.
        experts_by_top_k: What levels of top_k mean, where that is not the same number for every token and block.

    Raises:
        ValueError: If a knob has no level, a level repeats, a set of blocks has another size than its key says, or a
            meaning is given for no level.
    """

    tiers: tuple[Tier, ...]
    top_k: tuple[int, ...]
    blocks_by_count: Mapping[int, tuple[int, ...]]
    experts_by_top_k: Mapping[int, ExpertCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels_by_knob: dict[str, Sequence[object]] = {
            "tiers": [tier.name for tier in self.tiers],
            "top_k": self.top_k,
            "blocks_by_count": list(self.blocks_by_count),
        }
        for knob, levels in levels_by_knob.items():
            if not levels or len(set(levels)) != len(levels):
                raise ValueError(f"{knob}: needs at least one level and no level twice, got {levels}")
        for count, blocks in self.blocks_by_count.items():
            if len(blocks) != count:
                raise ValueError(f"blocks_by_count[{count}]: must name {count} blocks, got {blocks}")
        strangers = sorted(set(self.experts_by_top_k) - set(self.top_k))
        if strangers:
            raise ValueError(f"experts_by_top_k: expected some of top_k, {list(self.top_k)}, got {strangers[0]}")

    def tier(self, name: str) -> Tier:
        """Return a tier by its name.

        Raises:
            ValueError: If the grid has no such tier.
        """
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise ValueError(f"tier: must be one of {', '.join(tier.name for tier in self.tiers)}, got {name!r}")

    def setting(self, *, tier: str, top_k: int, num_active_blocks: int) -> KnobSetting:
        """Return the setting with these three levels.

        Raises:
            ValueError: If a level is not in the grid.
        """
        self.tier(tier)
        for knob, level, levels in (
            ("top_k", top_k, self.top_k),
            ("num_active_blocks", num_active_blocks, tuple(self.blocks_by_count)),
        ):
            if level not in levels:
                raise ValueError(f"{knob}: must be one of {', '.join(map(str, levels))}, got {level}")
        return self._setting(tier, top_k, self.blocks_by_count[num_active_blocks])

    def to_json(self) -> dict[str, Any]:
        """Return what a ``config.json`` keeps under ``GRID_KEY``."""
        content = {
            "tiers": [asdict(tier) for tier in self.tiers],
            "top_k": list(self.top_k),
            "blocks_by_count": {str(count): list(blocks) for count, blocks in self.blocks_by_count.items()},
        }
        if self.experts_by_top_k:
            content["experts_by_top_k"] = {
                str(top_k): {"text": list(each.text), "vision": list(each.vision)}
                for top_k, each in self.experts_by_top_k.items()
            }
        return content

    def settings(self) -> list[KnobSetting]:
        """Return every setting, tiers outermost, then top_k, then blocks."""
        return [
            self._setting(tier.name, top_k, blocks)
            for tier in self.tiers
            for top_k in self.top_k
            for blocks in self.blocks_by_count.values()
        ]

    def _setting(self, tier: str, top_k: int, blocks: tuple[int, ...]) -> KnobSetting:
        return KnobSetting(tier=tier, top_k=top_k, active_blocks=blocks, experts=self.experts_by_top_k.get(top_k))


def spread_blocks(num_blocks: int, num_active_blocks: int) -> tuple[int, ...]:
    """Choose blocks evenly from first to last: the choice to make while no importance has been measured.

    Returns:
        Sorted indices; block 0 always, the last block when more than one runs.

    Raises:
        ValueError: If more blocks are asked for than exist, or none.
    """
    if not 1 <= num_active_blocks <= num_blocks:
        raise ValueError(f"num_active_blocks: must be 1 to {num_blocks}, got {num_active_blocks}")
    if num_active_blocks == 1:
        return (0,)
    steps = num_active_blocks - 1
    return tuple((i * (num_blocks - 1) + steps // 2) // steps for i in range(num_active_blocks))


STANDARD_TIERS = (
    Tier(name="low", min_crops=1, max_crops=3),
    Tier(name="medium", min_crops=4, max_crops=8),
    Tier(name="high", min_crops=9, max_crops=12),
)


def spread_grid(
    num_blocks: int,
    *,
    top_k: tuple[int, ...],
    block_counts: tuple[int, ...],
    tiers: tuple[Tier, ...] = STANDARD_TIERS,
) -> KnobGrid:
    """Build a grid whose active blocks are spread evenly over the model."""
    blocks_by_count = {count: spread_blocks(num_blocks, count) for count in block_counts}
    return KnobGrid(tiers=tiers, top_k=top_k, blocks_by_count=blocks_by_count)


MOLMOE_1B_GRID = spread_grid(16, top_k=(4, 6, 8, 10, 12), block_counts=(8, 10, 12, 14, 16))


def own_grid(hf_config: Mapping[str, Any], *, source: str = "config.json") -> KnobGrid | None:
    """Read the grid that a model was trained for; ``None`` for the released models, which were trained for none.

    Args:
        hf_config: Content of the model's ``config.json``.
        source: Name of the file, for errors.

    Raises:
        ValueError: If the grid is not as ``KnobGrid.to_json`` writes it.
    """
    if GRID_KEY not in hf_config:
        return None
    try:
        content = hf_config[GRID_KEY]
        return KnobGrid(
            tiers=tuple(Tier(**tier) for tier in content["tiers"]),
            top_k=tuple(content["top_k"]),
            blocks_by_count={int(count): tuple(blocks) for count, blocks in content["blocks_by_count"].items()},
            experts_by_top_k=read_experts(content.get("experts_by_top_k", {})),
        )
    except (AttributeError, KeyError, TypeError) as err:
        raise ValueError(f"{source}: {GRID_KEY}: not a grid of tiers, top_k and blocks_by_count: {err!r}") from err


def read_experts(content: Mapping[str, Any]) -> dict[int, ExpertCounts]:
    """Read what levels of top_k mean, as ``KnobGrid.to_json`` writes it under ``experts_by_top_k``.

    Raises:
        AttributeError, KeyError, TypeError: If it is not such content.
    """
    return {
        int(top_k): ExpertCounts(text=tuple(each["text"]), vision=tuple(each["vision"]))
        for top_k, each in content.items()
    }
