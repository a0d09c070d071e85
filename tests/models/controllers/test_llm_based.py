from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from models.controllers.llm_based import LLMBased, remaining_blocks
from models.engine.graph import GraphEngine
from models.engine.recording import CudaGraphs
from models.generation import generate
from models.inputs import ModelInputs, collate
from models.knobs import STANDARD_TIERS, KnobGrid
from models.kv_cache import KVCache
from models.molmo import Molmo, token_positions
from tests.engine_models import DEVICE, TILES, mixture, prompt
from tests.small_models import golden_model, setting_of, tiny_inputs, tiny_molmo

NUM_FIRST = 2
BUDGET_MS = torch.tensor([60.0])


def _frozen(num_blocks: int = 4) -> Molmo:
    return tiny_molmo(num_blocks=num_blocks).requires_grad_(False)


def _network(model: Molmo, num_first_blocks: int = NUM_FIRST) -> LLMBased:
    return LLMBased(
        (3, 2), model.config.hidden_dim, num_first_blocks=num_first_blocks, fastest_ms=10.0, slowest_ms=200.0
    )


def _embedded(model: Molmo, inputs: ModelInputs) -> torch.Tensor:
    return model.embed(inputs, model.encode_images(inputs))


def test_the_remaining_blocks_go_on_as_if_there_had_been_no_budget_token() -> None:
    model = _frozen()
    inputs = tiny_inputs(model.config)
    states = _network(model).states(model, inputs, _embedded(model, inputs), BUDGET_MS)
    hidden = model.language_model.run_blocks(states.prompt, token_positions(inputs), active_blocks=(2, 3), top_k=0)
    logits = model.language_model.head(model.language_model.norm(hidden))
    torch.testing.assert_close(logits, model(inputs))


def test_the_next_token_takes_the_budget_tokens_place_in_the_cache() -> None:
    model = _frozen()
    inputs = tiny_inputs(model.config)
    length = inputs.input_ids.shape[1]
    cache = KVCache.allocate(
        model.config, num_slots=4, batch_size=1, capacity=length + 2, device=torch.device("cpu"), dtype=torch.float32
    )
    language_model = model.language_model
    with torch.no_grad():
        states = _network(model).states(model, inputs, _embedded(model, inputs), BUDGET_MS, cache=cache)
        language_model.run_blocks(
            states.prompt, token_positions(inputs), active_blocks=(2, 3), top_k=0, cache=cache, first_slot=NUM_FIRST
        )
        cache.advance(length)
        word = torch.tensor([[7]])
        hidden = language_model(
            language_model.embed(word), torch.tensor([[length]]), active_blocks=range(4), top_k=0, cache=cache
        )
        longer = replace(inputs, input_ids=torch.cat([inputs.input_ids, word], dim=1))
        torch.testing.assert_close(language_model.head(hidden)[:, -1], model(longer)[:, -1])


@pytest.mark.parametrize("blocks", [(0, 1), (0, 1, 3), (0, 1, 2, 3)])
def test_an_engine_goes_on_from_what_the_first_blocks_have_begun(blocks: tuple[int, ...]) -> None:
    model = _frozen()
    inputs = tiny_inputs(model.config)
    setting = setting_of(model, blocks=blocks)
    with torch.inference_mode():
        vision_tokens = model.encode_images(inputs)
        network = _network(model)
        begun, state = network.begin(model, inputs, vision_tokens, BUDGET_MS)
        torch.testing.assert_close(network.decide(state), network(model, inputs, BUDGET_MS))
    wanted = generate(model, inputs, setting=setting, max_new_tokens=6, keep_logits=True)
    found = generate(model, inputs, setting=setting, max_new_tokens=6, keep_logits=True, begun=begun)
    assert torch.equal(found.token_ids, wanted.token_ids)
    assert wanted.logits is not None
    assert found.logits is not None
    torch.testing.assert_close(found.logits, wanted.logits)


def test_the_graph_engine_runs_the_first_blocks_again_and_answers_as_if_nothing_had_begun() -> None:
    model = deepcopy(mixture()).requires_grad_(False)
    record = CudaGraphs(torch.device(DEVICE)) if DEVICE == "cuda" else lambda call: call
    engine = GraphEngine(model, capacity=24, tiles=TILES, record=record)
    inputs, setting = prompt(), setting_of(model, top_k=1)
    with torch.inference_mode():
        begun, _ = _network(model, num_first_blocks=1).begin(model, inputs, None, BUDGET_MS)
    wanted = generate(model, inputs, setting=setting, max_new_tokens=2).token_ids
    found = generate(model, inputs, setting=setting, max_new_tokens=2, engine=engine, begun=begun).token_ids
    assert torch.equal(found, wanted)


def test_padding_changes_no_decision() -> None:
    model = _frozen()
    network = _network(model)
    requests = [tiny_inputs(model.config, num_crops=2), tiny_inputs(model.config, num_crops=1, num_words=3, seed=1)]
    budget_ms = torch.tensor([40.0, 120.0])
    together = network(model, collate(requests), budget_ms)
    alone = [network(model, request, budget_ms[i : i + 1]) for i, request in enumerate(requests)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_budget_and_prompt_change_the_decision() -> None:
    model = _frozen()
    network = _network(model)
    one, other = tiny_inputs(model.config, seed=0), tiny_inputs(model.config, seed=1)
    logits = network(model, one, BUDGET_MS)
    assert logits.shape == (1, 6)
    assert not torch.allclose(logits, network(model, one, 2 * BUDGET_MS))
    assert not torch.allclose(logits, network(model, other, BUDGET_MS))


@pytest.mark.parametrize("variant", ["moe", "dense"])
def test_gradients_reach_the_embedding_and_the_head_and_nothing_of_the_model(variant: str) -> None:
    model = deepcopy(golden_model(variant)).requires_grad_(False)
    network = _network(model, num_first_blocks=1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    inputs = ModelInputs(input_ids=torch.tensor([[5, 6, 7]]))
    network(model, inputs, BUDGET_MS)[0, 0].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert network.embedding.weight.grad is not None
    assert float(network.embedding.weight.grad.abs().max()) > 0


def test_the_model_is_no_part_of_the_network() -> None:
    model = _frozen()
    assert {name.split(".")[0] for name in _network(model).state_dict()} == {"budget", "embedding", "trunk", "head"}


def test_a_model_that_learns_is_refused() -> None:
    model = tiny_molmo()
    with pytest.raises(ValueError, match="the model must be frozen"):
        _network(model)(model, tiny_inputs(model.config), BUDGET_MS)


def test_more_first_blocks_than_the_model_has_are_refused() -> None:
    model = _frozen(2)
    with pytest.raises(ValueError, match="num_first_blocks: the model has 2, got 3"):
        _network(model, num_first_blocks=3)(model, tiny_inputs(model.config), BUDGET_MS)
    with pytest.raises(ValueError, match="num_first_blocks: must be 1 or more, got 0"):
        _network(model, num_first_blocks=0)


def test_the_remaining_blocks_are_those_behind_the_first() -> None:
    grid = KnobGrid(tiers=STANDARD_TIERS, top_k=(0,), blocks_by_count={2: (0, 1), 4: (0, 1, 3, 5)})
    assert remaining_blocks(grid, 2) == ((), (3, 5))
    with pytest.raises(ValueError, match=r"blocks_by_count\[2\]: must begin with the first 3, got \(0, 1\)"):
        remaining_blocks(grid, 3)
