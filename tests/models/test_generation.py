import threading
from collections import Counter
from typing import Any

import pytest
import torch

from models.generation import Generation, Sampling, encode_images, generate, glance_at
from models.inputs import ModelInputs, collate
from models.knobs import STANDARD_TIERS, KnobSetting, Tier
from models.kv_cache import KVCache
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.stages import observe
from tests.helpers import (
    IMAGE_CASES,
    VARIANTS,
    golden_case,
    golden_config,
    golden_image,
    golden_inputs,
    golden_meta,
    golden_special_tokens,
)
from tests.small_models import LOGIT_TOLERANCE, golden_model, setting_of, tiny_inputs, tiny_molmo

PROMPT = ModelInputs(input_ids=torch.tensor([[5, 9, 0, 33, 2]]))


class Recorder:
    def __init__(self) -> None:
        self.marks: list[str] = []

    def begin(self, name: str) -> None:
        self.marks.append(f"+{name}")

    def end(self, name: str) -> None:
        self.marks.append(f"-{name}")


def assert_equals_golden(generation: Generation, variant: str, case: str) -> None:
    tensors = golden_case(variant, case).tensors
    assert generation.logits is not None
    assert torch.equal(generation.token_ids, tensors["generated_ids"])
    torch.testing.assert_close(generation.logits, tensors["generated_step_logits"], atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", [*IMAGE_CASES, "text_only"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_and_the_logits_of_every_step_equal_the_reference(variant: str, case: str) -> None:
    inputs = golden_inputs(variant, case)
    assert_equals_golden(generate(golden_model(variant), inputs, max_new_tokens=12, keep_logits=True), variant, case)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_padded_batch_equals_the_reference(variant: str) -> None:
    inputs = collate([golden_inputs(variant, row) for row in golden_case(variant, "batch").meta["rows"]])
    assert_equals_golden(generate(golden_model(variant), inputs, max_new_tokens=12, keep_logits=True), variant, "batch")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stop_token_is_the_last_one_as_in_the_reference(variant: str) -> None:
    golden = golden_case(variant, "eos_stop")
    generation = generate(
        golden_model(variant),
        golden_inputs(variant, golden.meta["inputs_of"]),
        max_new_tokens=12,
        stop_token_ids=[golden.meta["stop_token_id"]],
    )
    assert generation.token_ids.shape[1] == golden.meta["stop_step"] + 1
    unstopped = golden_case(variant, golden.meta["inputs_of"]).tensors["generated_ids"]
    assert torch.equal(generation.token_ids, unstopped[:, : generation.token_ids.shape[1]])
    assert generation.logits is None


def cut_to(variant: str, case: str, *, max_crops: int | None) -> ModelInputs:
    """Build the inputs of a case from its picture, cut into at most so many crops."""
    golden = golden_case(variant, case)
    processor = MolmoProcessor(golden_config(variant), golden_special_tokens(variant))
    return processor.from_token_ids(
        golden.tensors["text_token_ids"].tolist(),
        golden_image(golden.meta["image"]),
        tier=None if max_crops is None else Tier(name="limited", min_crops=1, max_crops=max_crops),
        tiling="upper_bound",
    )


@pytest.mark.parametrize(
    ("variant", "knobs"),
    [(variant, knobs) for variant in VARIANTS for knobs in golden_meta(variant)["cases"]["knobs"]["settings"]],
    ids=lambda value: value if isinstance(value, str) else value["tag"],
)
def test_every_knob_equals_the_reference(variant: str, knobs: dict[str, Any]) -> None:
    golden = golden_case(variant, "knobs")
    model = golden_model(variant)
    blocks = tuple(index for index, runs in enumerate(knobs.get("block_mask", [1, 1, 1, 1])) if runs)
    setting = setting_of(model, top_k=knobs.get("top_k"), blocks=blocks)
    inputs = cut_to(variant, golden.meta["inputs_of"], max_crops=knobs.get("max_crops"))
    generation = generate(model, inputs, setting=setting, max_new_tokens=6, keep_logits=True)
    assert generation.logits is not None
    assert torch.equal(generation.token_ids, golden.tensors[f"{knobs['tag']}.generated_ids"])
    last = golden.tensors[f"{knobs['tag']}.last_logits"].view_as(generation.logits[:, 0])
    torch.testing.assert_close(generation.logits[:, 0], last, atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", IMAGE_CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_picture_gives_the_tokens_of_the_reference(variant: str, case: str) -> None:
    generation = generate(golden_model(variant), cut_to(variant, case, max_crops=None), max_new_tokens=12)
    assert torch.equal(generation.token_ids, golden_case(variant, case).tensors["generated_ids"])


def test_a_finished_request_goes_on_with_the_stop_token_while_others_run() -> None:
    model = tiny_molmo()
    batch = collate([tiny_inputs(model.config, num_words=3, seed=seed) for seed in range(4)])
    free = generate(model, batch, max_new_tokens=6).token_ids
    stop = int(free[0, 1])
    stopped = generate(model, batch, max_new_tokens=6, stop_token_ids=[stop]).token_ids
    for ours, plain in zip(stopped.tolist(), free.tolist(), strict=True):
        end = plain.index(stop) + 1 if stop in plain else len(plain)
        assert ours[:end] == plain[: min(end, len(ours))]
        assert set(ours[end:]) <= {stop}


def test_any_of_several_stop_tokens_ends_an_answer() -> None:
    model = tiny_molmo()
    free = generate(model, PROMPT, max_new_tokens=5).token_ids[0].tolist()
    stopped = generate(model, PROMPT, max_new_tokens=5, stop_token_ids=[55, free[0]]).token_ids
    assert stopped.tolist() == [free[:1]]


@pytest.mark.parametrize("num_experts", [0, 4])
def test_each_step_equals_a_pass_over_the_whole_sequence(num_experts: int) -> None:
    model = tiny_molmo(num_experts=num_experts, top_k=min(2, num_experts), num_kv_heads=2)
    setting = setting_of(model, top_k=min(3, num_experts), blocks=(1,))
    generation = generate(model, PROMPT, setting=setting, max_new_tokens=5, keep_logits=True)
    ids = torch.cat([PROMPT.input_ids, generation.token_ids], dim=1)
    with torch.inference_mode():
        whole = model(ModelInputs(input_ids=ids), setting=setting)[:, 4:-1]
    torch.testing.assert_close(generation.logits, whole, atol=1e-5, rtol=1e-5)


def test_requests_of_a_batch_get_the_tokens_they_get_alone() -> None:
    model = tiny_molmo(num_experts=4, top_k=2)
    requests = [tiny_inputs(model.config, num_crops=crops, num_words=2 + crops, seed=crops) for crops in (1, 3, 2)]
    together = generate(model, collate(requests), max_new_tokens=6).token_ids
    for row, request in zip(together, requests, strict=True):
        assert torch.equal(row[None], generate(model, request, max_new_tokens=6).token_ids)


@pytest.mark.parametrize("num_experts", [0, 4])
def test_the_full_setting_is_the_plain_model_bit_for_bit(num_experts: int) -> None:
    model = tiny_molmo(num_experts=num_experts, top_k=min(2, num_experts))
    inputs = tiny_inputs(model.config)
    plain = generate(model, inputs, max_new_tokens=5, keep_logits=True)
    full = generate(model, inputs, setting=model.full_setting, max_new_tokens=5, keep_logits=True)
    assert plain.logits is not None
    assert full.logits is not None
    assert torch.equal(plain.logits, full.logits)


@pytest.mark.parametrize("blocks", [(0, 1, 2, 3), (1, 3), (2,)])
def test_skipped_blocks_own_no_cache(monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, ...]) -> None:
    caches: list[KVCache] = []
    allocate = KVCache.__init__

    def record(self: KVCache, *args: object, **options: object) -> None:
        allocate(self, *args, **options)  # type: ignore[arg-type]
        caches.append(self)

    monkeypatch.setattr(KVCache, "__init__", record)
    model = tiny_molmo(num_blocks=4, num_kv_heads=2)
    generate(model, PROMPT, setting=setting_of(model, blocks=blocks), max_new_tokens=3)
    keys_and_values, heads, capacity, head_dim, float_bytes = 2, 2, 5 + 3, 8, 4
    assert [cache.num_bytes for cache in caches] == [
        len(blocks) * keys_and_values * heads * capacity * head_dim * float_bytes
    ]


def test_two_threads_with_two_settings_do_not_disturb_each_other() -> None:
    model = golden_model("moe")
    requests = [golden_inputs("moe", case) for case in ("img_tiny", "text_only")]
    settings = [setting_of(model, top_k=1, blocks=(1, 3)), setting_of(model, top_k=8, blocks=(0, 2, 3))]

    def answer(worker: int) -> list[int]:
        ids: list[int] = (
            generate(model, requests[worker], setting=settings[worker], max_new_tokens=8).token_ids[0].tolist()
        )
        return ids

    serial = [answer(0), answer(1)]
    start = threading.Barrier(2)
    answers: list[list[list[int]]] = [[], []]

    def run(worker: int) -> None:
        for _ in range(5):
            start.wait(timeout=60)
            answers[worker].append(answer(worker))

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[serial[0]] * 5, [serial[1]] * 5]


def test_stages_are_marked_in_order_inside_the_total() -> None:
    recorder = Recorder()
    model = tiny_molmo()
    with observe(recorder):
        generate(model, tiny_inputs(model.config), max_new_tokens=3)
    inner = [f"{sign}{name}" for name in ("vision_encoder", "projector", "prefill", "decode") for sign in "+-"]
    assert recorder.marks == ["+total", *inner, "-total"]


def test_a_request_without_image_marks_no_vision_stage() -> None:
    recorder = Recorder()
    with observe(recorder):
        generate(tiny_molmo(), PROMPT, max_new_tokens=1)
    assert recorder.marks == ["+total", "+prefill", "-prefill", "+decode", "-decode", "-total"]


def test_a_failure_in_the_middle_ends_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    model = tiny_molmo()

    def fail(*_: object) -> None:
        raise RuntimeError("broken head")

    monkeypatch.setattr(model.language_model.head, "forward", fail)
    with pytest.raises(RuntimeError, match="broken head"), observe(recorder):
        generate(model, PROMPT, max_new_tokens=3)
    assert recorder.marks == ["+total", "+prefill", "-prefill", "-total"]


def test_observing_changes_no_result() -> None:
    model = tiny_molmo()
    inputs = tiny_inputs(model.config)
    plain = generate(model, inputs, max_new_tokens=4, keep_logits=True)
    with observe(Recorder()):
        observed = generate(model, inputs, max_new_tokens=4, keep_logits=True)
    assert plain.logits is not None
    assert observed.logits is not None
    assert torch.equal(plain.logits, observed.logits)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1e-6),
        Sampling(temperature=1e-40),
        Sampling(top_p=1e-6),
        Sampling(temperature=5, top_p=1e-9),
    ],
)
def test_sampling_becomes_greedy_in_the_limit(sampling: Sampling) -> None:
    model = tiny_molmo()
    inputs = tiny_inputs(model.config)
    greedy = generate(model, inputs, max_new_tokens=8).token_ids
    assert torch.equal(generate(model, inputs, max_new_tokens=8, sampling=sampling).token_ids, greedy)


def test_a_seed_repeats_its_tokens_and_another_draws_others() -> None:
    model = tiny_molmo()

    def draw(seed: int) -> list[list[int]]:
        sampling = Sampling(temperature=2.0, seed=seed)
        ids: list[list[int]] = generate(model, PROMPT, max_new_tokens=12, sampling=sampling).token_ids.tolist()
        return ids

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_sampling_leaves_the_global_generator_alone() -> None:
    model = tiny_molmo()
    before = torch.get_rng_state()
    generate(model, PROMPT, max_new_tokens=3, sampling=Sampling())
    assert torch.equal(torch.get_rng_state(), before)


def constant_model(probabilities: list[float]) -> Molmo:
    """Build a model whose every next token has these probabilities."""
    model = tiny_molmo(embedding_size=len(probabilities), vocab_size=len(probabilities))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.language_model.embedding.weight.fill_(1.0)
        model.language_model.norm.weight.fill_(1.0)
        logits = torch.tensor(probabilities).log()
        model.language_model.head.weight.copy_(logits[:, None].expand(-1, 32) / 32)
    return model


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.5, 0.15, 0.25]),
        (Sampling(temperature=0.5), [0.01 / 0.345, 0.25 / 0.345, 0.0225 / 0.345, 0.0625 / 0.345]),
        (Sampling(top_p=0.7), [0.0, 2 / 3, 0.0, 1 / 3]),
        (Sampling(top_p=0.8), [0.0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9]),
    ],
)
def test_tokens_are_drawn_with_their_probabilities(sampling: Sampling, expected: list[float]) -> None:
    model = constant_model([0.1, 0.5, 0.15, 0.25])
    batch = ModelInputs(input_ids=torch.zeros(400, 1, dtype=torch.int64))
    tokens = generate(model, batch, max_new_tokens=10, sampling=sampling).token_ids.flatten().tolist()
    counts = Counter(tokens)
    for token, probability in enumerate(expected):
        deviation = (probability * (1 - probability) / len(tokens)) ** 0.5
        assert abs(counts[token] / len(tokens) - probability) <= 4 * deviation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be above 0"),
        ({"temperature": -1.0}, "temperature: must be above 0"),
        ({"temperature": float("nan")}, "temperature: must be above 0"),
        ({"top_p": 0.0}, r"top_p: must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p: must be in \(0, 1\], got 1.1"),
    ],
)
def test_impossible_sampling_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(temperature=options.get("temperature", 1.0), top_p=options.get("top_p", 1.0))


def test_no_new_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens: must be 1 or more, got 0"):
        generate(tiny_molmo(), PROMPT, max_new_tokens=0)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prompt of 5 tokens .* 124 exceeds the model's 128 positions"):
        generate(tiny_molmo(), PROMPT, max_new_tokens=124)
    assert generate(tiny_molmo(), PROMPT, max_new_tokens=123).token_ids.shape == (1, 123)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="input_ids: a request needs at least one id, got none"):
        generate(tiny_molmo(), ModelInputs(input_ids=torch.empty(1, 0, dtype=torch.int64)), max_new_tokens=1)


def test_a_setting_that_the_model_cannot_run_is_refused() -> None:
    setting = KnobSetting(tier="low", top_k=0, active_blocks=(0, 2))
    with pytest.raises(ValueError, match="active_blocks: the model has blocks 0 to 1, got 2"):
        generate(tiny_molmo(), PROMPT, setting=setting, max_new_tokens=1)


def test_inputs_are_left_as_they_were() -> None:
    model = tiny_molmo()
    batch = collate([tiny_inputs(model.config, num_words=words) for words in (2, 6)])
    before = batch.input_ids.clone()
    generate(model, batch, max_new_tokens=4)
    assert torch.equal(batch.input_ids, before)


def test_generated_tokens_can_be_learned_from() -> None:
    model = tiny_molmo()
    generation = generate(model, PROMPT, max_new_tokens=3, keep_logits=True)
    assert generation.logits is not None
    weight = torch.ones(56, requires_grad=True)
    (generation.logits * weight).log_softmax(dim=-1).gather(2, generation.token_ids[:, :, None]).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("tier", STANDARD_TIERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_answer_is_the_same_if_the_overview_was_encoded_before_the_tier_was_chosen(variant: str, tier: Tier) -> None:
    model = golden_model(variant)
    processor = MolmoProcessor(golden_config(variant), golden_special_tokens(variant))
    image = golden_image(golden_case(variant, IMAGE_CASES[0]).meta["image"])
    inputs = processor.from_token_ids([5, 9, 33], image, tier=tier)
    plain = generate(model, inputs, max_new_tokens=4, keep_logits=True)
    overview, heard = processor.image_processor.overview(image), Recorder()
    with observe(heard):
        glance = glance_at(model, overview)
        rest = processor.from_token_ids([5, 9, 33], overview, tier=tier)
        vision_tokens = encode_images(model, rest, glance=glance)
    assert heard.marks == ["+vision_encoder", "-vision_encoder", "+projector", "-projector"] * 2
    torch.testing.assert_close(vision_tokens, encode_images(model, inputs), atol=1e-5, rtol=1e-5)
    found = generate(model, rest, max_new_tokens=4, keep_logits=True, vision_tokens=vision_tokens)
    assert torch.equal(found.token_ids, plain.token_ids)
    torch.testing.assert_close(found.logits, plain.logits, atol=LOGIT_TOLERANCE, rtol=0)
