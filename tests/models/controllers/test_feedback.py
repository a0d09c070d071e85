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


def test_every_tier_is_what_each_tier_gives_one_after_the_other() -> None:
    tiers = FEEDBACK.by_tier(2)
    expected = torch.tensor([[0.1, 0.7, 0.7], [0.9, NAN, 0.2], [NAN, NAN, NAN], [0.3, 0.3, NAN]])
    torch.testing.assert_close(tiers.reward, expected, equal_nan=True)
    expected_ms = torch.tensor([[1.0, 9.0, 4.0], [8.0, NAN, 2.0], [NAN, NAN, NAN], [6.0, 5.0, NAN]])
    torch.testing.assert_close(tiers.latency_ms, expected_ms, equal_nan=True)
    assert torch.equal(tiers.is_measured, expected.isfinite())
    assert tiers.population_accuracy is not None
    torch.testing.assert_close(tiers.population_accuracy, torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]] * 2))
