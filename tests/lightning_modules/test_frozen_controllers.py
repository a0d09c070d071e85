from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.controller import ControllerModule, FeatureKind
from models.controllers import FrozenDecider
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


def requests() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return budgets within and beyond the reference times, tiers, and features by kind."""
    generator = torch.Generator().manual_seed(2)
    features = {kind: 5 + 3 * torch.randn(NUM_REQUESTS, w, generator=generator) for kind, w in WIDTHS.items()}
    return torch.linspace(-5.0, 200.0, NUM_REQUESTS), torch.arange(NUM_REQUESTS) % len(GRID.tiers), features


def trained_answers(module: ControllerModule) -> list[Tensor]:
    """Ask about all requests at once, in both stages."""
    budget_ms, tier, features = requests()
    free, question, glance, vision = features.values()
    after = module.after_image(budget_ms, tier, free, question, vision)
    return [module.before_image(budget_ms, free, question, glance), *([] if after is None else [after])]


def frozen_answers(decider: FrozenDecider) -> list[Tensor]:
    """Ask about one request after the other."""
    budget_ms, tier, features = requests()
    before, after = [], []
    for row in range(NUM_REQUESTS):
        known = {kind: values[row].numpy() for kind, values in features.items()}
        shown, asked_ms = known.pop("vision"), float(budget_ms[row])
        before.append(torch.from_numpy(decider.before_image(asked_ms, known)))
        if decider.decides_twice:
            after.append(torch.from_numpy(decider.after_image(asked_ms, int(tier[row]), known, shown)))
    return [torch.stack(logits) for logits in (before, after) if logits]


def assert_same(kind: str, reads: list[FeatureKind], **changes: Any) -> None:
    module = controller(kind, reads, **changes)
    frozen = module.frozen()
    for found, expected in zip(frozen_answers(frozen), trained_answers(module), strict=True):
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


def test_settings_of_a_tier_are_exactly_alike_where_only_the_tier_is_decided() -> None:
    before, _ = frozen_answers(controller("two_stage", ["free"]).frozen())
    by_tier = before.unflatten(1, (len(GRID.tiers), -1))
    assert torch.equal(by_tier, by_tier[:, :, :1].expand_as(by_tier))


def test_what_is_learned_later_does_not_show() -> None:
    module = controller("two_stage", ["free"])
    frozen = module.frozen()
    before = frozen_answers(frozen)
    for parameter in [*module.parameters(), *module.buffers()]:
        parameter.data += 1.0
    torch.testing.assert_close(frozen_answers(frozen), before, atol=0, rtol=0)
