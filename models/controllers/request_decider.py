"""How a controller is asked while a request waits: about this request alone, in numpy."""

# Shape suffixes: S = settings in the order of `KnobGrid.settings`, R = settings of a tier, F = features.

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.controllers.llm_based import LLMBased
from models.knobs import KnobGrid

Vector = NDArray[np.float32]


class RequestDecider(Protocol):
    """A controller of one request at a time, see ``Decider``; torch begins nothing here, which takes it long.

    Features are ``free``, ``question`` and ``glance`` by name, each ``(features,)``, as they are and not standardised;
    what is not read may be missing.
    """

    @property
    def grid(self) -> KnobGrid:
        """The settings that logits are of."""
        ...

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature; 0 for what need not be computed."""
        ...

    @property
    def first_blocks(self) -> LLMBased | None:
        """What runs a budget token in the model's first blocks, for a controller that is shown the token's state there.

        That state then takes the place of the mean vision token; the token is told the time that is left.
        """
        ...

    @property
    def decides_twice(self) -> bool:
        """Whether it is to be asked again after the image."""
        ...

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        """Return ``(settings,)`` logits. The tier of the best allowed setting is the tier to cut the image at.

        A controller that decides in two stages gives all settings of a tier the same logit.

        Args:
            budget_ms: Milliseconds from raw input to last token.
            known: The features.
        """
        ...

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        """Return ``(settings of the tier,)`` logits. Only a controller that decides twice is asked.

        Args:
            remaining_ms: Budget less the time that has passed; may be negative.
            tier: Place of the tier that the image was cut at.
            known: The features.
            shown: ``(width,)`` mean vision token at that tier, or the budget token's state; width 0 if nobody reads it.
        """
        ...
