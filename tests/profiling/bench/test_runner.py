import gc

import pytest
import torch
from torch import Tensor

from models.inputs import ModelInputs
from models.knobs import KnobSetting
from profiling.bench.cells import Benchmark, BenchStage, Cell, StagePlan
from profiling.bench.contestants import LeftOut, Prepared
from profiling.bench.runner import CellRunner
from profiling.model_source import ModelSource
from tests.patched_clock import patch_clock
from tests.small_models import tiny_molmo

DECODE = Cell(stage=BenchStage.DECODE, size=5, top_k=2, num_active_blocks=2)


class Scripted:
    """A contestant that logs what is asked of it, and may fail at a run."""

    def __init__(self, name: str, log: list[str], *, answer: float = 1.0, fails: tuple[int, Exception] | None) -> None:
        self._name = name
        self._log = log
        self._answer = answer
        self._fails = fails
        self._runs = 0

    def unavailable(self, device: torch.device) -> str | None:
        return None

    def prefill(self, tokens: int, setting: KnobSetting) -> Prepared:
        return self._prepared(f"prefill {tokens}")

    def decode(self, context: int, setting: KnobSetting) -> Prepared:
        return self._prepared(f"decode {context} {setting.top_k} {setting.active_blocks}")

    def vision(self, num_crops: int) -> Prepared:
        return self._prepared(f"vision {num_crops}")

    def request(self, inputs: ModelInputs, output_tokens: int, setting: KnobSetting) -> Prepared:
        return self._prepared(f"request {inputs.num_crops.item()} {inputs.num_tokens.item()} {output_tokens}")

    def release(self) -> None:
        self._log.append(f"{self._name} released")

    def _prepared(self, what: str) -> Prepared:
        self._log.append(f"{self._name} {what}")
        return Prepared(run=self._run, reset=lambda: self._log.append(f"{self._name} reset"))

    def _run(self) -> Tensor:
        self._runs += 1
        if self._fails is not None and self._runs == self._fails[0]:
            raise self._fails[1]
        self._log.append(f"{self._name} run")
        return torch.tensor([[self._answer, 0.0, 1.0]])


class Absent(Scripted):
    def unavailable(self, device: torch.device) -> str | None:
        return f"not on {device}"


def runner(log: list[str], fails: dict[str, tuple[int, Exception]]) -> tuple[CellRunner, list[int]]:
    kinds = {"a": Scripted, "b": Scripted, "c": Absent}
    plan = StagePlan(sizes=(5,), contestants=("a", "b", "c"), warmup=1, rounds=2, repeats=2)
    benchmark = Benchmark(
        model=ModelSource(name="tiny"), decode=plan, vision=plan, request=plan, prefill=plan, text_tokens=3
    )
    contestants = {
        name: kind(name, log, answer=1 + 0.5 * (name == "b"), fails=fails.get(name)) for name, kind in kinds.items()
    }
    return CellRunner(benchmark, tiny_molmo(num_experts=4, top_k=2), contestants), []


def test_contestants_take_turns_after_they_are_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    log: list[str] = []
    cell_runner, advanced = runner(log, {})
    outcomes = cell_runner.measure(DECODE, lambda: advanced.append(1))
    a, b = ["a reset", "a run"], ["b reset", "b run"]
    prepared = ["a decode 5 2 (0, 1)", *a, "b decode 5 2 (0, 1)", *b]
    released = ["a released", "b released", "c released"]
    assert log == [*prepared, *a, *a, *b, *b, *b, *b, *a, *a, *released]
    # Run number n of the patched clock, from 1, takes 4 n - 1 ms; warm-up is not timed.
    assert outcomes["a"].samples_ms == (3, 7, 27, 31)
    assert outcomes["b"].samples_ms == (11, 15, 19, 23)
    assert outcomes["a"].difference is None
    assert outcomes["b"].difference == pytest.approx(0.5 / torch.tensor([1.0, 0.0, 1.0]).std().item())
    assert outcomes["c"].left_out == "not on cpu"
    assert len(advanced) == 3  # the warm-up and two rounds
    assert gc.isenabled()


def test_who_fails_is_left_out_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    cell_runner, _ = runner([], {"a": (4, torch.OutOfMemoryError("too large")), "b": (1, LeftOut("not today"))})
    outcomes = cell_runner.measure(DECODE, lambda: None)
    assert outcomes["a"].left_out == "out of device memory"
    assert outcomes["a"].samples_ms == ()
    assert outcomes["b"].left_out == "not today"
    cell_runner, _ = runner([], {"a": (2, LeftOut("later"))})
    outcomes = cell_runner.measure(DECODE, lambda: None)
    assert [outcomes[name].left_out for name in "abc"] == ["later", None, "not on cpu"]
    assert len(outcomes["b"].samples_ms) == 4


def test_other_errors_are_not_swallowed() -> None:
    cell_runner, _ = runner([], {"a": (3, RuntimeError("broken"))})
    with pytest.raises(RuntimeError, match="broken"):
        cell_runner.measure(DECODE, lambda: None)
    assert gc.isenabled()


def test_each_stage_asks_for_its_own_measurement() -> None:
    log: list[str] = []
    cell_runner, _ = runner(log, {})
    for stage in BenchStage:
        cell_runner.measure(Cell(stage=stage, size=2, top_k=2, num_active_blocks=2), lambda: None)
    vision_tokens = 2 * tiny_molmo().config.tokens_per_crop
    expected = ["a prefill 2", "a decode 2 2 (0, 1)", "a vision 2", f"a request 2 {vision_tokens + 3} 20"]
    assert [line for line in log if line in expected] == expected
