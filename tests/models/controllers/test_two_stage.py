import torch
from torch import Tensor

from models.controllers.feedback import Feedback
from models.controllers.objectives import ExactPolicyGradient
from models.controllers.policy import choose
from models.controllers.two_stage import SettingNetwork, TierNetwork, TwoStage

NUM_TIERS, LEVELS = 3, (4, 2)


def _policy() -> TwoStage:
    tier_network = TierNetwork(NUM_TIERS, 2, fastest_ms=10.0, slowest_ms=90.0)
    return TwoStage(tier_network, SettingNetwork(LEVELS, NUM_TIERS, 5, fastest_ms=5.0, slowest_ms=80.0))


def _inputs(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    budget_ms = 20 + 60 * torch.rand(batch)
    remaining_ms = budget_ms[:, None] - torch.tensor([5.0, 15.0, 40.0])
    return budget_ms, torch.randn(batch, 2), remaining_ms, torch.randn(batch, NUM_TIERS, 5)


def test_the_joint_policy_is_the_tier_times_the_setting_within_it() -> None:
    policy, (budget_ms, features, remaining_ms, tier_features) = _policy(), _inputs(7)
    joint = policy(budget_ms, features, remaining_ms, tier_features).exp()
    torch.testing.assert_close(joint.sum(dim=1), torch.ones(7))
    tier = policy.tier_network(budget_ms, features).softmax(dim=1)
    torch.testing.assert_close(joint.unflatten(1, (NUM_TIERS, 8)).sum(dim=2), tier)
    for t in range(NUM_TIERS):
        within = policy.setting_network(remaining_ms[:, t], torch.full((7,), t), tier_features[:, t]).softmax(dim=1)
        torch.testing.assert_close(joint[:, 8 * t : 8 * t + 8], tier[:, t : t + 1] * within)


def test_the_second_stage_hears_tier_and_remaining_time() -> None:
    network = _policy().setting_network
    features = torch.randn(1, 5).expand(3, 5)
    logits = network(torch.tensor([30.0, 30.0, 60.0]), torch.tensor([0, 1, 1]), features)
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


def test_time_that_has_run_out_is_no_accident() -> None:
    logits = _policy().setting_network(torch.tensor([-30.0, 0.0]), torch.zeros(2, dtype=torch.int64), torch.ones(2, 5))
    assert logits.isfinite().all()
    assert torch.equal(logits[0], logits[1])


def test_both_stages_learn_end_to_end_where_one_pair_is_right() -> None:
    # Tier 2 is best only with its last setting, so neither stage can be right by itself.
    policy, inputs = _policy(), _inputs(64)
    reward = torch.full((64, 24), 0.2)
    reward[:, :8] = 0.5
    reward[:, 23] = 1.0
    feedback = Feedback(reward, torch.ones(64, 24), torch.ones(64, 24, dtype=torch.bool))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        ExactPolicyGradient(entropy_weight=0.1).loss(policy(*inputs), feedback).loss.backward()
        optimizer.step()
    assert (choose(policy(*inputs), feedback.is_measured) == 23).all()
