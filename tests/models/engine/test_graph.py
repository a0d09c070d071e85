"""The graph engine, whose recorded steps run anew through Triton's interpreter where there is no GPU."""

import threading
from copy import deepcopy

import pytest
import torch

from models.engine.fused_decode import Workspace
from models.engine.fused_prefill import FusedPrefill
from models.engine.graph import GraphEngine
from models.engine.recording import Call, CudaGraphs
from models.generation import Generation, Sampling, encode_images, generate, glance_at
from models.image_processor import Overview
from models.inputs import ModelInputs, collate
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo
from tests.engine_models import DEVICE, TILES, mixture, prompt
from tests.small_models import setting_of, tiny_inputs, tiny_molmo

# On a GPU prompts are recorded in bfloat16 only; the tests' model is of float32.
RECORDS_PROMPTS = int(DEVICE != "cuda")


class Recorder:
    """Stands in for CUDA's recording: a replay is another call. Counts both, and fails when told to."""

    def __init__(self) -> None:
        self.num_recorded = 0
        self.num_replays = 0
        self.fails_at = -1
        self._graphs = CudaGraphs(torch.device(DEVICE)) if DEVICE == "cuda" else None

    def __call__(self, call: Call) -> Call:
        self.num_recorded += 1
        replay = self._graphs(call) if self._graphs else call

        def counted() -> None:
            self.num_replays += 1
            if self.num_replays == self.fails_at:
                raise RuntimeError("the device was lost")
            replay()

        return counted


@pytest.fixture
def model() -> Molmo:
    return mixture()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(model: Molmo, recorder: Recorder) -> GraphEngine:
    return GraphEngine(model, capacity=24, tiles=TILES, record=recorder)


def assert_equal(ours: Generation, plain: Generation) -> None:
    assert torch.equal(ours.token_ids, plain.token_ids)
    assert ours.logits is not None
    assert plain.logits is not None
    torch.testing.assert_close(ours.logits, plain.logits, atol=1e-4, rtol=0)


def test_requests_of_several_settings_are_answered_as_eagerly(
    model: Molmo, engine: GraphEngine, recorder: Recorder
) -> None:
    settings = [setting_of(model, top_k=k, blocks=blocks) for k, blocks in [(3, (0, 1, 2)), (1, (0, 3)), (3, (0, 3))]]
    for turn, setting in enumerate([*settings, *settings]):
        inputs = prompt(4 + turn, seed=turn)
        plain = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True)
        assert_equal(generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True, engine=engine), plain)
    # The steps of three settings, and in prefills: three blocks with three experts, two with one, one more with three.
    assert recorder.num_recorded == 3 + (3 + 2 + 1) * RECORDS_PROMPTS


def test_pictures_of_several_sizes_are_answered_as_eagerly(recorder: Recorder) -> None:
    model = tiny_molmo(num_experts=4, top_k=2, qk_norm=True).to(DEVICE)
    engine = GraphEngine(model, capacity=24, tiles=TILES, record=recorder)
    for num_crops in (2, 1, 2):
        inputs = tiny_inputs(model.config, num_crops=num_crops, seed=num_crops).to(DEVICE)
        plain = generate(model, inputs, max_new_tokens=3, keep_logits=True)
        assert_equal(generate(model, inputs, max_new_tokens=3, keep_logits=True, engine=engine), plain)
    # The step, two blocks of prefills, and two modules for two numbers of crops.
    assert recorder.num_recorded == 1 + 2 * RECORDS_PROMPTS + 2 * 2


def test_pictures_whose_overview_is_encoded_first_are_encoded_as_eagerly(recorder: Recorder) -> None:
    model = tiny_molmo(num_experts=4, top_k=2, qk_norm=True).to(DEVICE)
    engine = GraphEngine(model, capacity=24, tiles=TILES, record=recorder)
    for num_crops in (2, 3):  # in the memory of one crop, two encodings follow each other
        inputs = tiny_inputs(model.config, num_crops=num_crops, seed=num_crops).to(DEVICE)
        assert inputs.crops is not None
        assert inputs.patch_mask is not None
        overview = Overview(pixels=torch.empty(0), crop=inputs.crops[0, 0], patch_mask=inputs.patch_mask[0, 0])
        glance = glance_at(model, overview, engine=engine)
        torch.testing.assert_close(glance, glance_at(model, overview), atol=1e-4, rtol=0)
        found = encode_images(model, inputs, engine=engine, glance=glance)
        torch.testing.assert_close(found, encode_images(model, inputs), atol=1e-4, rtol=0)
    # The step; one crop and two through the vision encoder, one to three through the connector.
    assert recorder.num_recorded == 1 + 2 + 3


def test_levels_with_a_meaning_are_answered_as_eagerly(recorder: Recorder) -> None:
    model = tiny_molmo(num_experts=4, top_k=2, qk_norm=True).to(DEVICE)
    engine = GraphEngine(model, capacity=24, tiles=TILES, record=recorder)
    inputs = tiny_inputs(model.config, num_crops=2, seed=1).to(DEVICE)
    answers = []
    for experts in (None, ExpertCounts(text=(4, 1), vision=(1, 1)), ExpertCounts(text=(4, 1), vision=(4, 1))):
        setting = setting_of(model, experts=experts)
        plain = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True)
        ours = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True, engine=engine)
        assert_equal(ours, plain)
        answers.append(ours.logits)
    assert answers[1] is not None
    assert answers[2] is not None
    assert not torch.equal(answers[1], answers[2])
    # Steps of two settings (the last two differ for vision tokens only), two modules for the crops, and blocks of
    # prefills: two uniform ones, two of the second setting, and one of the third, whose other block is the second's.
    assert recorder.num_recorded == 2 + 2 + (2 + 2 + 1) * RECORDS_PROMPTS


def test_settings_are_recorded_ahead(model: Molmo, engine: GraphEngine, recorder: Recorder) -> None:
    setting = setting_of(model, blocks=(0,))
    engine.warm_up([setting, setting])
    # The step, the block of prefills, and two modules for each number of crops, the overview among them.
    num_recorded = 1 + RECORDS_PROMPTS + 2 * (1 + model.config.max_crops)
    assert recorder.num_recorded == num_recorded
    for inputs in (prompt(), *(tiny_inputs(model.config, num_crops=crops).to(DEVICE) for crops in (2, 4))):
        plain = generate(model, inputs, setting=setting, max_new_tokens=2, keep_logits=True)
        assert_equal(generate(model, inputs, setting=setting, max_new_tokens=2, keep_logits=True, engine=engine), plain)
    assert recorder.num_recorded == num_recorded


def test_an_answer_ends_with_its_stop_token_and_one_step_runs_in_vain(
    model: Molmo, engine: GraphEngine, recorder: Recorder
) -> None:
    setting = setting_of(model, blocks=(0, 1))
    free = generate(model, prompt(), setting=setting, max_new_tokens=5).token_ids[0].tolist()
    stop = next(token for index, token in enumerate(free) if index >= 1 and token not in free[:index])
    end = free.index(stop)
    stopped = generate(model, prompt(), setting=setting, max_new_tokens=5, stop_token_ids=[stop], engine=engine)
    assert stopped.token_ids[0].tolist() == free[: end + 1]
    assert recorder.num_replays == 2 * RECORDS_PROMPTS + min(end + 1, 4)  # the prompt's blocks, and the steps


def test_drawn_tokens_are_those_of_the_eager_engine(model: Molmo, engine: GraphEngine) -> None:
    setting = setting_of(model, blocks=(0,))
    sampling = Sampling(temperature=1.3, top_p=0.9, seed=7)
    plain = generate(model, prompt(), setting=setting, max_new_tokens=4, sampling=sampling)
    drawn = generate(model, prompt(), setting=setting, max_new_tokens=4, sampling=sampling, engine=engine)
    assert torch.equal(drawn.token_ids, plain.token_ids)
    assert not torch.equal(drawn.token_ids, generate(model, prompt(), setting=setting, max_new_tokens=4).token_ids)


@pytest.mark.parametrize(
    ("inputs", "max_new_tokens", "said"),
    [
        (collate([prompt(3), prompt(5)]), 3, "engine: a batch of several requests runs eagerly"),
        (prompt(22), 3, "engine: a request of more than 24 tokens runs eagerly"),
    ],
)
def test_what_has_no_room_runs_eagerly_and_that_is_said_once(
    model: Molmo,
    engine: GraphEngine,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    *,
    inputs: ModelInputs,
    max_new_tokens: int,
    said: str,
) -> None:
    plain = generate(model, inputs, max_new_tokens=max_new_tokens, keep_logits=True)
    for _ in range(2):
        assert_equal(generate(model, inputs, max_new_tokens=max_new_tokens, keep_logits=True, engine=engine), plain)
    assert caplog.messages == [said]
    assert recorder.num_recorded == 0


@pytest.mark.parametrize("fails_at", [2, 3])  # in the prompt's second block or the second step, in a step
def test_an_error_in_the_middle_of_a_request_does_not_harm_the_next(
    model: Molmo, engine: GraphEngine, recorder: Recorder, fails_at: int
) -> None:
    setting = setting_of(model, blocks=(0, 2))
    recorder.fails_at = fails_at
    with pytest.raises(RuntimeError, match="the device was lost"):
        generate(model, prompt(9, seed=1), setting=setting, max_new_tokens=4, engine=engine)
    plain = generate(model, prompt(), setting=setting, max_new_tokens=3, keep_logits=True)
    assert_equal(generate(model, prompt(), setting=setting, max_new_tokens=3, keep_logits=True, engine=engine), plain)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@torch.inference_mode()
def test_recorded_prompts_of_mixed_settings_give_what_the_same_kernels_give_unrecorded() -> None:
    model = deepcopy(mixture()).to(torch.bfloat16)
    engine = GraphEngine(model, capacity=24, tiles=TILES)
    unrecorded = FusedPrefill(model, Workspace.allocate(model, capacity=24), lambda call: call)
    settings = [setting_of(model, top_k=k, blocks=blocks) for k, blocks in [(3, (0, 1, 2)), (1, (0, 3)), (3, (0, 3))]]
    for turn, setting in enumerate(settings * 4):
        inputs = prompt(1 + 7 * turn % 24, seed=turn)
        x = model.embed(inputs, None)
        with engine.request(setting, batch_size=1, capacity=24) as request:
            request.prefill(inputs, x)
            assert torch.equal(request.logits, unrecorded.run(x[0], setting).float())


def test_threads_wait_for_one_another(model: Molmo, engine: GraphEngine) -> None:
    settings = [setting_of(model, top_k=2, blocks=(0,)), setting_of(model, top_k=5, blocks=(0, 3))]
    answers: dict[int, torch.Tensor] = {}

    def answer(index: int, setting: KnobSetting) -> None:
        torch.set_num_threads(1)
        inputs = prompt(5, seed=index)
        answers[index] = generate(model, inputs, setting=setting, max_new_tokens=3, engine=engine).token_ids

    threads = [threading.Thread(target=answer, args=(i, settings[i % 2])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        plain = generate(model, prompt(5, seed=index), setting=settings[index % 2], max_new_tokens=3)
        assert torch.equal(answers[index], plain.token_ids)


def test_a_model_that_the_kernels_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="graph cannot run a model with a dense feed-forward layer, choose eager"):
        GraphEngine(tiny_molmo())


def test_an_engine_made_in_inference_mode_works_outside_of_it(model: Molmo, recorder: Recorder) -> None:
    setting = setting_of(model, blocks=(0,))
    with torch.inference_mode():
        engine = GraphEngine(model, capacity=24, tiles=TILES, record=recorder)
    engine.warm_up([setting])
    plain = generate(model, prompt(), setting=setting, max_new_tokens=2)
    ours = generate(model, prompt(), setting=setting, max_new_tokens=2, engine=engine)
    assert torch.equal(ours.token_ids, plain.token_ids)
