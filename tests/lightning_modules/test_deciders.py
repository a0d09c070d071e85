from typing import Any

import pytest
import torch

from lightning_modules.deciders import load_decider
from tests.controller_modules import KINDS, trainer_of, world_data


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_controller_decides_as_it_did_before_it_was_saved(kind: str) -> None:
    facts = world_data(num_images=30).profile_facts
    module = KINDS[kind](facts).eval()
    trainer = trainer_of(max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("c.ckpt")
    decider = load_decider("c.ckpt")
    free = torch.randn(4, facts["feature_widths"]["free"])
    nothing = torch.zeros(4, 0)
    budget_ms = torch.tensor([5.0, 20.0, 60.0, 200.0])
    with torch.no_grad():
        expected: Any = module.before_image(budget_ms, free, nothing, nothing)
        torch.testing.assert_close(decider.before_image(budget_ms, free, nothing, nothing), expected)
        tier = torch.tensor([0, 1, 2, 0])
        again = module.after_image(budget_ms, tier, free, nothing, nothing)
        found: Any = decider.after_image(budget_ms, tier, free, nothing, nothing)
    assert (again is None) == (found is None) == (kind == "supervised")
    if again is not None:
        torch.testing.assert_close(found, again)
    assert decider.grid == module.grid
    assert not decider.training
    assert not any(parameter.requires_grad for parameter in decider.parameters())


def test_a_checkpoint_of_no_controller_is_named() -> None:
    torch.save({"made_by": "LatencyEstimatorModule"}, "e.ckpt")
    with pytest.raises(ValueError, match=r"e.ckpt: was made by LatencyEstimatorModule, expected one of Supervised"):
        load_decider("e.ckpt")
