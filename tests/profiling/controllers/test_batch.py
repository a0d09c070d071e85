import numpy as np
import torch

from profiling.controllers.batch import ControllerBatch, whole_batch
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import outcomes_of
from tests.controller_world import world_rows, world_table


def holed_batch() -> ControllerBatch:
    rows = world_rows(num_images=5)
    outcomes = outcomes_of(world_table(rows[(rows["sample"] != 3) | (rows["setting"] != 4)]))
    return whole_batch(outcomes, without_embeddings(outcomes))


def test_tensors_are_the_tables_and_gaps_are_marked_zeros() -> None:
    rows = world_rows(num_images=5)
    outcomes = outcomes_of(world_table(rows))
    batch = holed_batch()
    assert np.argwhere(~batch.is_measured_BS.numpy()).tolist() == [[3, 4]]
    assert batch.accuracy_BS[3, 4] == batch.latency_ms_BS[3, 4] == 0
    expected = torch.from_numpy(outcomes.latency_ms_NS).float()
    expected[3, 4] = 0
    assert torch.equal(batch.latency_ms_BS, expected)
    assert torch.isfinite(batch.vision_done_ms_BT).all()
    assert batch.question_BD.shape == (10, 0)
    assert batch.vision_BTD.shape == (10, 3, 0)
    assert all(tensor.dtype == torch.float32 for tensor in (batch.free_BF, batch.accuracy_BS, batch.latency_ms_BS))


def test_requests_take_their_sample_and_bring_their_budget() -> None:
    batch = holed_batch()
    assert torch.isnan(batch.budget_ms_B).all()
    taken = batch.take(torch.tensor([3, 3, 0]), torch.tensor([5.0, 6.0, 7.0]))
    assert len(taken) == 3
    assert taken.sample_B.tolist() == [3, 3, 0]
    assert taken.budget_ms_B.tolist() == [5, 6, 7]
    assert torch.equal(taken.accuracy_BS, batch.accuracy_BS[[3, 3, 0]])
    assert taken.is_measured_BS[:, 4].tolist() == [False, False, True]


def test_a_batch_moves_whole() -> None:
    moved = holed_batch().to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 10
    assert all(tensor.device.type == "meta" for tensor in tensors)
