"""What a controller is told of the profile that it learns from."""

from typing import Any, NotRequired, TypedDict


class FirstBlocks(TypedDict):
    """Which of a model's blocks run before the decision of a controller that looks at them.

    Args:
        model_digest: Digest of the model's weights.
        model_dim: Width of the language model.
        num_blocks: How many blocks.
    """

    model_digest: str
    model_dim: int
    num_blocks: int


class ProfileFacts(TypedDict):
    """Plain values, so that a checkpoint holds them.

    Args:
        knob_grid: The settings, as ``KnobGrid.to_json`` writes them.
        feature_widths: How many numbers there are in ``free``, ``question``, ``glance``, and in ``vision`` at one tier.
        feature_scale: Mean and standard deviation of each number, by kind.
        fastest_ms: Smallest budget that training draws.
        slowest_ms: Largest budget that training draws.
        fastest_rest_ms: Time that hardly any setting is faster than once its vision tokens are there.
        budgets_ms: The budgets of validation and test.
        population_accuracy: Mean accuracy of each setting.
        first_blocks: The blocks that have run the samples' prompts; not there where the data hold no prompts.
    """

    knob_grid: dict[str, Any]
    feature_widths: dict[str, int]
    feature_scale: dict[str, list[list[float]]]
    fastest_ms: float
    slowest_ms: float
    fastest_rest_ms: float
    budgets_ms: list[float]
    population_accuracy: list[float]
    first_blocks: NotRequired[FirstBlocks]
