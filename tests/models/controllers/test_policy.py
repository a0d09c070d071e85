import math

import torch

from models.controllers.policy import choose, entropy, masked_log_prob

LOGITS = torch.tensor([[0.0, 5.0, 0.0], [1.0, 2.0, 3.0]])
ALLOWED = torch.tensor([[True, False, True], [True, True, True]])


def test_settings_that_are_not_allowed_have_no_probability() -> None:
    probability = masked_log_prob(LOGITS, ALLOWED).exp()
    torch.testing.assert_close(probability[0], torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(probability[1], LOGITS[1].softmax(dim=0))


def test_settings_that_are_not_allowed_get_no_gradient_even_from_the_entropy() -> None:
    logits = LOGITS.clone().requires_grad_()
    entropy(masked_log_prob(logits * logits, ALLOWED)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] == 0


def test_the_highest_allowed_logit_is_chosen() -> None:
    assert choose(LOGITS, ALLOWED).tolist() == [0, 2]


def test_the_entropy_counts_allowed_settings_only() -> None:
    assert float(entropy(masked_log_prob(LOGITS, ALLOWED))[0]) == torch.tensor(math.log(2)).item()


def test_a_request_without_any_allowed_setting_is_harmless() -> None:
    logits = LOGITS.clone().requires_grad_()
    log_prob = masked_log_prob(logits, torch.zeros_like(ALLOWED))
    (log_prob.exp() * log_prob).sum().backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()
