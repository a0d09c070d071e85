import numpy as np
import pytest
import torch

from models.experts import MoE
from profiling.levels.losses import sensitivity_jobs, sensitivity_losses, weight_losses
from profiling.subsets.job import NO_COST, Outcome
from tests.small_models import tiny_molmo


def test_weights_show_which_block_needs_its_experts() -> None:
    """Block 1 has experts that are all alike to nothing: it loses nothing, whatever their number."""
    model = tiny_molmo(num_experts=6, top_k=3)
    moe = model.language_model.blocks[1].get_submodule("ffn")
    assert isinstance(moe, MoE)
    with torch.no_grad():
        moe.experts.down.zero_()
    losses = weight_losses(model, (1, 2, 3, 6), seed=0)
    assert losses.shape == (2, 4)
    assert not losses[1].any()
    assert losses[0, 0] > losses[0, 1] > losses[0, 2] == 0
    assert losses[0, 3] > 0
    assert np.array_equal(losses, weight_losses(model, (1, 2, 3, 6), seed=0))


def test_samples_show_it_by_how_much_worse_answers_are_predicted() -> None:
    jobs = sensitivity_jobs("train", num_blocks=2, trained_top_k=3, counts=(1, 4), num_samples=5)
    assert [None if job.experts is None else job.experts.text for job in jobs] == [
        (3, 3),
        (1, 3),
        (4, 3),
        (3, 1),
        (3, 4),
    ]
    outcomes = [
        Outcome(values={"a": {"nll": np.full(5, nll)}, "b": {"nll": np.full(5, 3 * nll)}}, cost=NO_COST)
        for nll in (1.0, 1.5, 0.9, 2.0, 1.0)
    ]
    losses = sensitivity_losses(outcomes, num_counts=2)
    assert losses == pytest.approx(np.asarray([[1.0, -0.2], [2.0, 0.0]]))
