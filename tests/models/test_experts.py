from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import MolmoConfig
from models.experts import Experts, MoE, Router
from tests.small_models import tiny_config


def mixture(**changes: object) -> tuple[MolmoConfig, MoE]:
    config = tiny_config(**{"num_experts": 6, "top_k": 2, **changes})
    moe = MoE(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return config, moe.eval()


def by_hand(moe: MoE, x_TD: Tensor, top_k: int) -> Tensor:
    """Run all experts on all tokens and keep the likeliest of each token."""
    probability = (x_TD @ moe.router.linear.weight.T).softmax(dim=-1)
    threshold = probability.sort(dim=-1, descending=True).values[:, top_k - 1 : top_k]
    weight = probability * (probability >= threshold)
    gate, up = torch.einsum("efd,td->tef", moe.experts.gate_up, x_TD).chunk(2, dim=-1)
    out = torch.einsum("edf,tef->ted", moe.experts.down, F.silu(gate) * up)
    return torch.einsum("te,ted->td", weight, out)


@pytest.mark.parametrize("top_k", range(1, 7))
def test_any_number_of_experts_equals_the_sum_by_hand(top_k: int) -> None:
    _, moe = mixture()
    x = torch.randn(2, 7, 32)
    with torch.no_grad():
        torch.testing.assert_close(moe(x, top_k), by_hand(moe, x.flatten(0, 1), top_k).view(2, 7, 32))


@pytest.mark.parametrize("num_tokens", [1, 5, 40])
@pytest.mark.parametrize("top_k", [1, 2, 6])
def test_three_ways_to_run_experts_agree(num_tokens: int, top_k: int) -> None:
    _, moe = mixture()
    moe = moe.bfloat16()
    experts = moe.experts
    with torch.no_grad():
        x = torch.randn(num_tokens, 32, dtype=torch.bfloat16)
        weight, chosen = moe.router(x, top_k)
        loop = experts._loop(x, weight, chosen)
        assert experts._can_group(x)
        for run in (experts._gathered, experts._grouped):
            assert (run(x, weight, chosen) - loop).abs().max() < 0.02 * loop.abs().max()


@pytest.mark.parametrize("matches", [False, True])
def test_tokens_with_fewer_experts_are_as_if_run_by_themselves(*, matches: bool) -> None:
    _, moe = mixture(match_router_mass=matches)
    x = torch.randn(1, 8, 32)
    counts = torch.tensor([[3, 1, 1, 3, 2, 1, 3, 1]])
    with torch.no_grad():
        found = moe(x, 3, counts)
        alone = torch.cat([moe(x[:, i : i + 1], int(count)) for i, count in enumerate(counts[0])], dim=1)
    torch.testing.assert_close(found, alone)


def test_experts_that_a_token_is_not_given_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    _, moe = mixture()
    rows: list[int] = []

    def counted(x: Tensor, weight: Tensor) -> Tensor:
        rows.append(len(x))
        return F.linear(x, weight)

    monkeypatch.setattr("models.experts.F", SimpleNamespace(linear=counted, silu=F.silu))
    x, counts = torch.randn(6, 32), torch.tensor([4, 1, 1, 2, 1, 1])
    weight, chosen = moe.router(x, 4, counts)
    rows.clear()
    moe.experts(x, weight, chosen, is_ragged=True)
    assert sum(rows) == 2 * int(counts.sum())  # into the experts, and out of them


def test_groups_leave_out_what_a_token_is_not_given() -> None:
    _, moe = mixture()
    moe = moe.bfloat16()
    x, counts = torch.randn(9, 32, dtype=torch.bfloat16), torch.tensor([4, 1, 1, 2, 1, 1, 3, 4, 1])
    with torch.no_grad():
        weight, chosen = moe.router(x, 4, counts)
        loop = moe.experts._loop(x, weight, chosen)
        grouped = moe.experts._grouped(x, weight, chosen, is_ragged=True)
    assert (grouped - loop).abs().max() < 0.02 * loop.abs().max()


@pytest.mark.parametrize("way", ["_gathered", "_grouped", "_trained"])
def test_every_way_agrees_closely_with_the_loop_in_float32(way: str) -> None:
    _, moe = mixture()
    x = torch.randn(9, 32)
    with torch.no_grad():
        weight, chosen = moe.router(x, 3)
        torch.testing.assert_close(getattr(moe.experts, way)(x, weight, chosen), moe.experts._loop(x, weight, chosen))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("top_k", [1, 3])
def test_training_in_groups_has_the_gradients_of_the_loop(top_k: int, device: str) -> None:
    _, moe = mixture(hidden_dim=64)
    x = torch.randn(50, 64)
    gradient = torch.randn(50, 64)
    found = []
    for dtype, name in ((torch.float32, "_loop"), (torch.bfloat16, "_trained")):
        one = deepcopy(moe).to(device, dtype)
        tokens = x.clone().to(device, dtype).requires_grad_()
        # The same experts for both: nearly equal ones could change places in bfloat16. One expert gets no token.
        weight, _ = one.router(tokens, top_k)
        chosen = moe.router(x, top_k)[1].clamp(max=4).to(device)
        out = getattr(one.experts, name)(tokens, weight, chosen)
        out.backward(gradient.to(device, dtype))
        gradients = [tokens.grad, *(parameter.grad for parameter in one.parameters())]
        found.append([out.detach(), *gradients])
    for exact, rounded in zip(*found, strict=True):
        error = (rounded.float() - exact).norm() / exact.norm()
        assert error < 0.03
    assert not found[1][-1][5].any()


@pytest.mark.parametrize(
    ("dtype", "is_training", "expected"),
    [
        (torch.float32, True, "_trained"),
        (torch.bfloat16, True, "_trained"),
        (torch.float32, False, "_grouped"),
        (torch.bfloat16, False, "_grouped"),
        (torch.float64, True, "_loop"),
        (torch.float64, False, "_loop"),
    ],
)
def test_a_cpu_groups_what_its_library_can(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, is_training: bool, expected: str
) -> None:
    _, moe = mixture()
    moe = moe.to(dtype)
    runs: list[str] = []

    def note(name: str) -> Callable[..., Tensor]:
        def run(x: Tensor, *_: Tensor) -> Tensor:
            runs.append(name)
            return x

        return run

    for name in ("_trained", "_grouped", "_loop"):
        monkeypatch.setattr(moe.experts, name, note(name))
    with torch.set_grad_enabled(is_training):
        moe(torch.randn(1, 4, 32, dtype=dtype), 2)
    assert runs == [expected]


def test_shapes_that_are_not_aligned_are_not_grouped() -> None:
    _, aligned = mixture()
    _, odd = mixture(ffn_dim=30)
    assert aligned.experts._can_group(torch.empty(1, 32))
    assert not odd.experts._can_group(torch.empty(1, 32))
    assert not odd.experts._can_group(torch.empty(1, 32, dtype=torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.parametrize("num_tokens", [1, 4, 300])
def test_every_way_on_a_gpu_agrees_with_the_cpu(num_tokens: int) -> None:
    _, moe = mixture(hidden_dim=64, ffn_dim=48)
    moe = moe.bfloat16()
    x = torch.randn(num_tokens, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        weight, chosen = moe.router(x, 2)
        expected = moe.experts._loop(x, weight, chosen).float()
        on_gpu = moe.experts.cuda()
        arguments = (x.cuda(), weight.cuda(), chosen.cuda())
        for run in (on_gpu, on_gpu._loop, on_gpu._gathered, on_gpu._grouped):
            error = (run(*arguments).float().cpu() - expected).abs().max()
            assert error < 0.02 * expected.abs().max()


def test_experts_that_no_token_chooses_get_no_gradient() -> None:
    _, moe = mixture()
    x = torch.randn(3, 32)
    weight, chosen = torch.full((3, 2), 0.5), torch.tensor([[1, 4], [4, 1], [1, 4]])
    moe.experts(x, weight, chosen).square().sum().backward()
    gradient = moe.experts.gate_up.grad
    assert gradient is not None
    assert gradient.flatten(1).abs().sum(dim=1).nonzero().flatten().tolist() == [1, 4]


def router_of(logits: list[float], **changes: object) -> tuple[Router, Tensor]:
    """Build a router that gives a token of ones these logits."""
    router = Router(tiny_config(hidden_dim=4, num_heads=1, num_experts=len(logits), **changes))
    with torch.no_grad():
        router.linear.weight.copy_(torch.tensor(logits)[:, None].expand(-1, 4) / 4)
    return router, torch.ones(1, 4)


# A softmax of these is 0.1, 0.4, 0.2, 0.3.
LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().tolist()


def test_weights_are_a_softmax_over_all_experts_not_renormalised() -> None:
    router, x = router_of(LOGITS, top_k=2)
    weight, expert = router(x, 3)
    assert expert.tolist() == [[1, 3, 2]]
    torch.testing.assert_close(weight, torch.tensor([[0.4, 0.3, 0.2]]))


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, [0.7]), (2, [0.4, 0.3]), (3, [0.4 * 7 / 9, 0.3 * 7 / 9, 0.2 * 7 / 9])]
)
def test_matched_weights_sum_to_what_the_trained_top_k_would_have(top_k: int, expected: list[float]) -> None:
    router, x = router_of(LOGITS, top_k=2, match_router_mass=True)
    weight, _ = router(x, top_k)
    torch.testing.assert_close(weight, torch.tensor([expected]))


def test_matching_leaves_the_trained_top_k_bit_for_bit() -> None:
    _, plain = mixture()
    _, matched = mixture(match_router_mass=True)
    x = torch.randn(1, 9, 32)
    assert torch.equal(plain(x, 2), matched(x, 2))
    assert not torch.allclose(plain(x, 4), matched(x, 4))


def test_routing_is_in_float32_whatever_the_weights_are() -> None:
    router, x = router_of(LOGITS, top_k=2)
    weight, _ = router.bfloat16()(x.bfloat16(), 4)
    assert weight.dtype == torch.bfloat16
    assert weight.float().sum().item() == pytest.approx(1, abs=0.005)


def test_experts_hold_stacked_weights() -> None:
    config, moe = mixture()
    experts: Experts = moe.experts
    assert experts.gate_up.shape == (6, 2 * config.ffn_dim, 32)
    assert experts.down.shape == (6, 32, config.ffn_dim)
