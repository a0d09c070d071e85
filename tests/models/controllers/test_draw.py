import torch

from models.controllers.draw import look_up, sample_distinct
from models.controllers.feedback import Feedback
from models.controllers.policy import masked_log_prob


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_distinct_draws_are_distinct_and_uniform() -> None:
    is_allowed = torch.tensor([[True, True, True, False, True]]).expand(40_000, 5)
    drawn = sample_distinct(is_allowed, 2, generator=_generator())
    assert (drawn[:, 0] != drawn[:, 1]).all()
    share = torch.bincount(drawn.flatten(), minlength=5) / 80_000
    torch.testing.assert_close(share, torch.tensor([0.25, 0.25, 0.25, 0.0, 0.25]), atol=0.006, rtol=0)


def test_a_distinct_group_is_no_larger_than_the_grid() -> None:
    assert sample_distinct(torch.ones(2, 3, dtype=torch.bool), 5).sort(dim=1).values.tolist() == [[0, 1, 2]] * 2


def test_a_draw_knows_rewards_and_log_probabilities() -> None:
    is_measured = torch.tensor([[True, True, False]])
    feedback = Feedback(torch.tensor([[0.1, 0.2, torch.nan]]), torch.ones(1, 3), is_measured)
    log_prob = masked_log_prob(torch.zeros(1, 3), is_measured)
    draw = look_up(torch.tensor([[1, 1, 0]]), log_prob, feedback, reference_logits_BS=torch.tensor([[0.0, 1.0, 5.0]]))
    torch.testing.assert_close(draw.reward, torch.tensor([[0.2, 0.2, 0.1]]))
    torch.testing.assert_close(draw.log_prob.exp(), torch.full((1, 3), 0.5))
    torch.testing.assert_close(draw.reference_log_prob[0, :2], torch.tensor([0.0, 1.0]).log_softmax(dim=0))
