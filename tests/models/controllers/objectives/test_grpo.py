import pytest
import torch

from models.controllers.draw import Draw
from models.controllers.feedback import Feedback
from models.controllers.objectives import Grpo
from tests.models.controllers.planted import Planted

FEEDBACK = Feedback(torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool))
PLAIN = Grpo(advantage="center", entropy_weight=0.0)


def _draw(old_probability: list[float], drawn: list[int]) -> Draw:
    log_prob = torch.tensor([old_probability]).log()
    setting = torch.tensor([drawn])
    return Draw(setting, FEEDBACK.reward.gather(1, setting), log_prob.gather(1, setting), log_prob)


def _logits(probability: list[float]) -> torch.Tensor:
    return torch.tensor([probability]).log().requires_grad_()


def test_the_surrogate_weighs_advantages_by_the_ratio() -> None:
    loss, diagnostics = PLAIN.loss(_logits([0.55, 0.25, 0.2]), FEEDBACK, _draw([0.5, 0.25, 0.25], [0, 1]))
    torch.testing.assert_close(loss, torch.tensor(-(1.1 * 0.5 - 1.0 * 0.5) / 2))
    assert diagnostics["clipped_fraction"] == 0
    assert diagnostics["reward"] == 0.5


def test_a_ratio_out_of_the_clip_earns_nothing_more() -> None:
    # The good one is 1.6 times as likely already, the bad one half as likely.
    logits = _logits([0.8, 0.1, 0.1])
    loss, diagnostics = PLAIN.loss(logits, FEEDBACK, _draw([0.5, 0.2, 0.3], [0, 1]))
    torch.testing.assert_close(loss, torch.tensor(-(1.2 * 0.5 - 0.8 * 0.5) / 2))
    assert diagnostics["clipped_fraction"] == 1
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_a_ratio_that_went_the_wrong_way_is_not_clipped() -> None:
    logits = _logits([0.1, 0.8, 0.1])
    PLAIN.loss(logits, FEEDBACK, _draw([0.5, 0.2, 0.3], [0, 1])).loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_the_divergence_from_the_reference_is_exact() -> None:
    draw = _draw([0.5, 0.25, 0.25], [1, 2])  # equal rewards, so that nothing else is in the loss
    loss, diagnostics = Grpo(kl_weight=2.0, entropy_weight=0.0).loss(_logits([0.25, 0.25, 0.5]), FEEDBACK, draw)
    kl = 0.25 * torch.tensor(0.5).log() + 0.5 * torch.tensor(2.0).log()
    torch.testing.assert_close(diagnostics["kl"], kl)
    torch.testing.assert_close(loss, 2 * kl)


def test_a_policy_of_its_own_may_be_the_reference() -> None:
    draw = PLAIN.draw(torch.zeros(1, 3), FEEDBACK, reference_logits_BS=torch.tensor([[0.0, 1.0, 2.0]]))
    diagnostics = PLAIN.loss(torch.tensor([[0.0, 1.0, 2.0]]), FEEDBACK, draw).diagnostics
    assert float(diagnostics["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(PLAIN.loss(torch.zeros(1, 3), FEEDBACK, draw).diagnostics["kl"]) > 0.1


def test_groups_without_spread_are_counted_and_teach_nothing() -> None:
    reward = torch.tensor([[0.3] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    feedback = Feedback(reward, torch.ones(2, 6), torch.ones(2, 6, dtype=torch.bool))
    objective = Grpo(entropy_weight=0.0)
    logits = torch.zeros(2, 6, requires_grad=True)
    draw = objective.draw(logits, feedback)._replace(
        setting=torch.tensor([[0, 1, 2, 3, 4]] * 2), reward=reward[:, :5], log_prob=torch.full((2, 5), 1 / 6).log()
    )
    loss, diagnostics = objective.loss(logits, feedback, draw)
    loss.backward()
    assert diagnostics["frac_groups_zero_std"] == 0.5
    torch.testing.assert_close(diagnostics["reward_std"], reward[1, :5].std() / 2)
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()


def test_rewards_of_settings_that_were_really_run_take_the_tables_place() -> None:
    draw = _draw([0.5, 0.25, 0.25], [0, 1])._replace(reward=torch.tensor([[0.0, 1.0]]))
    logits = _logits([0.5, 0.25, 0.25])
    PLAIN.loss(logits, FEEDBACK, draw).loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


def test_a_step_says_how_many_updates_a_draw_is_good_for() -> None:
    assert Grpo().num_updates == 1
    assert Grpo(updates_per_draw=4).num_updates == 4


def test_missing_cells_are_never_drawn() -> None:
    feedback = Planted().feedback
    logits = torch.zeros(48, 12)
    logits[:, -1] = 50.0
    assert (Grpo(group_size=64).draw(logits, feedback).setting != 11).all()
