import math

import pytest
import torch

from models.controllers.feedback import Feedback
from models.controllers.objectives import ArgmaxSetCrossEntropy, HardCrossEntropy, SoftCrossEntropy

FEEDBACK = Feedback(
    reward=torch.tensor([[0.2, 1.0, 1.0, 1.0, 9.0]]),
    latency_ms=torch.tensor([[1.0, 8.0, 6.0, 7.0, 0.0]]),
    is_measured=torch.tensor([[True, True, True, True, False]]),
    population_accuracy=torch.tensor([0.9, 0.5, 0.4, 0.6, 1.0]),
)


def test_ties_go_to_the_cheapest_or_to_the_populations_best() -> None:
    assert HardCrossEntropy(tie="cheapest").labels(FEEDBACK).tolist() == [[0, 0, 1, 0, 0]]
    assert HardCrossEntropy(tie="best_population").labels(FEEDBACK).tolist() == [[0, 0, 0, 1, 0]]


def test_the_set_of_best_settings_shares_the_label() -> None:
    torch.testing.assert_close(ArgmaxSetCrossEntropy().labels(FEEDBACK), torch.tensor([[0, 1 / 3, 1 / 3, 1 / 3, 0]]))


def test_soft_labels_go_from_the_best_settings_to_all() -> None:
    cold = SoftCrossEntropy(temperature=1e-3).labels(FEEDBACK)
    torch.testing.assert_close(cold, ArgmaxSetCrossEntropy().labels(FEEDBACK))
    hot = SoftCrossEntropy(temperature=1e3).labels(FEEDBACK)
    torch.testing.assert_close(hot, torch.tensor([[0.25, 0.25, 0.25, 0.25, 0.0]]), atol=1e-3, rtol=0)
    middle = SoftCrossEntropy(temperature=0.8).labels(FEEDBACK)
    assert float(middle[0, 1] / middle[0, 0]) == pytest.approx(math.e)


def test_a_request_without_any_measured_setting_has_no_label() -> None:
    nothing = FEEDBACK._replace(is_measured=torch.zeros(1, 5, dtype=torch.bool))
    for objective in (HardCrossEntropy(), ArgmaxSetCrossEntropy(), SoftCrossEntropy()):
        assert (objective.labels(nothing) == 0).all()


def test_the_loss_is_the_cross_entropy_with_the_measured_settings() -> None:
    loss, diagnostics = HardCrossEntropy(tie="cheapest").loss(torch.tensor([[1.0, 2.0, 3.0, 4.0, 50.0]]), FEEDBACK)
    expected = torch.tensor([1.0, 2.0, 3.0, 4.0]).log_softmax(dim=0)
    torch.testing.assert_close(loss, -expected[2])
    torch.testing.assert_close(diagnostics["entropy"], -(expected.exp() * expected).sum())
    assert diagnostics["reward"] == 1.0


def test_the_populations_best_must_be_known() -> None:
    with pytest.raises(ValueError, match="tie: best_population needs feedback with population_accuracy"):
        HardCrossEntropy().labels(FEEDBACK._replace(population_accuracy=None))
