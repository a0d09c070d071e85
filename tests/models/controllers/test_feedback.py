import torch

from models.controllers.feedback import Feedback

NAN = torch.nan
# Two tiers of three settings.
FEEDBACK = Feedback(
    reward=torch.tensor([[0.1, 0.7, 0.7, 0.9, NAN, 0.2], [NAN, NAN, NAN, 0.3, 0.3, NAN]]),
    latency_ms=torch.tensor([[1.0, 9.0, 4.0, 8.0, NAN, 2.0], [NAN, NAN, NAN, 6.0, 5.0, NAN]]),
    is_measured=torch.tensor([[True, True, True, True, False, True], [False, False, False, True, True, False]]),
    population_accuracy=torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
)


def test_ties_are_all_best_and_missing_cells_never() -> None:
    expected = [[False, False, False, True, False, False], [False, False, False, True, True, False]]
    assert FEEDBACK.is_best.tolist() == expected


def test_missing_rewards_count_as_nothing() -> None:
    torch.testing.assert_close(FEEDBACK.measured_reward[1], torch.tensor([0.0, 0.0, 0.0, 0.3, 0.3, 0.0]))


def test_the_likeliest_measured_setting_is_rewarded() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 1.0, 9.0, 0.0], [9.0, 9.0, 9.0, 0.0, 1.0, 9.0]])
    torch.testing.assert_close(FEEDBACK.reward_of_likeliest(logits), torch.tensor([0.9, 0.3]))


def test_a_tier_is_worth_its_best_setting() -> None:
    tiers = FEEDBACK.best_of_tiers(2)
    assert tiers.is_measured.tolist() == [[True, True], [False, True]]
    torch.testing.assert_close(tiers.measured_reward, torch.tensor([[0.7, 0.9], [0.0, 0.3]]))
    assert tiers.latency_ms[0].tolist() == [4.0, 8.0]  # the faster of the two best
    assert tiers.latency_ms[1, 1] == 5.0
    assert tiers.population_accuracy is not None
    torch.testing.assert_close(tiers.population_accuracy, torch.tensor([0.3, 0.6]))


def test_within_a_tier_are_its_settings() -> None:
    tier = FEEDBACK.within_tier(torch.tensor([0, 1]), 2)
    torch.testing.assert_close(tier.reward, torch.tensor([[0.1, 0.7, 0.7], [0.3, 0.3, NAN]]), equal_nan=True)
    torch.testing.assert_close(tier.latency_ms, torch.tensor([[1.0, 9.0, 4.0], [6.0, 5.0, NAN]]), equal_nan=True)
    assert tier.is_measured.tolist() == [[True, True, True], [True, True, False]]
    assert tier.population_accuracy is not None
    torch.testing.assert_close(tier.population_accuracy, torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))


def test_every_tier_is_what_each_tier_gives_one_after_the_other() -> None:
    reward_BS = torch.arange(12.0).reshape(2, 6)
    is_measured_BS = reward_BS != 4
    feedback = Feedback(reward_BS, 10 * reward_BS, is_measured_BS, torch.arange(6.0))
    by_tier = feedback.by_tier(2)
    for b in range(2):
        for t in range(2):
            within = feedback.within_tier(torch.tensor([t, t]), 2)
            assert torch.equal(by_tier.reward[2 * b + t], within.reward[b])
            assert torch.equal(by_tier.latency_ms[2 * b + t], within.latency_ms[b])
            assert torch.equal(by_tier.is_measured[2 * b + t], within.is_measured[b])
            assert by_tier.population_accuracy is not None
            assert by_tier.population_accuracy[2 * b + t].tolist() == [3 * t, 3 * t + 1, 3 * t + 2]
