"""What a step teaches, and how accuracies are come by that no table holds: what is drawn is run."""

# Shape suffixes: B = requests, S = settings.

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.controllers import Draw, Feedback
from models.controllers.objectives import GroupObjective, Objective
from profiling.controllers.batch import ControllerBatch


class Lesson(NamedTuple):
    """One thing that a step teaches.

    Args:
        objective: How.
        feedback: What every choice would have given.
        logits: Runs the network that learns.
        reference_logits: Of the policy that a KL divergence is measured from; the drawing one if ``None``.
        is_of_settings: Whether choices are the settings of the batch, in their order; else they are sets of them, whose
            feedback follows from that of the settings.
    """

    objective: Objective
    feedback: Feedback
    logits: Callable[[], Tensor]
    reference_logits: Tensor | None = None
    is_of_settings: bool = True

    def draw(self, logits: Tensor, generator: torch.Generator) -> Draw | None:
        """Draw groups of choices from given logits, if the objective works on groups."""
        return self.objective.draw(
            logits, self.feedback, reference_logits_BS=self.reference_logits, generator=generator
        )


@torch.no_grad()
def run_what_is_drawn(
    batch: ControllerBatch, lessons_of: Callable[[ControllerBatch], dict[str, Lesson]], generator: torch.Generator
) -> tuple[dict[str, Lesson], dict[str, Draw | None]]:
    """Draw settings whose accuracies are not known, run them, and tell what came of them.

    A lesson of settings draws from all that may be run, and learns from what it has drawn. The others learn from
    whatever was run by now; of the rest nobody is told anything.

    Args:
        batch: Requests whose settings can be run.
        lessons_of: Says what a step on a batch teaches, by the name of the argument that holds its objective.
        generator: Source of randomness.

    Returns:
        The lessons, and the draws of those of settings.

    Raises:
        ValueError: If an objective of settings draws none from its policy.
    """
    of_settings = {name: lesson for name, lesson in lessons_of(batch).items() if lesson.is_of_settings}
    drawn = {name: _draw(name, lesson, generator) for name, lesson in of_settings.items()}
    is_drawn_BS = torch.zeros_like(batch.is_measured_BS)
    for name, lesson in of_settings.items():
        is_drawn = torch.zeros_like(lesson.feedback.is_measured).scatter(1, drawn[name].setting, True)
        is_drawn_BS |= is_drawn.view_as(is_drawn_BS)
    told = lessons_of(batch.after_running(is_drawn_BS & batch.is_measured_BS))
    draws: dict[str, Draw | None] = {
        name: draw._replace(reward=told[name].feedback.measured_reward.gather(1, draw.setting))
        for name, draw in drawn.items()
    }
    return {**told, **of_settings}, draws


def _draw(name: str, lesson: Lesson, generator: torch.Generator) -> Draw:
    if not isinstance(lesson.objective, GroupObjective):
        raise ValueError(
            f"online: {name}: must draw the settings to run from the policy, as Grpo and Rloo do, "
            f"got {type(lesson.objective).__name__}"
        )
    draw = lesson.draw(lesson.logits(), generator)
    assert draw is not None, "such objectives draw"
    return draw
