import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, distributed

from models.controllers.rewards import Goodput, Lagrangian, OverrunPenalty, Reward

ACCURACY = torch.tensor([[1.0, 1.0, 0.5], [1.0, 0.6, 0.0]])
LATENCY_MS = torch.tensor([[90.0, 110.0, 300.0], [90.0, 200.0, 50.0]])
BUDGET_MS = torch.tensor([100.0, 200.0])


def test_ten_per_cent_late_costs_a_twentieth() -> None:
    reward = OverrunPenalty()(ACCURACY, LATENCY_MS, BUDGET_MS)
    torch.testing.assert_close(reward, torch.tensor([[1.0, 0.95, -0.5], [1.0, 0.6, 0.0]]))


def test_weights_of_the_overrun_penalty() -> None:
    reward = OverrunPenalty(alpha=2.0, beta=1.0)(ACCURACY, LATENCY_MS, BUDGET_MS)
    torch.testing.assert_close(reward[0], torch.tensor([2.0, 1.9, -1.0]))


def test_goodput_counts_only_what_is_in_time() -> None:
    reward = Goodput()(ACCURACY, LATENCY_MS, BUDGET_MS)
    torch.testing.assert_close(reward, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.6, 0.0]]))


def test_each_bin_of_budgets_has_its_price() -> None:
    reward = Lagrangian([150.0])
    reward.price_N.copy_(torch.tensor([0.25, 2.0]))
    late = reward(torch.ones(3, 1), torch.full((3, 1), 1000.0), torch.tensor([100.0, 149.9, 150.0]))
    assert late.flatten().tolist() == [0.75, 0.75, -1.0]
    assert reward(ACCURACY, LATENCY_MS, BUDGET_MS)[1].tolist() == ACCURACY[1].tolist()  # all in time


def test_a_price_moves_by_the_late_answers_too_many() -> None:
    reward = Lagrangian([150.0, 1000.0], target_miss_rate=0.1, learning_rate=0.5, first_price=1.0)
    probability = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    reward.update(probability, LATENCY_MS, BUDGET_MS)
    # First bin: half is late, 0.4 too many. Second: none, 0.1 too few. Third: saw nothing.
    torch.testing.assert_close(reward.price_N, torch.tensor([1.2, 0.95, 1.0]))


def test_a_price_hears_of_the_late_answers_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_another_process(late_and_count: Tensor) -> None:
        late_and_count += torch.tensor([[0.5, 3.0], [1.0, 3.0]])

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", add_another_process)
    reward = Lagrangian([150.0], target_miss_rate=0.1, learning_rate=0.5, first_price=1.0)
    reward.update(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), LATENCY_MS, BUDGET_MS)
    # First bin: 1 late of 2, second: 3 of 4.
    torch.testing.assert_close(reward.price_N, torch.tensor([1.2, 1.325]))


def test_a_price_never_pays_for_being_late() -> None:
    reward = Lagrangian([], learning_rate=10.0)
    reward.update(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([2.0]))
    assert reward.price_N.tolist() == [0.0]


def test_dual_ascent_ends_at_the_promised_miss_rate() -> None:
    # One setting is always in time. The other is late for half of the requests, and worth more to some than to others.
    generator = torch.Generator().manual_seed(0)
    late_ms = 50 + 100 * torch.rand(2000, 1, generator=generator)
    latency_ms = torch.cat([torch.full((2000, 1), 10.0), late_ms], dim=1)
    accuracy = torch.cat([torch.zeros(2000, 1), torch.rand(2000, 1, generator=generator)], dim=1)
    budget_ms = torch.full((2000,), 100.0)
    reward = Lagrangian([], target_miss_rate=0.1)
    misses = []
    for _ in range(400):
        policy = (reward(accuracy, latency_ms, budget_ms) * 50).softmax(dim=1)
        misses.append(float((policy * (latency_ms > 100)).sum(dim=1).mean()))
        reward.update(policy, latency_ms, budget_ms)
    assert misses[0] > 0.2
    assert misses[-1] == pytest.approx(0.1, abs=0.01)


def test_prices_are_part_of_a_checkpoint() -> None:
    reward = Lagrangian([150.0])
    reward.price_N.fill_(3.0)
    other = Lagrangian([150.0])
    other.load_state_dict(reward.state_dict())
    assert other.price_N.tolist() == [3.0, 3.0]


def test_prices_are_told_by_the_budgets_that_they_are_for() -> None:
    reward = Lagrangian([20.0, 62.5])
    reward.price_N.copy_(torch.tensor([1.0, 2.0, 3.0]))
    told = {name: float(price) for name, price in reward.diagnostics().items()}
    assert told == {"price/from_0_ms": 1.0, "price/from_20_ms": 2.0, "price/from_62.5_ms": 3.0}
    assert not OverrunPenalty().diagnostics()


def test_one_line_of_yaml_names_a_reward() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    given = {"class_path": "Lagrangian", "init_args": {"bin_edges_ms": [50, 100], "target_miss_rate": 0.01}}
    reward = parser.instantiate_classes(parser.parse_object({"reward": given})).reward
    assert isinstance(reward, Lagrangian)
    assert reward.target_miss_rate == 0.01
    assert len(reward.price_N) == 3


@pytest.mark.parametrize("edges_ms", [[2.0, 1.0], [1.0, 1.0], [0.0], [float("nan")]])
def test_wrong_bins_are_refused(edges_ms: list[float]) -> None:
    with pytest.raises(ValueError, match="bin_edges_ms: must ascend from above 0"):
        Lagrangian(edges_ms)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"target_miss_rate": 0.0}, r"target_miss_rate: must be in \(0, 1\), got 0.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"first_price": -1.0}, "first_price 0 or more, got 0.05 and -1.0"),
    ],
)
def test_wrong_numbers_of_the_lagrangian_are_refused(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lagrangian([], **arguments)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OverrunPenalty: beta: must be 0 or more, got -0\.5"):
        OverrunPenalty(beta=-0.5)
