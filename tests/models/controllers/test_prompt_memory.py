from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from models.controllers.llm_based import LLMBased, LLMTwoStage
from models.controllers.prompt_memory import PromptMemory, TierPrompts, join_memories, remember_prompts
from models.controllers.two_stage import TierNetwork
from models.inputs import ModelInputs, collate
from models.molmo import Molmo
from tests.small_models import golden_model, tiny_inputs, tiny_molmo

NUM_FIRST = 2
BUDGET_MS = torch.tensor([40.0, 120.0])


def _model() -> Molmo:
    return tiny_molmo(num_blocks=3).requires_grad_(False)


def _network(model: Molmo, num_first_blocks: int = NUM_FIRST) -> LLMBased:
    torch.manual_seed(3)
    return LLMBased(
        (3, 2), model.config.hidden_dim, num_first_blocks=num_first_blocks, fastest_ms=10.0, slowest_ms=200.0
    )


def _requests(model: Molmo) -> list[ModelInputs]:
    return [tiny_inputs(model.config, num_crops=2), tiny_inputs(model.config, num_crops=1, num_words=3, seed=1)]


def _embedded(model: Molmo, inputs: ModelInputs) -> torch.Tensor:
    return model.embed(inputs, model.encode_images(inputs))


def _remembered(model: Molmo, requests: Sequence[ModelInputs], num_first_blocks: int = NUM_FIRST) -> PromptMemory:
    inputs = collate(requests)
    return remember_prompts(model, inputs, _embedded(model, inputs), num_first_blocks=num_first_blocks)


@pytest.mark.parametrize("kind", ["dense", "moe", "tiny"])
def test_a_budget_token_behind_a_memory_ends_as_one_behind_the_prompt(kind: str) -> None:
    model = _model() if kind == "tiny" else golden_model(kind)
    num_first = NUM_FIRST if kind == "tiny" else 1
    frozen = Molmo(model.config).requires_grad_(False)
    frozen.load_state_dict(model.state_dict())
    network = _network(frozen, num_first)
    words = [torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[11, 12, 13]])]
    requests = _requests(frozen) if kind == "tiny" else [ModelInputs(input_ids=ids) for ids in words]
    inputs = collate(requests)
    expected = network.states(frozen, inputs, _embedded(frozen, inputs), BUDGET_MS).budget
    found = network.states_behind(frozen, _remembered(frozen, requests, num_first), BUDGET_MS)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(network.decide(found), network(frozen, inputs, BUDGET_MS))


def test_half_precision_and_other_padding_hardly_change_a_state() -> None:
    model = _model()
    network, requests = _network(model), _requests(model)
    exact = network.states_behind(model, _remembered(model, requests), BUDGET_MS)
    joined = join_memories([_remembered(model, [request]) for request in requests])
    torch.testing.assert_close(network.states_behind(model, joined, BUDGET_MS), exact)
    halved = network.states_behind(model, joined.to(torch.float16), BUDGET_MS)
    torch.testing.assert_close(halved, exact, atol=5e-3, rtol=5e-3)
    assert not torch.equal(halved, exact)


def test_a_memory_serves_any_number_of_tokens_and_stays_as_it_is() -> None:
    model = _model()
    network, memory = _network(model), _remembered(model, _requests(model))
    before = memory.memory.clone()
    network.states_behind(model, memory, BUDGET_MS).sum().backward()
    second = memory.take(torch.tensor([1, 1, 1]))
    assert second.memory.shape[4] == int(memory.num_tokens_B[1]) < memory.memory.shape[4]
    budgets_ms = torch.tensor([20.0, 120.0, 20.0])
    states = network.states_behind(model, second, budgets_ms)
    torch.testing.assert_close(states[1], network.states_behind(model, memory, BUDGET_MS)[1])
    torch.testing.assert_close(states[0], states[2])
    assert not torch.allclose(states[0], states[1])
    assert torch.equal(memory.memory, before)


def test_the_gradient_is_that_of_running_the_prompts() -> None:
    model = _model()
    inputs = collate(_requests(model))
    gradients = []
    for runs_prompts in (True, False):
        network = _network(model)
        if runs_prompts:
            logits = network(model, inputs, BUDGET_MS)
        else:
            logits = network.decide(network.states_behind(model, _remembered(model, _requests(model)), BUDGET_MS))
        logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_both_stages_are_one_policy_over_the_requests_that_were_taken() -> None:
    model = _model()
    low, high = _requests(model), [replace(request) for request in reversed(_requests(model))]
    prompts = TierPrompts(
        model=model,
        tiers=(_remembered(model, low), _remembered(model, high)),
        row_B=torch.arange(2),
    )
    network = LLMTwoStage(TierNetwork(2, 1, fastest_ms=10.0, slowest_ms=200.0), _network(model))
    remaining_ms = torch.tensor([[30.0, 10.0], [90.0, 80.0], [30.0, 10.0]])
    rows = torch.tensor([1, 0, 1])
    taken = prompts.take(rows)
    log_prob = network(torch.tensor([50.0, 100.0, 50.0]), torch.tensor([[1.0], [2.0], [1.0]]), remaining_ms, taken)
    assert log_prob.shape == (3, 12)
    torch.testing.assert_close(log_prob.exp().sum(dim=1), torch.ones(3))
    torch.testing.assert_close(log_prob[0], log_prob[2])
    tier = network.tier_network(torch.tensor([100.0]), torch.tensor([[2.0]])).log_softmax(dim=-1)
    within = network.setting_network(model, high[0], remaining_ms[1:2, 1]).log_softmax(dim=-1)
    torch.testing.assert_close(log_prob[1, 6:], tier[0, 1] + within[0])
    assert prompts.num_bytes == sum(2 * 2 * 2 * 4 * 8 * 4 * memory.memory.shape[4] for memory in prompts.tiers)
    assert taken.to("cpu") is taken
    moved = taken.to("meta")
    assert (moved.tiers[0].memory.shape[2], moved.tiers[0].memory.device.type, len(moved)) == (3, "meta", 3)


def test_a_memory_of_other_blocks_is_refused() -> None:
    model = _model()
    with pytest.raises(ValueError, match="num_first_blocks: 1 blocks remember, got 2"):
        _network(model).states_behind(model, _remembered(model, _requests(model), 1), BUDGET_MS)
