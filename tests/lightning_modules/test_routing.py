import math

import pytest
import torch

from lightning_modules.routing import balance_loss, z_loss


def test_an_even_load_costs_one_and_a_collapsed_one_as_much_as_there_are_experts() -> None:
    is_token = torch.ones(4)
    even = torch.eye(4) * 1e-3
    all_experts, first_expert = torch.arange(4)[:, None], torch.zeros(4, 1, dtype=torch.int64)
    assert float(balance_loss(even[None], all_experts[None], is_token)) == pytest.approx(1, abs=1e-3)
    collapsed = torch.tensor([[50.0, 0, 0, 0]]).expand(4, 4)
    assert float(balance_loss(collapsed[None], first_expert[None], is_token)) == pytest.approx(4)
    both = balance_loss(torch.stack([even, collapsed]), torch.stack([all_experts, first_expert]), is_token)
    assert float(both) == pytest.approx(2.5, abs=1e-3)


def test_several_experts_a_token_share_its_load() -> None:
    chosen = torch.tensor([[0, 1], [2, 3]])
    assert float(balance_loss(torch.zeros(1, 2, 4), chosen[None], torch.ones(2))) == pytest.approx(1)


def test_padding_does_not_count() -> None:
    logits, chosen = torch.randn(2, 5, 4), torch.randint(4, (2, 5, 1))
    is_token = torch.tensor([1.0, 1, 1, 0, 0])
    for loss in (
        balance_loss(logits, chosen, is_token) - balance_loss(logits[:, :3], chosen[:, :3], torch.ones(3)),
        z_loss(logits, is_token) - z_loss(logits[:, :3], torch.ones(3)),
    ):
        assert float(loss) == pytest.approx(0, abs=1e-6)


def test_the_z_loss_of_equal_logits_is_known() -> None:
    assert float(z_loss(torch.zeros(2, 3, 4), torch.ones(3))) == pytest.approx(math.log(4) ** 2)
