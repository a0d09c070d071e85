import gc
from collections.abc import Iterator
from contextlib import chdir
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoint import load_molmo, read_hf_config
from models.controllers import Vector
from models.engine import EagerEngine
from models.generation import encode_images, generate, glance_at
from models.knobs import KnobGrid, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from models.vision import VisionEncoder
from profiling.adaptive.chooser import Chooser
from profiling.adaptive.fixed_deciders import fixed_decider
from profiling.adaptive.online_features import OnlineFeatures
from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.server import Server
from profiling.controllers.embeddings import glance_embedding, question_embedding, vision_embedding
from profiling.controllers.features import free_features_of
from profiling.controllers.outcomes import outcomes_of
from profiling.profiler import Plan, Profiler
from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable
from tests.adaptive_world import LooksTwice
from tests.patched_clock import patch_clock
from tests.served_rows import questions
from tests.small_vlm import write_small_snapshot

(QUESTION,) = questions(1, "test")
REQUEST = BudgetedRequest(question=QUESTION, budget_ms=100.0)
MS = 1e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Molmo, KnobGrid, MolmoProcessor]:
    folder = tmp_path_factory.mktemp("snapshot")
    with chdir(folder):
        write_small_snapshot(folder / "model")
    molmo = load_molmo(str(folder / "model"))
    grid = own_grid(read_hf_config(folder / "model"))
    assert grid is not None
    tokenizer, special_tokens = load_tokenizer(folder / "model")
    return molmo, grid, MolmoProcessor(molmo.config, special_tokens, tokenizer)


def server(model: Any, decider: Any, *, now: Any = None, **changes: Any) -> Server:
    molmo, grid, processor = model
    stops = changes.pop("stops_at_deadline", False)
    return Server(
        molmo,
        processor,
        grid=grid,
        engine=EagerEngine(molmo),
        features=OnlineFeatures(molmo, grid, decider.feature_widths),
        chooser=Chooser(decider, changes.pop("table", None), stops_at_deadline=stops),
        stops_at_deadline=stops,
        **({} if now is None else {"now": now}),
    )


def assert_same(found: Vector, expected_BD: Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(found)[None], expected_BD)


def ticking(step_ms: float = 1.0) -> Any:
    """A clock that goes on by a millisecond whenever it is read."""
    ticks: Iterator[int] = count()
    return lambda: next(ticks) * step_ms * MS


def test_an_answer_is_that_of_its_setting(model: Any) -> None:
    molmo, grid, processor = model
    answer = server(model, fixed_decider("medium/2/2", grid, None, seed=0)).answer(
        REQUEST, QUESTION.open_image(), margin=0.0
    )
    setting = grid.setting(tier="medium", top_k=2, num_active_blocks=2)
    words = processor.tokenizer.encode(QUESTION.prompt(molmo.config.vocab_size))
    inputs = processor.from_token_ids(words, QUESTION.open_image(), tier=grid.tier("medium"))
    stop = (processor.special_tokens.eos_id,)
    ids = generate(molmo, inputs, setting=setting, max_new_tokens=QUESTION.max_new_tokens, stop_token_ids=stop)
    served = answer.served
    assert served.prediction == processor.decode(ids.token_ids[0].tolist())
    assert (served.tier, served.top_k, served.num_active_blocks) == ("medium", 2, 2)
    assert served.vision_tokens == int(inputs.num_vision_tokens[0])
    assert served.vision_tokens + served.text_tokens == int(inputs.num_tokens[0])
    assert served.output_tokens == ids.token_ids.shape[1]
    score = QUESTION.score(served.prediction)
    assert score is not None
    assert (served.accuracy, served.metric, served.key) == (score.value, score.name.value, REQUEST.key)


def test_every_part_is_timed_and_the_latency_is_all_of_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    decider = LooksTwice(model[1], width=32)
    served = server(model, decider, now=ticking()).answer(REQUEST, QUESTION.open_image(), margin=0.0).served
    # The clock is read at the start (0); around words (1, 2), features (3, 4), the controller (5 to 8, twice within),
    # the picture (9, 10), the pooling (11, 12), its copy (13, 14), the controller (15 to 17, once within); last at 18.
    assert served.latency_ms == pytest.approx(18.0)
    assert served.preprocess_ms == pytest.approx(2.0)
    assert served.features_ms == pytest.approx(3.0)
    assert served.controller_ms == pytest.approx(5.0)
    assert served.remaining_ms == pytest.approx(84.0)
    # The device's marks lie at their squares: vision encoder 1 to 2, projector 3 to 4, prefill 6 to 7, decode 8 to 9.
    assert (served.vision_encoder_ms, served.projector_ms) == (3.0, 7.0)
    assert (served.prefill_ms, served.decode_ms) == (13.0, 17.0)


def test_the_second_decision_is_told_the_time_that_is_really_left_and_what_the_picture_shows(model: Any) -> None:
    molmo, grid, processor = model
    decider = LooksTwice(grid, width=32)
    answer = server(model, decider, now=ticking(2.0)).answer(REQUEST, QUESTION.open_image(), margin=0.25)
    ((budget_ms, known),), ((remaining_ms, tier, vision),) = decider.told_before, decider.told_after
    assert budget_ms == 75.0  # a quarter is kept back
    assert remaining_ms == pytest.approx(75.0 - 2 * 16)
    assert tier == 2
    words = processor.tokenizer.encode(QUESTION.prompt(molmo.config.vocab_size))
    assert_same(known["question"], question_embedding(molmo, torch.tensor([words])))
    inputs = processor.from_token_ids(words, QUESTION.open_image(), tier=grid.tier("high"))
    vision_tokens = encode_images(molmo, inputs)
    assert vision_tokens is not None
    assert_same(vision, vision_embedding(inputs, vision_tokens))
    assert (answer.served.tier, answer.served.top_k, answer.served.num_active_blocks) == ("high", 1, 2)
    assert answer.choice.setting == 12


def test_the_second_decision_is_also_asked_of_a_controller_that_does_not_look(model: Any) -> None:
    decider = LooksTwice(model[1], width=0)
    served = server(model, decider).answer(REQUEST, QUESTION.open_image(), margin=0.0).served
    assert decider.told_after[-1][2].shape == (0,)
    assert (served.top_k, served.num_active_blocks) == (1, 2)  # what it says when asked again


def test_the_first_decision_is_shown_the_overview_and_the_answer_stays_the_same(model: Any) -> None:
    molmo, grid, processor = model
    blind, looking = LooksTwice(grid, width=32), LooksTwice(grid, width=32, glance_width=32)
    image = QUESTION.open_image()
    expected, found = (server(model, decider).answer(REQUEST, image, margin=0.0).served for decider in (blind, looking))
    assert (found.prediction, found.tier, found.vision_tokens) == (expected.prediction, "high", expected.vision_tokens)
    glance = glance_embedding(glance_at(molmo, processor.image_processor.overview(image)))
    assert_same(looking.told_before[0][1]["glance"], glance)
    assert "glance" not in blind.told_before[0][1]
    np.testing.assert_allclose(looking.told_after[0][2], blind.told_after[0][2], atol=1e-5, rtol=1e-5)


def test_both_goes_at_a_picture_are_timed_and_only_the_controllers_own_time_is_taken_from_the_bounds(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_clock(monkeypatch)
    decider = LooksTwice(model[1], width=32, glance_width=32)
    elapsed: list[float] = []
    before_image = Chooser.before_image

    def heard(chooser: Chooser, known: Any, *, budget_ms: float, elapsed_ms: float) -> Any:
        elapsed.append(elapsed_ms)
        return before_image(chooser, known, budget_ms=budget_ms, elapsed_ms=elapsed_ms)

    monkeypatch.setattr(Chooser, "before_image", heard)
    served = server(model, decider, now=ticking()).answer(REQUEST, QUESTION.open_image(), margin=0.0).served
    # Start (0), words (1, 2), the look (3 to 6, cutting at 4 and 5), features (7, 8), the controller (9 to 12), the
    # other crops (13, 14), the pooling (15, 16), its copy (17, 18), the controller again (19 to 21); last at 22.
    assert served.latency_ms == pytest.approx(22.0)
    assert served.preprocess_ms == pytest.approx(3.0)
    assert served.features_ms == pytest.approx(3.0)
    assert served.controller_ms == pytest.approx(5.0)
    assert elapsed == [pytest.approx(10.0 - 3.0)]
    # The device's marks lie at their squares: each go's vision encoder and projector, prefill and decode.
    assert served.vision_encoder_ms == (2**2 - 1**2) + (6**2 - 5**2)
    assert served.projector_ms == (4**2 - 3**2) + (8**2 - 7**2)


def test_an_engine_is_warmed_up_with_what_requests_will_give_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    num_crops: list[int] = []

    def met(encoder: VisionEncoder, crops: Tensor, **options: Any) -> Tensor:
        num_crops.append(len(crops))
        return forward(encoder, crops, **options)

    forward = VisionEncoder.forward
    monkeypatch.setattr(VisionEncoder, "forward", met)
    whole = {len(model[2].image_processor(QUESTION.open_image(), tier=tier).crops) for tier in model[1].tiers}
    monkeypatch.setattr(gc, "freeze", lambda: None)
    server(model, LooksTwice(model[1], width=0)).warm_up(REQUEST)
    assert set(num_crops) == whole
    num_crops.clear()
    server(model, LooksTwice(model[1], width=0, glance_width=32)).warm_up(REQUEST)
    assert set(num_crops) == {1} | {count - 1 for count in whole}


def test_the_pace_forgets_what_the_warm_up_took(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    asked = server(model, LooksTwice(model[1], width=0))
    calls: list[str] = []
    monkeypatch.setattr(asked, "answer", lambda *_, **__: calls.append("answer"))
    monkeypatch.setattr(Chooser, "forget", lambda _: calls.append("forget"))
    asked.warm_up(REQUEST)
    assert calls == ["answer", "forget"]


def test_free_features_are_those_that_tables_have(model: Any) -> None:
    molmo, grid, processor = model
    records: list[ProfileRecord] = []
    Profiler(molmo, processor, Plan(requests=[QUESTION], grid=grid, repeats=1)).run(done=(), write=records.append)
    table = ProfileTable.from_records(records, Environment(model_shape=None))
    decider = LooksTwice(grid, width=32)
    server(model, decider).answer(REQUEST, QUESTION.open_image(), margin=0.0)
    expected = free_features_of(outcomes_of(table, grid))
    np.testing.assert_allclose(decider.told_before[0][1]["free"], expected[0], rtol=1e-6, atol=1e-6)


def test_an_answer_is_cut_where_the_clock_says_so(model: Any) -> None:
    decider = fixed_decider("low/1/2", model[1], None, seed=0)
    image = QUESTION.open_image()
    free = server(model, decider).answer(REQUEST, image, margin=0.0).served
    assert free.output_tokens > 4
    # Eleven readings before the first question whether a token may begin: reading 11 lies at 11 ms, and so on.
    cut = server(model, decider, now=ticking(), stops_at_deadline=True)
    request = BudgetedRequest(question=QUESTION, budget_ms=13.0)
    served = cut.answer(request, image, margin=0.0).served
    assert served.is_truncated
    assert 1 < served.output_tokens < free.output_tokens
    assert not free.is_truncated
    tighter = server(model, decider, now=ticking(), stops_at_deadline=True).answer(request, image, margin=0.1).served
    assert tighter.output_tokens == served.output_tokens - 1  # 1.3 ms less


def test_what_no_controller_reads_is_not_made(model: Any) -> None:
    molmo, grid, _ = model
    known = OnlineFeatures(molmo, grid, {"free": 0, "question": 0, "glance": 0, "vision": 0}).describe(
        image_size=(30, 20), question="what?", prompt_ids=[1, 2]
    )
    assert known.features == {}
    assert len(known.vision_tokens_T) == 3
