"""Choosers that learn nothing of the request, asked as controllers are, so that all are measured alike."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from models.controllers import RequestDecider, Vector
from models.knobs import KnobGrid
from profiling.controllers import tables
from profiling.controllers.budgets import budget_grid
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Outcomes
from profiling.controllers.requests import Policy, Requests

RANDOM: Final = "random"
_TABLES: Final[Mapping[str, Callable[[Outcomes], Policy]]] = {
    "cheapest": tables.cheapest,
    "full": tables.full,
    "lut_mean": lambda training: tables.lut(training, rule="mean"),
    "lut_p95": lambda training: tables.lut(training, rule="p95"),
    "best_static": lambda training: tables.best_static(training, budget_grid(training)),
    "best_static_per_budget": tables.best_static_per_budget,
}
FIXED_NAMES: Final = (RANDOM, *_TABLES)


class FixedDecider:
    """Decide by the budget alone, before the image; see ``RequestDecider``.

    Args:
        grid: The settings.
        choose: Returns a setting's place for a budget in milliseconds.
    """

    feature_widths: Final = {"free": 0, "question": 0, "glance": 0, "vision": 0}
    first_blocks: Final = None
    decides_twice: Final = False

    def __init__(self, grid: KnobGrid, choose: Callable[[float], int]) -> None:
        self.grid = grid
        self._num_settings = len(grid.settings())
        self._choose = choose

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        """Return 1 for the chosen setting and 0 for the others, ``(settings,)``."""
        liked = np.zeros(self._num_settings, dtype=np.float32)
        liked[self._choose(budget_ms)] = 1
        return liked

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        """Never asked: all was decided before."""
        raise AssertionError("only a controller that decides twice is asked again")


class RandomDecider(FixedDecider):
    """Like every setting as well as chance has it.

    Args:
        grid: The settings.
        seed: Of the draws.
    """

    def __init__(self, grid: KnobGrid, *, seed: int) -> None:
        super().__init__(grid, lambda _budget_ms: 0)
        self._rng = np.random.default_rng(seed)

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        """Return drawn logits, ``(settings,)``."""
        return self._rng.random(self._num_settings, dtype=np.float32)


def fixed_decider(name: str, grid: KnobGrid, training: Outcomes | None, *, seed: int) -> RequestDecider:
    """Make a chooser by its name.

    Args:
        name: One of ``FIXED_NAMES``, or a setting as ``tier/top_k/num_active_blocks``.
        grid: The settings.
        training: What tables are made of; named choosers other than ``random`` need it.
        seed: Of random choices.

    Raises:
        ValueError: If there is no such chooser or setting, a table has no profile, or the profile is of another grid.
    """
    if name == RANDOM:
        return RandomDecider(grid, seed=seed)
    if name in _TABLES:
        if training is None:
            raise ValueError(f"controller: {name} looks settings up in a profile, name its files")
        if training.grid.settings() != grid.settings():
            raise ValueError(f"controller: {name}: the profile is of another grid of settings than the model")
        return FixedDecider(grid, _looked_up(_TABLES[name](training), training))
    setting = _static(name, grid)
    return FixedDecider(grid, lambda _budget_ms: setting)


def _looked_up(policy: Policy, training: Outcomes) -> Callable[[float], int]:
    """Ask a table about a sample that was measured at every setting; what it says does not depend on the sample."""
    complete = np.flatnonzero(training.is_measured_NS.all(axis=1))[:1]
    if len(complete) == 0:
        raise ValueError("profile: no sample was measured at every setting")
    sample = training.take(complete)
    request = Requests(outcomes=sample, features=without_embeddings(sample))
    return lru_cache(maxsize=None)(lambda budget_ms: int(policy(request, [budget_ms])[0, 0]))


def _static(name: str, grid: KnobGrid) -> int:
    words: Sequence[str] = name.split("/")
    if len(words) != 3 or not (words[1].isdecimal() and words[2].isdecimal()):
        raise ValueError(
            f"controller: must be a checkpoint (.ckpt), one of {', '.join(FIXED_NAMES)}, or a setting such as "
            f"high/4/16 (tier, top_k, active blocks), got {name!r}"
        )
    setting = grid.setting(tier=words[0], top_k=int(words[1]), num_active_blocks=int(words[2]))
    return grid.settings().index(setting)
