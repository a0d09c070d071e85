from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.controllers.advantage import center, leave_one_out, rank, zscore

ALL = (center, zscore, rank, leave_one_out)
REWARD = torch.tensor([[1.0, 0.0, 0.5, 0.5]])


def test_centring_subtracts_the_mean() -> None:
    torch.testing.assert_close(center(REWARD), torch.tensor([[0.5, -0.5, 0.0, 0.0]]))


def test_a_zscore_has_unit_spread_however_small_the_differences() -> None:
    torch.testing.assert_close(zscore(REWARD, eps=0.0), center(REWARD) / (0.5 / 3) ** 0.5)
    assert float(zscore(REWARD * 10).std()) == pytest.approx(1.0, abs=1e-3)
    assert float(center(REWARD / 10).abs().max()) == pytest.approx(0.05)


def test_a_rank_counts_whom_it_beats_less_who_beats_it() -> None:
    torch.testing.assert_close(rank(REWARD), torch.tensor([[1.0, -1.0, 0.0, 0.0]]))
    torch.testing.assert_close(rank(REWARD**3 * 100), rank(REWARD))


def test_leaving_one_out_compares_with_the_mean_of_the_others() -> None:
    torch.testing.assert_close(leave_one_out(REWARD), torch.tensor([[1 - 1 / 3, -2 / 3, 0.0, 0.0]]))


@pytest.mark.parametrize("advantage", ALL)
def test_equal_rewards_give_exactly_no_advantage(advantage: Callable[[Tensor], Tensor]) -> None:
    # The mean of seven times 0.1 is not 0.1 in float32.
    assert (advantage(torch.full((3, 7), 0.1)) == 0).all()


@pytest.mark.parametrize("advantage", ALL)
def test_advantages_of_a_group_cancel_and_know_no_other_group(advantage: Callable[[Tensor], Tensor]) -> None:
    reward = torch.rand(6, 5)
    torch.testing.assert_close(advantage(reward).sum(dim=1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(advantage(reward[2:3]), advantage(reward)[2:3])


@pytest.mark.parametrize("advantage", ALL)
def test_a_group_of_one_is_refused(advantage: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"a group needs >= 2 settings to compare, got reward of shape \(4, 1\)"):
        advantage(torch.rand(4, 1))
