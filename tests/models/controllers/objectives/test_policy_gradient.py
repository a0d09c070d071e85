import pytest
import torch
from torch.nn import functional as F

from models.controllers.feedback import Feedback
from models.controllers.objectives import ExactPolicyGradient, Grpo, Objective, Rloo
from tests.models.controllers.planted import gradient

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = torch.randn(1, 12, generator=GENERATOR)
# One far outlier: where groups differ in spread, the z-score weighs them in another way.
REWARD = torch.rand(1, 12, generator=GENERATOR)
REWARD[0, 4] = -8.0
FEEDBACK = Feedback(REWARD, torch.ones(1, 12), torch.ones(1, 12, dtype=torch.bool))
EXACT = gradient(ExactPolicyGradient(entropy_weight=0.0), LOGITS, FEEDBACK)


def _cosine(objective: Objective) -> float:
    return float(F.cosine_similarity(gradient(objective, LOGITS, FEEDBACK), EXACT))


def _mean_gradient(objective: Objective, *, num_groups: int = 200_000) -> torch.Tensor:
    feedback = Feedback(*(x.expand(num_groups, 12) for x in FEEDBACK[:3]))
    return gradient(objective, LOGITS.expand(num_groups, 12), feedback).sum(dim=0, keepdim=True)


def test_settings_are_drawn_as_often_as_they_are_likely_and_missing_ones_never() -> None:
    feedback = FEEDBACK._replace(is_measured=torch.arange(12)[None] < 7)
    drawn = Rloo(group_size=200_000).draw(LOGITS, feedback).setting
    expected = torch.cat([LOGITS[0, :7].softmax(dim=0), torch.zeros(5)])
    share = torch.bincount(drawn.flatten(), minlength=12) / 200_000
    torch.testing.assert_close(share, expected, atol=0.005, rtol=0)
    assert (share[7:] == 0).all()


def test_the_exact_gradient_is_what_the_formula_says() -> None:
    policy = LOGITS.softmax(dim=1)
    torch.testing.assert_close(EXACT, -policy * (REWARD - (policy * REWARD).sum()))


def test_the_exact_rule_reports_the_expected_reward() -> None:
    diagnostics = ExactPolicyGradient().loss(LOGITS, FEEDBACK).diagnostics
    torch.testing.assert_close(diagnostics["reward"], (LOGITS.softmax(dim=1) * REWARD).sum())


def test_a_growing_group_tends_to_the_exact_gradient() -> None:
    centered = [_cosine(Grpo(group_size=size, advantage="center", entropy_weight=0.0)) for size in (100, 100_000)]
    unbiased = [_cosine(Rloo(group_size=size, entropy_weight=0.0)) for size in (100, 100_000)]
    assert centered[0] < centered[1] > 0.999
    assert unbiased[0] < unbiased[1] > 0.999


def test_scaled_by_the_spread_a_growing_group_tends_elsewhere() -> None:
    # One large group has one scale, so its direction is right; groups of five differ in theirs, and the mean is bent.
    zscore = _mean_gradient(Grpo(group_size=5, advantage="zscore", entropy_weight=0.0))
    centered = _mean_gradient(Grpo(group_size=5, advantage="center", entropy_weight=0.0))
    assert float(F.cosine_similarity(centered, EXACT)) > 0.999
    assert float(F.cosine_similarity(zscore, EXACT)) < 0.97


def test_leaving_one_out_is_unbiased_and_centring_short_by_one_of_the_group() -> None:
    unbiased = _mean_gradient(Rloo(group_size=5, entropy_weight=0.0))
    centered = _mean_gradient(Grpo(group_size=5, advantage="center", entropy_weight=0.0))
    torch.testing.assert_close(unbiased, EXACT, atol=0.01, rtol=0)
    torch.testing.assert_close(centered, EXACT * 4 / 5, atol=0.01, rtol=0)


@pytest.mark.parametrize("objective", [ExactPolicyGradient, Rloo, Grpo])
def test_the_entropy_is_paid_for(objective: type[ExactPolicyGradient] | type[Rloo] | type[Grpo]) -> None:
    equal = FEEDBACK._replace(reward=torch.zeros(1, 12))
    loss, diagnostics = objective(entropy_weight=0.5).loss(LOGITS, equal)
    entropy = torch.distributions.Categorical(logits=LOGITS).entropy().squeeze()
    torch.testing.assert_close(diagnostics["entropy"], entropy)
    torch.testing.assert_close(loss, -0.5 * entropy)
