from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import Contestant, LeftOut, Ours, Prepared, draw_request
from profiling.bench.stock import stock_language_model
from profiling.bench.stock_contestants import Stock, StockCompiled
from tests.small_models import LOGIT_TOLERANCE, setting_of, tiny_config, tiny_molmo

CPU = torch.device("cpu")
SETTINGS = ((2, (0, 1, 2)), (3, (0, 2)), (1, (1,)))


def square_molmo(**changes: Any) -> Molmo:
    vision = replace(tiny_config().vision, image_size=(20, 20))
    return tiny_molmo(vision=vision, num_blocks=3, num_experts=6, top_k=2, qk_norm=True, **changes)


@pytest.fixture
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what would be compiled as it is, so that everything but CUDA graphs is tested here."""

    def same(fn: Callable[..., Any], *, mode: str, dynamic: bool) -> Callable[..., Any]:
        assert mode == "reduce-overhead"
        assert not dynamic
        return fn

    monkeypatch.setattr("torch.compile", same)
    monkeypatch.setattr("torch.compiler.cudagraph_mark_step_begin", lambda: None)


def stages(contestant: Contestant, model: Molmo, setting: KnobSetting) -> list[Prepared]:
    inputs = draw_request(model.config, num_crops=2, text_tokens=3, device=CPU)
    return [
        contestant.prefill(7, setting),
        contestant.decode(9, setting),
        contestant.vision(2),
        contestant.request(inputs, 4, setting),
    ]


@pytest.mark.usefixtures("_uncompiled")
@pytest.mark.parametrize(("top_k", "blocks"), SETTINGS)
@pytest.mark.parametrize("kind", ["eager", "grouped_mm", "batched_mm", "compiled"])
def test_every_stage_of_stock_computes_what_ours_does(kind: str, top_k: int, blocks: tuple[int, ...]) -> None:
    model = square_molmo()
    setting = setting_of(model, top_k=top_k, blocks=blocks)
    stock = StockCompiled(model, experts="grouped_mm") if kind == "compiled" else Stock(model, experts=kind)
    expected = stages(Ours(model, engine="eager"), model, setting)
    for ours, theirs in zip(expected, stages(stock, model, setting), strict=True):
        answer = ours.run()
        for _ in range(3):
            theirs.reset()
            torch.testing.assert_close(theirs.run(), answer, atol=LOGIT_TOLERANCE, rtol=1e-4)
    stock.release()


def test_a_stock_model_has_no_weights_of_its_own() -> None:
    model = square_molmo()
    stock = stock_language_model(model, setting_of(model, blocks=(0, 2)), experts="eager")
    ours = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert {parameter.untyped_storage().data_ptr() for parameter in stock.parameters()} <= ours
    assert not any(parameter.is_meta for parameter in (*stock.parameters(), *stock.buffers()))


@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
def test_the_experts_implementation_is_the_one_asked_for(experts: str) -> None:
    model = square_molmo()
    stock = stock_language_model(model, model.full_setting, experts=experts)
    layer: Any = stock.get_submodule("model.layers.0.mlp.experts")
    assert layer.config._experts_implementation == experts


def test_cuda_graphs_need_a_gpu() -> None:
    reason = StockCompiled(square_molmo(), experts="grouped_mm").unavailable(CPU)
    assert reason == "reduce-overhead is CUDA graphs, which need a CUDA device"
    assert StockCompiled(square_molmo(), experts="grouped_mm").unavailable(torch.device("cuda")) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_experts": 0, "top_k": 0}, "this model is dense"),
        ({"qk_norm": False}, "norms queries and keys"),
        ({"match_router_mass": True}, "no matched router mass"),
    ],
)
def test_other_language_models_are_left_out(changes: dict[str, Any], reason: str) -> None:
    model = tiny_molmo(**{"num_experts": 6, "top_k": 2, "qk_norm": True, **changes})
    assert reason in str(Stock(model, experts="eager").unavailable(CPU))


def test_other_vision_encoders_are_left_out() -> None:
    oblong = tiny_molmo(num_experts=6, top_k=2, qk_norm=True)
    with pytest.raises(LeftOut, match=r"takes square crops, and this model's are \(20, 12\)"):
        Stock(oblong, experts="eager").vision(1)
    narrow = square_molmo()
    narrow.config = replace(narrow.config, vision=replace(narrow.config.vision, head_dim=4))
    with pytest.raises(LeftOut, match="heads are as wide together as the encoder"):
        Stock(narrow, experts="eager").vision(1)


def test_batched_experts_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiling.bench.stock_contestants._free_bytes", lambda _: 10**6)
    model = square_molmo()
    # 1000 tokens x 2 experts x 3 matrices of 48 x 32 numbers of 4 bytes.
    with pytest.raises(LeftOut, match="copies 37 MB of expert weights here, 1 MB are free"):
        Stock(model, experts="batched_mm").prefill(1000, model.full_setting)
    Stock(model, experts="batched_mm").prefill(10, model.full_setting)
    Stock(model, experts="grouped_mm").prefill(1000, model.full_setting)


def test_what_cannot_be_compiled_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise TorchDynamoException("no such graph\nmore lines")

    monkeypatch.setattr("torch.compile", lambda _, **__: fails)
    monkeypatch.setattr("torch.compiler.cudagraph_mark_step_begin", lambda: None)
    model = square_molmo()
    step = StockCompiled(model, experts="grouped_mm").decode(3, model.full_setting)
    with pytest.raises(LeftOut, match=r"^torch.compile failed: no such graph$"):
        step.run()
