from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules.controller import ControllerModule, FeatureKind
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from tests.controller_modules import KINDS
from tests.controller_world import GRID

WIDTHS = {"free": 9, "question": 12, "glance": 12, "vision": 12}
NUM_REQUESTS = 40
VARIANTS: list[tuple[str, HeadName, EncodingName, int]] = [
    (kind, head, encoding, num_layers)
    for kind, head, encoding, num_layers in product(KINDS, ("joint", "factorised"), ("rbf", "sinusoid"), (1, 2))
]


def controller(kind: str, reads: list[FeatureKind], **changes: Any) -> ControllerModule:
    """Return a controller whose every weight says something, with features that lie far from 0."""
    rng = np.random.default_rng(0)
    facts = {
        "knob_grid": GRID.to_json(),
        "feature_widths": WIDTHS,
        "feature_scale": {
            k: [rng.normal(5, 3, w).tolist(), rng.uniform(0.2, 4, w).tolist()] for k, w in WIDTHS.items()
        },
        "fastest_ms": 11.0,
        "slowest_ms": 170.0,
        "fastest_rest_ms": 4.0,
        "budgets_ms": [20.0, 80.0],
        "population_accuracy": [0.5] * len(GRID.settings()),
    }
    torch.manual_seed(1)
    module: ControllerModule = KINDS[kind](facts, reads=reads, **changes)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return module.requires_grad_(False).eval()


def answers(decider: Any) -> list[torch.Tensor | None]:
    """Ask about requests within and beyond the reference times, in both stages."""
    generator = torch.Generator().manual_seed(2)
    free, question, glance, vision = (
        5 + 3 * torch.randn(NUM_REQUESTS, w, generator=generator) for w in WIDTHS.values()
    )
    budget_ms = torch.linspace(-5.0, 200.0, NUM_REQUESTS)
    tier = torch.arange(NUM_REQUESTS) % len(GRID.tiers)
    return [
        decider.before_image(budget_ms, free, question, glance),
        decider.after_image(budget_ms, tier, free, question, vision),
        decider.after_image(budget_ms[:1], tier[1:2], free[:1], question[:1], vision[:1]),
    ]


def assert_same(kind: str, reads: list[FeatureKind], **changes: Any) -> None:
    module = controller(kind, reads, **changes)
    frozen = module.frozen()
    for found, expected in zip(answers(frozen), answers(module), strict=True):
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert float(expected.std()) > 0.1
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (frozen.grid, frozen.feature_widths, frozen.first_blocks) == (module.grid, module.feature_widths, None)


@pytest.mark.parametrize(("kind", "head", "encoding", "num_layers"), VARIANTS)
def test_a_frozen_controller_gives_the_logits_that_were_trained(
    kind: str, head: HeadName, encoding: EncodingName, num_layers: int
) -> None:
    reads: list[FeatureKind] = ["question", "free"] if kind == "supervised" else ["vision", "question", "free"]
    assert_same(kind, reads, head=head, encoding=encoding, num_layers=num_layers)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("reads", [[], ["free"], ["question"], ["glance", "free"]])
def test_it_reads_what_the_controller_reads(kind: str, reads: list[FeatureKind]) -> None:
    assert_same(kind, reads)


def test_what_is_learned_later_does_not_show() -> None:
    module = controller("two_stage", ["free"])
    frozen = module.frozen()
    before = answers(frozen)
    for parameter in [*module.parameters(), *module.buffers()]:
        parameter.data += 1.0
    torch.testing.assert_close(answers(frozen), before, atol=0, rtol=0)
