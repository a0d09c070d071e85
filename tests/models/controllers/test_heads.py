from typing import cast

import pytest
import torch

from models.controllers.heads import FactorisedHeads, JointHead, make_head


def test_factorised_log_probabilities_add_up() -> None:
    head = FactorisedHeads(8, (3, 4, 2))
    hidden = torch.randn(6, 8)
    tier, top_k, count = (logits.log_softmax(dim=1) for logits in head.by_knob(hidden))
    joint = head(hidden).log_softmax(dim=1)
    assert joint.shape == (6, 24)
    for number in range(24):
        t, k, c = (int(level) for level in torch.unravel_index(torch.tensor(number), (3, 4, 2)))
        torch.testing.assert_close(joint[:, number], tier[:, t] + top_k[:, k] + count[:, c])


def test_a_joint_head_may_say_whatever_factorised_ones_say() -> None:
    factorised, joint = FactorisedHeads(8, (3, 2)), JointHead(8, (3, 2))
    with torch.no_grad():
        for number in range(6):
            joint.out.weight[number] = factorised.out.weight[number // 2] + factorised.out.weight[3 + number % 2]
            joint.out.bias[number] = factorised.out.bias[number // 2] + factorised.out.bias[3 + number % 2]
    hidden = torch.randn(5, 8)
    torch.testing.assert_close(joint(hidden), factorised(hidden))


def test_heads_are_made_by_name() -> None:
    assert cast("JointHead", make_head("joint", 4, (2, 5))).out.out_features == 10
    assert cast("FactorisedHeads", make_head("factorised", 4, (2, 5))).out.out_features == 7


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="head: must be joint or factorised, got 'deep'"):
        make_head("deep", 4, (2, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [(), (3, 0)])
def test_a_knob_without_levels_is_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="levels: every knob needs 1 or more"):
        make_head("joint", 4, levels)
