import pytest
import torch

from models.controllers.budget_encoding import EncodingName
from models.controllers.controller import Controller
from models.controllers.heads import HeadName


@pytest.mark.parametrize("levels", [(3, 5, 5), (2, 1, 4), (7,)])
@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_any_grid_gets_a_logit_for_every_setting(levels: tuple[int, ...], head: HeadName) -> None:
    network = Controller(levels, 6, fastest_ms=10.0, slowest_ms=90.0, head=head)
    logits = network(torch.tensor([20.0, 50.0]), torch.randn(2, 6))
    assert logits.shape == (2, int(torch.tensor(levels).prod()))


@pytest.mark.parametrize("encoding", ["rbf", "sinusoid"])
def test_the_budget_and_each_feature_matter(encoding: EncodingName) -> None:
    network = Controller((2, 2, 2), 3, fastest_ms=10.0, slowest_ms=90.0, encoding=encoding)
    budget_ms = torch.tensor([20.0], requires_grad=True)
    features = torch.randn(1, 3, requires_grad=True)
    network(budget_ms, features)[0, 0].backward()
    assert budget_ms.grad is not None
    assert features.grad is not None
    assert (budget_ms.grad != 0).all()
    assert (features.grad != 0).all()


def test_a_request_is_judged_by_itself() -> None:
    network = Controller((2, 2, 2), 3, fastest_ms=10.0, slowest_ms=90.0)
    budget_ms, features = torch.tensor([20.0, 50.0, 80.0]), torch.randn(3, 3)
    torch.testing.assert_close(network(budget_ms[1:2], features[1:2]), network(budget_ms, features)[1:2])
