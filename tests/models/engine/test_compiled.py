"""The compiled engine. Where only what is compiled how often counts, PyTorch runs the captured operations itself."""

from collections.abc import Sequence

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from models.engine import EagerEngine, make_engine
from models.engine.compiled import CompiledEngine
from models.generation import Generation, generate
from models.inputs import ModelInputs, collate
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo
from tests.helpers import IMAGE_CASES, VARIANTS, golden_case, golden_inputs
from tests.small_models import LOGIT_TOLERANCE, golden_model, setting_of, tiny_inputs, tiny_molmo

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


def has_cpp_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def words(length: int) -> ModelInputs:
    return ModelInputs(input_ids=torch.arange(length)[None])


def mixture() -> Molmo:
    return tiny_molmo(num_experts=8, top_k=3, num_blocks=4, qk_norm=True)


def assert_equal(ours: Generation, plain: Generation) -> None:
    assert torch.equal(ours.token_ids, plain.token_ids)
    assert ours.logits is not None
    assert plain.logits is not None
    torch.testing.assert_close(ours.logits, plain.logits, atol=LOGIT_TOLERANCE, rtol=0)


def assert_answers_as_eagerly(
    engine: CompiledEngine, model: Molmo, requests: Sequence[ModelInputs], settings: Sequence[KnobSetting]
) -> None:
    for inputs in requests:
        for setting in settings:
            plain = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True)
            ours = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True, engine=engine)
            assert_equal(ours, plain)


@pytest.mark.slow
@pytest.mark.skipif(not has_cpp_compiler(), reason="needs a C++ compiler")
def test_compiled_code_gives_the_tokens_of_the_reference() -> None:
    model = golden_model("moe")
    engine = CompiledEngine(model)
    tensors = golden_case("moe", "img_landscape").tensors
    inputs = golden_inputs("moe", "img_landscape")
    answer = generate(model, inputs, max_new_tokens=12, keep_logits=True, engine=engine)
    assert_equal(answer, Generation(token_ids=tensors["generated_ids"], logits=tensors["generated_step_logits"]))
    settings = [setting_of(model, top_k=k, blocks=blocks) for k in (2, 5) for blocks in ((0,), (0, 3), (0, 1, 3))]
    assert_answers_as_eagerly(engine, model, [inputs, golden_inputs("moe", "text_only")], settings)


@pytest.mark.parametrize("variant", VARIANTS)
def test_captured_operations_give_the_tokens_of_the_reference(variant: str) -> None:
    model = golden_model(variant)
    engine = CompiledEngine(model, backend="eager")
    requests = {case: golden_inputs(variant, case) for case in (*IMAGE_CASES, "text_only")}
    requests["batch"] = collate([golden_inputs(variant, row) for row in golden_case(variant, "batch").meta["rows"]])
    for case, inputs in requests.items():
        tensors = golden_case(variant, case).tensors
        answer = generate(model, inputs, max_new_tokens=12, keep_logits=True, engine=engine)
        assert_equal(answer, Generation(token_ids=tensors["generated_ids"], logits=tensors["generated_step_logits"]))
    settings = [setting_of(model, top_k=k, blocks=(0, 3)) for k in ((2, 5) if model.config.is_moe else (0,))]
    assert_answers_as_eagerly(engine, model, list(requests.values()), settings)


def test_blocks_settings_lengths_and_batches_share_what_was_compiled_ahead() -> None:
    model = mixture()
    compiled = CompileCounterWithBackend("eager")
    engine = CompiledEngine(model, backend=compiled)
    settings = [
        setting_of(model, top_k=k, blocks=blocks) for k, blocks in [(1, (0, 1)), (5, (0, 3)), (2, (0, 1, 2, 3))]
    ]
    engine.warm_up(settings)
    num_compiled = compiled.frame_count
    # Up to attention for one token and several; from there on likewise, for one expert and several; for many tokens up
    # to the experts; for one crop and several.
    assert num_compiled == 2 + 4 + 1 + 2
    pictures = [tiny_inputs(model.config, num_crops=crops, num_words=crops) for crops in (1, 3)]
    requests = [words(1), words(3), words(16), *pictures, collate(pictures), collate([words(2), words(5)])]
    assert_answers_as_eagerly(engine, model, requests, settings)
    assert compiled.frame_count == num_compiled


def test_levels_with_a_meaning_are_answered_as_eagerly() -> None:
    model = mixture()
    engine = CompiledEngine(model, backend=CompileCounterWithBackend("eager"))
    experts = ExpertCounts(text=(1, 5, 2, 3), vision=(4, 1, 2, 1))
    pictures = [tiny_inputs(model.config, num_crops=crops, num_words=crops) for crops in (1, 3)]
    requests = [words(3), pictures[0], collate(pictures)]
    assert_answers_as_eagerly(engine, model, requests, [setting_of(model, experts=experts)])


@pytest.mark.parametrize("changes", [{"norm_after": True, "qk_norm": True}, {"num_kv_heads": 2, "qkv_bias": True}])
def test_dense_models_of_every_kind_are_answered_as_eagerly(changes: dict[str, bool | int]) -> None:
    model = tiny_molmo(**changes)
    compiled = CompileCounterWithBackend("eager")
    engine = CompiledEngine(model, backend=compiled)
    requests = [tiny_inputs(model.config), words(4), collate([words(2), words(5)])]
    assert_answers_as_eagerly(engine, model, requests, [model.full_setting, setting_of(model, blocks=(1,))])
    assert compiled.frame_count == 2 + 2 + 1


def test_engines_do_not_fill_one_anothers_store_of_compiled_code() -> None:
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for hidden_dim in (32, 48):
            model = tiny_molmo(hidden_dim=hidden_dim)
            engine = CompiledEngine(model, backend="eager")
            assert_answers_as_eagerly(engine, model, [words(3)], [model.full_setting])


def test_without_a_compiler_the_eager_engine_takes_its_place(caplog: pytest.LogCaptureFixture) -> None:
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        engine = make_engine("compiled", tiny_molmo())
    assert isinstance(engine, EagerEngine)
    (message,) = [record.getMessage() for record in caplog.records if record.name == "models.engine.choice"]
    assert message.startswith("engine: compiled cannot compile here (")
    assert message.endswith("), eager takes its place")
    assert "no-such-compiler" in message
