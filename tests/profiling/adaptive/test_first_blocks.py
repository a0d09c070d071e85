"""A controller that decides from the model's first blocks, asked while a request is served."""

from collections.abc import Iterator, Mapping
from contextlib import chdir
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoint import load_molmo, read_hf_config
from models.controllers import LLMBased, Vector
from models.engine import EagerEngine
from models.generation import encode_images, generate
from models.knobs import KnobGrid, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.adaptive.chooser import Chooser
from profiling.adaptive.online_features import OnlineFeatures
from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.server import Server
from tests.patched_clock import patch_clock
from tests.served_rows import questions
from tests.small_vlm import write_small_snapshot

(QUESTION,) = questions(1, "test")
REQUEST = BudgetedRequest(question=QUESTION, budget_ms=100.0)


class FromFirstBlocks:
    """Cuts images at the middle tier and takes what a budget token says; ``bias`` is added to the settings there."""

    decides_twice = True

    def __init__(self, grid: KnobGrid, width: int, *, bias: Tensor | None = None) -> None:
        torch.manual_seed(1)
        levels = (len(grid.top_k), len(grid.blocks_by_count))
        network = LLMBased(levels, width, num_first_blocks=1, fastest_ms=1.0, slowest_ms=200.0)
        self.grid = grid
        self.first_blocks = network.requires_grad_(False)
        self.feature_widths = {"free": 0, "question": 0, "glance": 0, "vision": width}
        self.bias = torch.zeros(levels[0] * levels[1]) if bias is None else bias
        self.said: list[Tensor] = []

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        return np.asarray([0, 1, 0], dtype=np.float32).repeat(len(self.bias))

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        self.said.append(self.first_blocks.decide(torch.from_numpy(shown)[None]))
        logits: Vector = (self.said[-1] + self.bias)[0].numpy()
        return logits


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


def server(model: Any, decider: FromFirstBlocks) -> Server:
    molmo, grid, processor = model
    ticks: Iterator[int] = count()
    return Server(
        molmo,
        processor,
        grid=grid,
        engine=EagerEngine(molmo),
        features=OnlineFeatures(molmo, grid, decider.feature_widths),
        chooser=Chooser(decider, None, stops_at_deadline=False),
        stops_at_deadline=False,
        now=lambda: next(ticks) * 1e-3,
    )


def inputs_of(model: Any) -> Any:
    molmo, grid, processor = model
    words = processor.tokenizer.encode(QUESTION.prompt(molmo.config.vocab_size))
    return processor.from_token_ids(words, QUESTION.open_image(), tier=grid.tier("medium"))


def test_the_decision_is_the_networks_own_for_the_time_that_is_left(model: Any) -> None:
    decider = FromFirstBlocks(model[1], model[0].config.hidden_dim)
    served = server(model, decider).answer(REQUEST, QUESTION.open_image(), margin=0.25).served
    with torch.inference_mode():
        expected = decider.first_blocks(model[0], inputs_of(model), torch.tensor([served.remaining_ms]))
        other = decider.first_blocks(model[0], inputs_of(model), torch.tensor([REQUEST.budget_ms]))
    (said,) = decider.said
    torch.testing.assert_close(said, expected)
    assert not torch.allclose(said, other)
    setting = model[1].settings()[len(decider.bias) + int(said.argmax())]
    assert (served.tier, served.top_k, served.num_active_blocks) == ("medium", setting.top_k, setting.num_active_blocks)


@pytest.mark.parametrize("place", range(6))
def test_the_answer_is_the_settings_but_for_the_prompts_experts_in_the_first_block(model: Any, place: int) -> None:
    molmo, grid, processor = model
    decider = FromFirstBlocks(grid, molmo.config.hidden_dim, bias=100.0 * torch.eye(6)[place])
    served = server(model, decider).answer(REQUEST, QUESTION.open_image(), margin=0.0).served
    setting = grid.settings()[6 + place]
    assert (served.top_k, served.num_active_blocks) == (setting.top_k, setting.num_active_blocks)
    inputs = inputs_of(model)
    vision_tokens = encode_images(molmo, inputs)
    with torch.inference_mode():
        begun, _ = decider.first_blocks.begin(molmo, inputs, vision_tokens, torch.tensor([50.0]))
    arguments: dict[str, Any] = {
        "setting": setting,
        "max_new_tokens": QUESTION.max_new_tokens,
        "stop_token_ids": (processor.special_tokens.eos_id,),
        "keep_logits": True,
    }
    mixed, plain = generate(molmo, inputs, begun=begun, **arguments), generate(molmo, inputs, **arguments)
    assert served.prediction == processor.decode(mixed.token_ids[0].tolist())
    assert mixed.logits is not None
    assert plain.logits is not None
    is_same = torch.allclose(mixed.logits[:, 0], plain.logits[:, 0], atol=1e-5)
    assert is_same == (setting.top_k == molmo.config.top_k)


def test_the_first_blocks_are_prefill_and_the_head_is_the_controller(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_clock(monkeypatch)
    decider = FromFirstBlocks(model[1], model[0].config.hidden_dim)
    served = server(model, decider).answer(REQUEST, QUESTION.open_image(), margin=0.0).served
    # The clock is read at the start (0); around words (1, 2), features (3, 4), the controller (5 to 8, twice within),
    # the picture (9, 10); for the time left (11); around the state's copy (12, 13), the controller (14, 15); last (16).
    assert served.remaining_ms == pytest.approx(89.0)
    assert served.features_ms == pytest.approx(2.0)
    assert served.controller_ms == pytest.approx(4.0)
    assert served.latency_ms == pytest.approx(16.0)
    # The device's marks lie at their squares: vision encoder 1 to 2, projector 3 to 4, prefill 5 to 6 and 8 to 9.
    assert served.prefill_ms == pytest.approx(36 - 25 + 81 - 64)
