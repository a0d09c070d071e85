from collections.abc import Callable

import pytest
import torch

from models.engine import EagerEngine, Engine, EngineName
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.contestants import Ours, Prepared, draw_crops, draw_prompt, draw_request
from tests.small_models import setting_of, tiny_molmo

CPU = torch.device("cpu")


def model_and_setting() -> tuple[Molmo, KnobSetting]:
    model = tiny_molmo(num_blocks=3, num_experts=6, top_k=2, qk_norm=True)
    return model, setting_of(model, top_k=3, blocks=(0, 2))


def test_prefill_and_decode_give_the_logits_of_one_pass() -> None:
    model, setting = model_and_setting()
    contestant = Ours(model, engine="eager")
    prompt = draw_prompt(model.config, 9, CPU)
    with torch.inference_mode():
        expected = model(ModelInputs(input_ids=prompt), setting=setting)
    torch.testing.assert_close(contestant.prefill(9, setting).run(), expected[:, -1], atol=1e-5, rtol=1e-5)
    token = draw_prompt(model.config, 1, CPU)
    with torch.inference_mode():
        expected = model(ModelInputs(input_ids=torch.cat([prompt, token], dim=1)), setting=setting)
    torch.testing.assert_close(contestant.decode(9, setting).run(), expected[:, -1], atol=1e-5, rtol=1e-5)


def test_a_decode_step_is_the_same_after_each_reset() -> None:
    model, setting = model_and_setting()
    step = Ours(model, engine="eager").decode(5, setting)
    answers = []
    for _ in range(4):
        step.reset()
        answers.append(step.run())
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_request_keeps_every_token_of_its_crops() -> None:
    model, setting = model_and_setting()
    inputs = draw_request(model.config, num_crops=2, text_tokens=3, device=CPU)
    vision_tokens = 2 * model.config.tokens_per_crop
    assert inputs.num_crops.tolist() == [2]
    assert inputs.num_vision_tokens.tolist() == [vision_tokens]
    assert inputs.num_tokens.tolist() == [vision_tokens + 3]
    assert Ours(model, engine="eager").request(inputs, 4, setting).run().shape == (1, 4)


def test_a_request_of_no_crops_has_no_image() -> None:
    model, _ = model_and_setting()
    inputs = draw_request(model.config, num_crops=0, text_tokens=3, device=CPU)
    assert inputs.crops is None
    assert inputs.input_ids.shape == (1, 3)


def test_vision_runs_the_encoder_on_the_drawn_crops() -> None:
    model, _ = model_and_setting()
    contestant = Ours(model, engine="eager")
    with torch.inference_mode():
        expected = model.vision_encoder(draw_crops(model.config, 3, CPU))
    assert torch.equal(contestant.vision(3).run(), expected)
    assert contestant.unavailable(CPU) is None
    contestant.release()


def test_graphs_are_left_out_where_there_is_no_gpu() -> None:
    model, _ = model_and_setting()
    assert Ours(model, engine="graph").unavailable(CPU) == "needs a CUDA device, got cpu"


def test_an_engine_whose_place_the_eager_one_takes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiling.bench.contestants.make_engine", lambda _, model: EagerEngine(model))
    model, _ = model_and_setting()
    assert Ours(model, engine="compiled").unavailable(CPU) == "cannot run here, the log says why"


def test_recorded_kernels_give_what_the_modules_give(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from models.engine.graph import GraphEngine  # noqa: PLC0415 (needs Triton)
    from tests.engine_models import DEVICE, TILES  # noqa: PLC0415 (needs Triton)

    def make(name: EngineName, model: Molmo) -> Engine:
        # Where there is no GPU, a replay is another call.
        record = None if DEVICE == "cuda" else (lambda call: call)
        return EagerEngine(model) if name == "eager" else GraphEngine(model, capacity=64, tiles=TILES, record=record)

    monkeypatch.setattr("profiling.bench.contestants.make_engine", make)
    model, setting = model_and_setting()
    model = model.to(DEVICE)
    eager, graph = Ours(model, engine="eager"), Ours(model, engine="graph")
    inputs = draw_request(model.config, num_crops=2, text_tokens=3, device=torch.device(DEVICE))
    stages: list[Callable[[Ours], Prepared]] = [
        lambda contestant: contestant.decode(9, setting),
        lambda contestant: contestant.decode(5, setting),
        lambda contestant: contestant.prefill(9, setting),
        lambda contestant: contestant.vision(2),
    ]
    for stage in stages:
        ours, theirs = stage(graph), stage(eager)
        for _ in range(2):
            ours.reset()
            theirs.reset()
            torch.testing.assert_close(ours.run(), theirs.run(), atol=1e-5, rtol=1e-5)
    assert torch.equal(graph.request(inputs, 4, setting).run(), eager.request(inputs, 4, setting).run())
