import torch

from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.contestants import OursEager, draw_crops, draw_prompt, draw_request
from tests.small_models import setting_of, tiny_molmo

CPU = torch.device("cpu")


def model_and_setting() -> tuple[Molmo, KnobSetting]:
    model = tiny_molmo(num_blocks=3, num_experts=6, top_k=2, qk_norm=True)
    return model, setting_of(model, top_k=3, blocks=(0, 2))


def test_prefill_and_decode_give_the_logits_of_one_pass() -> None:
    model, setting = model_and_setting()
    contestant = OursEager(model)
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
    step = OursEager(model).decode(5, setting)
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
    assert OursEager(model).request(inputs, 4, setting).run().shape == (1, 4)


def test_vision_runs_the_encoder_on_the_drawn_crops() -> None:
    model, _ = model_and_setting()
    contestant = OursEager(model)
    with torch.inference_mode():
        expected = model.vision_encoder(draw_crops(model.config, 3, CPU))
    assert torch.equal(contestant.vision(3).run(), expected)
    assert contestant.unavailable(CPU) is None
    contestant.release()
