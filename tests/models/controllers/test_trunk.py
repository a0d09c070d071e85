import pytest
import torch

from models.controllers.trunk import Standardize, Trunk


def test_training_samples_are_standardised_and_constants_kept_finite() -> None:
    standardize = Standardize(3)
    features = torch.randn(500, 3) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([100.0, 0.0, 7.0])
    assert torch.equal(standardize(features), features)
    standardize.fit(features)
    standard = standardize(features)
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(dim=0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_what_was_fitted_is_part_of_a_checkpoint() -> None:
    trunk, other = (Trunk(2, fastest_ms=1.0, slowest_ms=9.0) for _ in range(2))
    trunk.standardize.fit(torch.randn(20, 2) * 3 + 1)
    other.load_state_dict(trunk.state_dict())
    inputs = torch.tensor([2.0, 4.0]), torch.randn(2, 2)
    assert torch.equal(trunk(*inputs), other(*inputs))


def test_a_network_may_know_only_the_budget() -> None:
    trunk = Trunk(0, fastest_ms=1.0, slowest_ms=9.0)
    hidden = trunk(torch.tensor([2.0, 2.0, 5.0]), torch.zeros(3, 0))
    assert torch.equal(hidden[0], hidden[1])
    assert not torch.equal(hidden[0], hidden[2])


def test_plain_inputs_are_read() -> None:
    trunk = Trunk(0, fastest_ms=1.0, slowest_ms=9.0, num_plain=2)
    hidden = trunk(torch.tensor([2.0, 2.0]), torch.zeros(2, 0), torch.eye(2))
    assert not torch.equal(hidden[0], hidden[1])


def test_another_number_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="features: the network reads 2 of each request, got 3"):
        Trunk(2, fastest_ms=1.0, slowest_ms=9.0)(torch.ones(1), torch.ones(1, 3))


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="controller: hidden_dim: must be 1 or more, got 0"):
        Trunk(2, fastest_ms=1.0, slowest_ms=9.0, hidden_dim=0)
    with pytest.raises(ValueError, match="controller: num_layers: must be 1 or more, got 0"):
        Trunk(2, fastest_ms=1.0, slowest_ms=9.0, num_layers=0)
