import torch
from torch.nn import functional as F

from models.controllers.feedback import Feedback
from models.controllers.objectives import PairwiseRank

ALL_PAIRS = PairwiseRank(group_size=4)


def _feedback(reward: list[float], is_measured: list[bool]) -> Feedback:
    return Feedback(torch.tensor([reward]), torch.ones(1, 4), torch.tensor([is_measured]))


def test_each_pair_that_differs_counts_once() -> None:
    feedback = _feedback([1.0, 0.5, 0.5, 0.0], [True] * 4)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    # Better by worse: 0-1, 0-2, 0-3, 1-3, 2-3; the tie 1-2 teaches nothing.
    margins = torch.tensor([-1.0, -2.0, -3.0, -2.0, -1.0])
    torch.testing.assert_close(ALL_PAIRS.loss(logits, feedback).loss, F.softplus(-margins).mean())


def test_pairs_with_a_missing_cell_do_not_count() -> None:
    feedback = _feedback([1.0, 0.5, torch.nan, 0.9], [True, True, False, False])
    loss = ALL_PAIRS.loss(torch.tensor([[0.0, 2.0, 9.0, -9.0]]), feedback).loss
    torch.testing.assert_close(loss, F.softplus(torch.tensor(2.0)))


def test_all_ties_cost_nothing() -> None:
    logits = torch.randn(1, 4, requires_grad=True)
    loss = ALL_PAIRS.loss(logits, _feedback([0.5] * 4, [True] * 4)).loss
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
