"""A planted problem for the objectives: for each request and budget one setting is best, and it is known which."""

# Shape suffixes: B = requests, S = settings.

from typing import Final

import torch
from torch import Tensor

from models.controllers.controller import Controller
from models.controllers.feedback import Feedback
from models.controllers.objectives import Objective
from models.controllers.policy import choose

LEVELS: Final = (2, 3, 2)
NUM_SETTINGS: Final = 12
NUM_KINDS: Final = 6


class Planted:
    """Requests of six kinds under two budgets; reward 0.9 for the best setting of (kind, budget), at most 0.5 else.

    The last setting was never measured, and what stands in its place would be better than all.
    """

    def __init__(self, *, num_rows: int = 48) -> None:
        row_B = torch.arange(num_rows)
        kind_B = row_B % NUM_KINDS
        is_generous_B = (row_B // NUM_KINDS) % 2
        self.best_B = (kind_B + 5 * is_generous_B) % (NUM_SETTINGS - 1)
        generator = torch.Generator().manual_seed(0)
        reward_BS = 0.5 * torch.rand(num_rows, NUM_SETTINGS, generator=generator)
        reward_BS[row_B, self.best_B] = 0.9
        reward_BS[:, -1] = torch.nan
        is_measured_BS = torch.ones(num_rows, NUM_SETTINGS, dtype=torch.bool)
        is_measured_BS[:, -1] = False
        self.budget_ms_B = torch.where(is_generous_B == 1, 400.0, 40.0)
        self.features_BF = torch.nn.functional.one_hot(kind_B, NUM_KINDS).float()
        self.feedback = Feedback(
            reward=reward_BS,
            latency_ms=torch.rand(num_rows, NUM_SETTINGS, generator=generator),
            is_measured=is_measured_BS,
            population_accuracy=torch.linspace(0, 1, NUM_SETTINGS),
        )

    def train(self, objective: Objective, *, num_steps: int) -> Tensor:
        """Train a controller and return what it chooses, ``(batch,)``."""
        network = Controller(LEVELS, NUM_KINDS, fastest_ms=20.0, slowest_ms=500.0)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
        for _ in range(num_steps):
            draw = objective.draw(network(self.budget_ms_B, self.features_BF), self.feedback)
            for _ in range(objective.num_updates):
                optimizer.zero_grad()
                logits_BS = network(self.budget_ms_B, self.features_BF)
                objective.loss(logits_BS, self.feedback, draw).loss.backward()
                optimizer.step()
        return choose(network(self.budget_ms_B, self.features_BF), self.feedback.is_measured)


def gradient(objective: Objective, logits_BS: Tensor, feedback: Feedback, *, seed: int = 0) -> Tensor:
    """Return the gradient of an objective in the logits, ``(batch, settings)``."""
    logits_BS = logits_BS.detach().clone().requires_grad_()
    draw = objective.draw(logits_BS, feedback, generator=torch.Generator().manual_seed(seed))
    objective.loss(logits_BS, feedback, draw).loss.backward()
    assert logits_BS.grad is not None
    return logits_BS.grad
