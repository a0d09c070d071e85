import math

import pytest
import torch

from models.controllers.budget_encoding import EncodingName, RbfEncoding, SinusoidEncoding, budget_encoding

NAMES: tuple[EncodingName, ...] = ("rbf", "sinusoid")


def test_the_scale_is_logarithmic_between_the_reference_times() -> None:
    encoding = RbfEncoding(10.0, 1000.0)
    position = encoding.position(torch.tensor([10.0, 100.0, 1000.0]))
    torch.testing.assert_close(position, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_times_beyond_the_references_count_as_those(name: EncodingName) -> None:
    encoding = budget_encoding(name, 10.0, 1000.0)
    beyond = encoding(torch.tensor([-5.0, 0.0, 1e9]))
    torch.testing.assert_close(beyond, encoding(torch.tensor([10.0, 10.0, 1000.0])))


def test_a_radial_unit_is_highest_at_its_centre() -> None:
    encoding = RbfEncoding(1.0, math.e, num_units=4)
    units = encoding(torch.tensor([math.exp(1 / 3)]))
    torch.testing.assert_close(units, torch.tensor([[math.exp(-0.5), 1.0, math.exp(-0.5), math.exp(-2)]]))


def test_sinusoids_double_their_frequency() -> None:
    units = SinusoidEncoding(1.0, math.e, num_units=4)(torch.tensor([math.exp(0.25)]))
    angles = [math.pi / 4, math.pi / 2]
    expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    torch.testing.assert_close(units, torch.tensor([expected]))


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_encoding_is_the_same(name: EncodingName) -> None:
    encoding = budget_encoding(name, 12.5, 900.0)
    budgets = torch.cat([torch.tensor([-5.0, 0.0, 12.5, 900.0, 1e9]), 10 ** torch.linspace(1, 3, 200)])
    frozen = torch.tensor([encoding.frozen()(budget_ms) for budget_ms in budgets.tolist()])
    torch.testing.assert_close(frozen, encoding(budgets))


@pytest.mark.parametrize("name", NAMES)
def test_budgets_are_told_apart(name: EncodingName) -> None:
    encoding = budget_encoding(name, 10.0, 1000.0)
    budgets = 10 ** torch.linspace(1, 3, 50)
    distance = torch.cdist(encoding(budgets), encoding(budgets)) + 9 * torch.eye(50)
    assert float(distance.min()) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_another_device_is_only_another_scale(name: EncodingName) -> None:
    budgets = torch.tensor([12.0, 50.0, 400.0])
    slow = budget_encoding(name, 30.0, 3000.0)(3 * budgets)
    torch.testing.assert_close(slow, budget_encoding(name, 10.0, 1000.0)(budgets))


@pytest.mark.parametrize(("fastest_ms", "slowest_ms"), [(0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_wrong_reference_times_are_refused(fastest_ms: float, slowest_ms: float) -> None:
    with pytest.raises(ValueError, match="needs 0 < fastest_ms < slowest_ms"):
        RbfEncoding(fastest_ms, slowest_ms)


@pytest.mark.parametrize("num_units", [0, 3])
def test_wrong_numbers_of_units_are_refused(num_units: int) -> None:
    with pytest.raises(ValueError, match=f"num_units: must be even and 2 or more, got {num_units}"):
        SinusoidEncoding(1.0, 2.0, num_units=num_units)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="budget_encoding: must be rbf or sinusoid, got 'onehot'"):
        budget_encoding("onehot", 1.0, 2.0)  # type: ignore[arg-type]
