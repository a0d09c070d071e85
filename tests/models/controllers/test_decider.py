from collections.abc import Mapping

import torch
from torch import Tensor

from models.controllers.decider import Decider, decide
from models.knobs import KnobGrid, Tier

GRID = KnobGrid(
    tiers=(Tier(name="low", min_crops=1, max_crops=1), Tier(name="high", min_crops=2, max_crops=4)),
    top_k=(1, 2, 4),
    blocks_by_count={2: (0, 1)},
)


class Thrifty:
    """Takes the tier that the first feature names, and there the largest setting that costs at most what is left.

    Setting r costs 10 (r + 1) ms; what the picture shows is added to the time that is left.
    """

    first_blocks = None

    def __init__(self, *, has_second_stage: bool = True) -> None:
        self.has_second_stage = has_second_stage

    @property
    def grid(self) -> KnobGrid:
        return GRID

    @property
    def feature_widths(self) -> Mapping[str, int]:
        return {"free": 1, "question": 0, "glance": 0, "vision": 1}

    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        is_high_B = free_BF[:, 0]
        return torch.stack([1 - is_high_B, is_high_B], dim=1).repeat_interleave(3, dim=1)

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor | None:
        if not self.has_second_stage:
            return None
        cost_R = torch.tensor([10.0, 20.0, 30.0])
        return torch.where(cost_R <= (remaining_ms_B + vision_BD[:, 0])[:, None], cost_R, -cost_R)


def decided(decider: Decider, *, is_allowed: list[list[bool]] | None = None, shown: float = 0.0) -> list[int]:
    """Decide for two requests of 30 ms, one at each tier; tiers take 0 and 15 ms to see."""
    return decide(
        decider,
        budget_ms_B=torch.tensor([30.0, 30.0]),
        free_BF=torch.tensor([[0.0], [1.0]]),
        question_BD=torch.zeros(2, 0),
        glance_BD=torch.zeros(2, 0),
        vision_BTD=torch.tensor([0.0, shown]).expand(2, 2)[..., None],
        vision_done_ms_BT=torch.tensor([[0.0, 15.0]]).expand(2, 2),
        is_allowed_BS=torch.tensor(is_allowed or [[True] * 6] * 2),
    ).tolist()


def test_the_second_stage_is_told_what_its_tier_has_left_and_shows() -> None:
    assert decided(Thrifty()) == [2, 3]  # 30 ms left at the low tier, 15 ms at the high one
    assert decided(Thrifty(), shown=5.0) == [2, 4]


def test_a_controller_of_one_stage_has_said_all_before() -> None:
    assert decided(Thrifty(has_second_stage=False)) == [0, 3]


def test_neither_stage_chooses_what_is_not_allowed() -> None:
    # The low tier is closed to the first request, and the best setting of its tier to the second.
    is_allowed = [[False] * 3 + [True] * 3, [True] * 3 + [False, True, True]]
    assert decided(Thrifty(), is_allowed=is_allowed) == [3, 4]
