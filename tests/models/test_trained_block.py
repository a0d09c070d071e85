import pytest
import torch
from torch._dynamo.utils import counters

from models.language_model import Block, Rotary, Shared
from models.trained_block import Routing, TrainedBlock
from tests.small_models import tiny_config, tiny_molmo

MIXTURE = {"num_experts": 6, "top_k": 2, "num_blocks": 3, "qk_norm": True}


def shared_of(length: int, top_k: int) -> Shared:
    angles = Rotary(tiny_config(**MIXTURE))(torch.arange(length)[None])
    return Shared(angles=angles, mask=None, cache=None, top_k=top_k)


@pytest.mark.parametrize("changes", [MIXTURE, {"qkv_bias": True}, {"norm_after": True}])
def test_a_block_is_run_as_it_runs_itself(changes: dict[str, int]) -> None:
    block = tiny_molmo(**changes).language_model.blocks[1]
    x, shared = torch.randn(2, 7, 32), shared_of(7, 3)
    routing: list[Routing] = []
    assert isinstance(block, Block)
    torch.testing.assert_close(TrainedBlock()(routing, block, x, shared, 0), block(x, shared, 0))
    assert len(routing) == ("num_experts" in changes)


def test_what_the_router_did_is_kept() -> None:
    block = tiny_molmo(**MIXTURE).language_model.blocks[0]
    routing: list[Routing] = []
    TrainedBlock()(routing, block, torch.randn(2, 5, 32), shared_of(5, 3), 0)
    (step,) = routing
    assert step.logits.shape == (10, 6)
    assert torch.equal(step.chosen, step.logits.topk(3).indices)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at it
def test_compiled_parts_are_whole_graphs_that_all_blocks_lengths_and_settings_share() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, run = tiny_molmo(**MIXTURE).language_model, TrainedBlock()
    run.compile(backend="eager")
    for length, top_k in ((7, 3), (9, 2), (16, 4), (5, 1), (11, 1), (6, 3)):
        x, shared = torch.randn(4, length, 32, requires_grad=True), shared_of(length, top_k)
        expected = seen = x
        for slot, block in enumerate(model.blocks):
            expected = block(expected, shared, slot)
            seen = run([], block, seen, shared, slot)
        torch.testing.assert_close(seen, expected)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 3  # two parts, the second once more for a single expert
    torch._dynamo.reset()
