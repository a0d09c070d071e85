from typing import Any

import pytest
import torch
from lightning import Trainer

from lightning_modules.deciders import load_decider, load_estimator
from lightning_modules.latency_estimator import LatencyEstimatorModule
from models.latency_terms import ModelShape
from profiling.latency_rows import base_coefficients, latency_rows
from tests.controller_modules import KINDS, trainer_of, world_data
from tests.profile_law import profile_table


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
        expected: Any = module.before_image(budget_ms, free, nothing)
        torch.testing.assert_close(decider.before_image(budget_ms, free, nothing), expected)
        tier = torch.tensor([0, 1, 2, 0])
        again = module.after_image(budget_ms, tier, free, nothing, nothing)
        found: Any = decider.after_image(budget_ms, tier, free, nothing, nothing)
    assert (again is None) == (found is None) == (kind == "supervised")
    if again is not None:
        torch.testing.assert_close(found, again)
    assert decider.grid == module.grid
    assert not decider.training
    assert not any(parameter.requires_grad for parameter in decider.parameters())


def test_each_takes_checkpoints_of_its_kind_only() -> None:
    shape = ModelShape().to_mapping()
    rows = latency_rows(profile_table("fast", num_images=20))
    module = LatencyEstimatorModule(["fast"], [shape], base_coefficients(rows, [shape])).eval()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("e.ckpt")
    with pytest.raises(ValueError, match=r"e.ckpt: was made by LatencyEstimatorModule, expected one of Supervised"):
        load_decider("e.ckpt")
    estimator = load_estimator("e.ckpt")
    with torch.no_grad():
        torch.testing.assert_close(
            estimator.quantiles_ms(rows.features, rows.device),
            module.estimator.quantiles_ms(rows.features, rows.device),
        )
    with pytest.raises(ValueError, match=r"none.ckpt: no such checkpoint file"):
        load_estimator("none.ckpt")
