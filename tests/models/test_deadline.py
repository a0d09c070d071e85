from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from models.deadline import Deadline
from models.engine import EagerEngine
from models.engine.base import BegunPrefill
from models.engine.graph import GraphEngine
from models.engine.recording import CudaGraphs
from models.generation import Generation, encode_images, generate
from models.inputs import ModelInputs, collate
from models.knobs import KnobSetting
from models.stages import observe
from tests.engine_models import DEVICE, TILES
from tests.small_models import setting_of, tiny_inputs, tiny_molmo

UNREACHABLE = 99  # an id that the tiny model's head cannot name
MODEL = tiny_molmo()


class SlowDevice:
    """A device and its host: the prefill takes 30 ms, each step so many; ``now_ms`` is what the host's clock says."""

    def __init__(self, *, step_ms: float = 10.0, runs_ahead: bool = False) -> None:
        self.now_ms = 0.0
        self.step_ms = step_ms
        self.runs_ahead = runs_ahead
        self.step_ends_ms: list[float] = []
        self._busy_until_ms = 0.0

    def now(self) -> float:
        return self.now_ms / 1e3

    def prefill(self) -> None:
        self.now_ms = self._busy_until_ms = 30.0

    def step(self) -> None:
        before_ms = self._busy_until_ms
        self._busy_until_ms += self.step_ms
        self.step_ends_ms.append(self._busy_until_ms)
        # A host that runs ahead waits for the token before the one that it has just begun.
        self.now_ms = before_ms if self.runs_ahead else self._busy_until_ms


class SlowEngine(EagerEngine):
    """The eager engine on a slow device."""

    def __init__(self, device: SlowDevice) -> None:
        super().__init__(MODEL)
        self._device = device

    @contextmanager
    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> Iterator[Any]:
        with super().request(setting, batch_size=batch_size, capacity=capacity) as request:
            yield SlowRequest(request, self._device)


class SlowRequest:
    def __init__(self, request: Any, device: SlowDevice) -> None:
        self._request = request
        self._device = device
        self.runs_ahead = device.runs_ahead

    def prefill(self, inputs: ModelInputs, x_BSD: Tensor, begun: BegunPrefill | None = None) -> None:
        self._request.prefill(inputs, x_BSD)
        self._device.prefill()

    def step(self, token_B: Tensor) -> None:
        self._request.step(token_B)
        self._device.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def answer(device: SlowDevice, *, at_ms: float, token_ms: float = 10.0, **changes: Any) -> Generation:
    deadline = Deadline(at_s=at_ms / 1e3, token_ms=token_ms, now=device.now)
    arguments: dict[str, Any] = {"max_new_tokens": 12, "stop_token_ids": (UNREACHABLE,), **changes}
    inputs = tiny_inputs(MODEL.config)
    return generate(MODEL, inputs, engine=SlowEngine(device), deadline=deadline, **arguments)


@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize(
    ("at_ms", "num_tokens"), [(75.0, 5), (70.0, 5), (69.9, 4), (40.0, 2), (39.9, 1), (1.0, 1), (139.9, 11)]
)
def test_an_answer_is_cut_exactly_where_the_next_token_would_be_late(
    at_ms: float, num_tokens: int, *, runs_ahead: bool
) -> None:
    device = SlowDevice(runs_ahead=runs_ahead)
    found = answer(device, at_ms=at_ms)
    assert found.token_ids.shape[1] == num_tokens
    assert found.is_truncated
    assert all(end_ms <= at_ms for end_ms in device.step_ends_ms)
    free = generate(MODEL, tiny_inputs(MODEL.config), max_new_tokens=12).token_ids
    assert torch.equal(found.token_ids, free[:, :num_tokens])


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_no_token_begins_that_was_predicted_to_be_late(*, runs_ahead: bool) -> None:
    device = SlowDevice(step_ms=10.0, runs_ahead=runs_ahead)
    found = answer(device, at_ms=75.0, token_ms=15.0)  # a margin of one half on each token
    # From 60 ms on a step may end at 75; a host that runs ahead knows of 50 ms, and of a step under way that may end
    # at 65, and the one behind it at 80.
    assert found.token_ids.shape[1] == (4 if runs_ahead else 5)
    assert device.step_ends_ms[-1] == (60.0 if runs_ahead else 70.0)


def test_steps_slower_than_predicted_are_late_by_one_step_at_most() -> None:
    device = SlowDevice(step_ms=25.0)
    assert answer(device, at_ms=75.0, token_ms=10.0).token_ids.shape[1] == 3
    assert device.step_ends_ms == [55.0, 80.0]


def test_an_answer_in_time_is_the_same_and_not_truncated() -> None:
    device = SlowDevice()
    found = answer(device, at_ms=1e6)
    free = generate(MODEL, tiny_inputs(MODEL.config), max_new_tokens=12)
    assert torch.equal(found.token_ids, free.token_ids)
    assert (found.is_truncated, free.is_truncated) == (False, False)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_an_answer_that_ends_by_itself_at_the_deadline_is_not_truncated(*, runs_ahead: bool) -> None:
    free = generate(MODEL, tiny_inputs(MODEL.config), max_new_tokens=12).token_ids[0].tolist()
    place = next(i for i in range(1, 12) if free.index(free[i]) == i)
    device = SlowDevice(runs_ahead=runs_ahead)
    found = answer(device, at_ms=30.0 + 10 * place, stop_token_ids=(free[place],))
    assert found.token_ids[0].tolist() == free[: place + 1]
    assert not found.is_truncated


def test_vision_tokens_made_before_give_the_same_answer_and_are_not_made_again() -> None:
    inputs = tiny_inputs(MODEL.config)
    marks: list[str] = []

    class Recorder:
        def begin(self, name: str) -> None:
            marks.append(name)

        def end(self, name: str) -> None:
            pass

    with observe(Recorder()):
        vision_tokens = encode_images(MODEL, inputs)
        found = generate(MODEL, inputs, max_new_tokens=4, vision_tokens=vision_tokens)
    assert marks == ["vision_encoder", "projector", "total", "prefill", "decode"]
    assert torch.equal(found.token_ids, generate(MODEL, inputs, max_new_tokens=4).token_ids)
    assert encode_images(MODEL, ModelInputs(input_ids=inputs.input_ids)) is None


def test_the_graph_engine_encodes_first_runs_ahead_and_stops_as_said() -> None:
    model = tiny_molmo(num_experts=4, top_k=2, qk_norm=True).to(DEVICE)
    record = CudaGraphs(torch.device(DEVICE)) if DEVICE == "cuda" else lambda call: call
    engine = GraphEngine(model, capacity=24, tiles=TILES, record=record)
    inputs = tiny_inputs(model.config, num_crops=2, seed=2).to(DEVICE)
    setting = setting_of(model, top_k=1, blocks=(0,))
    vision_tokens = encode_images(model, inputs, engine=engine)
    plain = generate(model, inputs, setting=setting, max_new_tokens=6).token_ids
    ticks = count()
    # Each look at the clock finds it a millisecond on: 0 + 1, 1 + 2 and 2 + 2 are in time, 3 + 2 is not.
    deadline = Deadline(at_s=0.0045, token_ms=1.0, now=lambda: next(ticks) / 1e3)
    found = generate(
        model,
        inputs,
        setting=setting,
        max_new_tokens=6,
        stop_token_ids=(UNREACHABLE,),
        engine=engine,
        vision_tokens=vision_tokens,
        deadline=deadline,
    )
    assert found.is_truncated
    assert torch.equal(found.token_ids, plain[:, :4])


def test_a_batch_ends_together() -> None:
    batch = collate([tiny_inputs(MODEL.config, num_words=3, seed=seed) for seed in range(2)])
    device = SlowDevice()
    deadline = Deadline(at_s=0.055, token_ms=10.0, now=device.now)
    found = generate(
        MODEL, batch, max_new_tokens=9, stop_token_ids=(UNREACHABLE,), engine=SlowEngine(device), deadline=deadline
    )
    assert found.token_ids.shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at_s": float("nan")}, "deadline: at_s: must be a number of seconds, got nan"),
        ({"token_ms": -1.0}, r"deadline: token_ms: must be 0 or more, got -1\.0"),
        ({"token_ms": float("nan")}, "deadline: token_ms: must be 0 or more, got nan"),
    ],
)
def test_a_deadline_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Deadline(**{"at_s": 1.0, "token_ms": 1.0, **changes})


def test_a_deadline_without_stop_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline: needs stop tokens"):
        answer(SlowDevice(), at_ms=50.0, stop_token_ids=())
