import torch

from models.controllers.feedback import Feedback
from models.controllers.objectives import Grpo, QRegression


def test_the_error_is_the_mean_over_measured_cells() -> None:
    feedback = Feedback(
        reward=torch.tensor([[1.0, 0.0], [0.5, torch.nan]]),
        latency_ms=torch.ones(2, 2),
        is_measured=torch.tensor([[True, True], [True, False]]),
    )
    loss, diagnostics = QRegression().loss(torch.tensor([[0.0, 2.0], [1.0, 7.0]]), feedback)
    torch.testing.assert_close(loss, torch.tensor((1 + 4 + 0.25) / 3))
    torch.testing.assert_close(diagnostics["reward"], torch.tensor(0.25))


def test_only_its_logits_are_rewards() -> None:
    assert QRegression().predicts_rewards
    assert not Grpo().predicts_rewards
