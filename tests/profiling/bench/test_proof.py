import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import auto_parser
from torch import Tensor

import main
from models.config import MolmoConfig
from models.engine import EagerEngine, Engine, EngineName
from models.engine.eager import EagerRequest
from models.engine.graph import GraphEngine
from models.knobs import KnobSetting
from models.molmo import Molmo
from profiling.bench.proof import Proof, ProofError, prove_engine
from profiling.bench.proof_parity import ParityPlan
from profiling.bench.proof_report import Limits, failures
from profiling.bench.proof_soak import SoakPlan
from profiling.bench.proof_warm_up import SwitchPlan, kernel_cache, warm_up_in_fresh_process
from profiling.model_source import ModelSource
from tests.engine_models import DEVICE, TILES
from tests.patched_clock import patch_clock

ROOT = Path(main.__file__).parent
OUT = Path("out")
SOURCE = ModelSource(name="tiny", random_weights=True, dtype="float32")
ROOMY = Limits(switch_ms=1000.0, host_growth_mib=200.0)  # whatever else runs on the machine
SOAK = SoakPlan(num_requests=12, num_settled=4, crops=(0, 1), text_tokens=(3, 6), output_tokens=(1, 4), num_threads=2)
pytestmark = pytest.mark.usefixtures("tiny_model_folder")


def proof(**changes: Any) -> Proof:
    fields: dict[str, Any] = {
        "model": SOURCE,
        "engine": "eager",
        "top_k": (2, 3),
        "num_active_blocks": (2, 4),
        "capacity": 64,
        "switching": SwitchPlan(prompt_tokens=4, warmup=1, repeats=4),
        "parity": ParityPlan(prompt_tokens=(3, 7), steps=2),
        "soak": replace(SOAK, broken_fraction=0.3),
        "limits": ROOMY,
    }
    return Proof(**{**fields, **changes})


def report() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OUT / "proof.json").read_text())
    return content


class FaultyRequest(EagerRequest):
    """Changes the logits of each step."""

    def __init__(self, *arguments: Any, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__(*arguments)
        self._fault = fault

    def step(self, token_B: Tensor) -> None:
        super().step(token_B)
        self.logits = self._fault(self.logits)


class FaultyEngine(EagerEngine):
    """The eager engine with a fault in each step's logits."""

    def __init__(self, model: Molmo, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__(model)
        self._fault = fault

    @contextmanager
    def request(self, setting: KnobSetting, *, batch_size: int, capacity: int) -> Iterator[EagerRequest]:
        with super().request(setting, batch_size=batch_size, capacity=capacity) as plain:
            yield FaultyRequest(self._model, setting, plain._cache, fault=self._fault)


def plant(monkeypatch: pytest.MonkeyPatch, make: Callable[[Molmo], Engine]) -> None:
    def make_engine(_: EngineName, model: Molmo, *, capacity: int) -> Engine:
        assert capacity > 0
        return make(model)

    monkeypatch.setattr("profiling.bench.proof_warm_up.make_engine", make_engine)


def test_a_sound_engine_is_proven_and_the_report_says_which_engine_ran(capsys: pytest.CaptureFixture[str]) -> None:
    prove_engine(proof(), OUT)
    assert sorted(path.name for path in OUT.iterdir()) == ["proof.json", "proof.md"]
    content = report()
    assert content["failures"] == []
    assert [(row["top_k"], row["num_active_blocks"]) for row in content["parity"]] == [(2, 2), (2, 4), (3, 2), (3, 4)]
    for row in content["parity"]:
        assert list(row["contestants"]) == ["ours_eager", "stock_eager"]
        for contestant in row["contestants"].values():
            assert len(contestant["prefill_errors"]) == 2
            assert len(contestant["decode_errors"]) == 4
            assert max(contestant["prefill_errors"] + contestant["decode_errors"]) < 1e-5
            assert contestant["num_agreeing"] == contestant["num_tokens"] == 6
    soak = content["soak"]
    assert [reading["after"] for reading in soak["readings"]] == [0, 4, 8, 12]
    assert soak["same_answers"] == {"in the middle": True, "at the end": True}
    assert 0 < soak["num_broken"] < 12
    assert soak["num_in_threads"] == 6
    assert soak["allocated_growth_mib"] is None
    assert list(content["warm_up"]) == ["not needed"]
    assert content["environment"]["engine"] == "eager"
    page, printed = (OUT / "proof.md").read_text(), capsys.readouterr().out
    assert "Engine: eager. The graph engine did not run (" in page
    assert "Greedy tokens that are the float32 reference's: ours_eager 24 of 24, stock_eager 24 of 24." in page
    assert "Everything keeps to the limits." in printed
    assert "Soak: memory while no request runs" in printed


def test_an_engine_that_cannot_run_is_replaced_and_the_report_says_so(caplog: pytest.LogCaptureFixture) -> None:
    prove_engine(proof(engine="graph"), OUT)
    assert "graph needs a CUDA device, got cpu, eager takes its place" in caplog.text
    assert "The graph engine did not run (it needs a CUDA device, got cpu)" in (OUT / "proof.md").read_text()


def test_the_graph_engine_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(model: Molmo) -> Engine:
        record = None if DEVICE == "cuda" else lambda call: call
        return GraphEngine(model, capacity=6, tiles=TILES, record=record)

    plant(monkeypatch, make)
    small = proof(
        top_k=(2,),
        num_active_blocks=(1, 2),
        capacity=6,
        switching=SwitchPlan(prompt_tokens=2, warmup=0, repeats=1),
        parity=ParityPlan(prompt_tokens=(3,), steps=1),
        soak=replace(SOAK, num_requests=2, num_settled=1, crops=(0,), text_tokens=(3,), output_tokens=(1, 2)),
    )
    prove_engine(small, OUT, device=DEVICE)
    content = report()
    for row in content["parity"]:
        assert list(row["contestants"]) == ["ours_eager", "ours_graph", "stock_eager"]
        assert row["contestants"]["ours_graph"]["num_agreeing"] == 2
        assert 0 < max(row["contestants"]["ours_graph"]["decode_errors"]) < 1e-5
    assert "- Engine: graph.\n" in (OUT / "proof.md").read_text()


def test_what_switching_costs_follows_from_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    prove_engine(proof(switching=SwitchPlan(prompt_tokens=4, warmup=1, repeats=2)), OUT)
    # Number n of the patched clock's durations takes 4 n - 1 ms. A request has two. A turn has three requests: one to
    # switch from, one switched to, one that stays. The first turn is not counted.
    switching = report()["switching"]
    assert switching["switched_ms"] == [35 + 39, 59 + 63]
    assert switching["same_ms"] == [43 + 47, 67 + 71]
    assert switching["cost_p50_ms"] == pytest.approx(98 - 114)


def test_a_leak_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    leaked: list[Tensor] = []

    def leak(logits: Tensor) -> Tensor:
        leaked.append(torch.ones(2**21))  # 8 MiB
        return logits

    plant(monkeypatch, lambda model: FaultyEngine(model, leak))
    with pytest.raises(
        ProofError, match=r"is not proven: soak: host memory grew by \d+\.\d MiB once settled, limit 50"
    ):
        prove_engine(proof(limits=replace(ROOMY, host_growth_mib=50)), OUT)
    assert len(report()["failures"]) == 1


def test_a_wrong_logit_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(logits: Tensor) -> Tensor:
        return logits.index_fill(1, torch.tensor([5]), 9.0)

    plant(monkeypatch, lambda model: FaultyEngine(model, spoil))
    message = (
        r"parity, ours_eager, decode, top_k 2, 2 blocks: relative error .*, limit 0.2; .* median error .*transformers'"
    )
    with pytest.raises(ProofError, match=message):
        prove_engine(proof(model=replace(SOURCE, dtype="bfloat16")), OUT)
    assert not any("prefill" in failure or "soak" in failure for failure in report()["failures"])
    assert "- FAILED: parity, ours_eager, decode" in (OUT / "proof.md").read_text()


def test_logits_that_are_no_numbers_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda model: FaultyEngine(model, lambda logits: logits * torch.nan))
    with pytest.raises(ProofError, match=r"relative error inf, limit .*soak: the probe's answer at the end is not"):
        prove_engine(proof(), OUT)
    assert report()["parity"][0]["contestants"]["ours_eager"]["decode_errors"][0] is None


def test_an_answer_that_drifts_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    num_steps = [0]

    def drift(logits: Tensor) -> Tensor:
        num_steps[0] += 1
        return logits * (1 + 1e-6 * num_steps[0])

    plant(monkeypatch, lambda model: FaultyEngine(model, drift))
    with pytest.raises(ProofError) as caught:
        prove_engine(proof(limits=replace(ROOMY, times_stock=1e9)), OUT)
    assert str(caught.value) == (
        "the engine is not proven: soak: the probe's answer in the middle is not bit for bit its first one; "
        "soak: the probe's answer at the end is not bit for bit its first one"
    )


def test_slow_warm_ups_and_switches_are_failures() -> None:
    prove_engine(proof(), OUT)
    content = report()
    content["warm_up"]["empty"] = {"seconds": 61.0}
    content["switching"] |= {"cost_p50_ms": 0.05, "cost_p95_ms": 0.2}
    content["soak"] |= {"allocated_growth_mib": 2.0, "reserved_growth_mib": 10.0}
    assert failures(content, replace(Limits(), host_growth_mib=200)) == [
        "warm-up, empty: took 61.0 s, limit 60 s",
        "switching: costs 0.200 ms at the p95, limit 0.1 ms",
        "soak: allocated memory grew by 2.0 MiB once settled, limit 1 MiB",
    ]


def test_a_fresh_process_warms_up_with_a_model_and_kernels_of_its_own() -> None:
    before = os.environ.get("TRITON_CACHE_DIR")
    with kernel_cache(Path("kernels")):
        assert os.environ["TRITON_CACHE_DIR"] == "kernels"
        settings = proof().settings(MolmoConfig.from_hf(SOURCE.hf_config()))
        assert warm_up_in_fresh_process("eager", SOURCE, "cpu", settings, capacity=16).seconds >= 0
    assert os.environ.get("TRITON_CACHE_DIR") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": (2,), "num_active_blocks": (2,)}, "need two settings to switch between"),
        ({"top_k": (2, 99)}, "top_k: must be 1 to 8"),
        ({"capacity": 8}, "parity.prompt_tokens: the longest request has 10 tokens, there is room for 8"),
        ({"model": ModelSource(name="nowhere")}, "'nowhere' is neither a directory nor a hub id"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prove_engine(proof(**changes), OUT)
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("plan", "changes", "message"),
    [
        (SwitchPlan, {"repeats": 0}, "switching.repeats: must be 1 or more, got 0"),
        (ParityPlan, {"prompt_tokens": ()}, "parity.prompt_tokens: needs lengths of at least 1"),
        (ParityPlan, {"steps": 0}, "parity.steps: must be 1 or more, got 0"),
        (SoakPlan, {"num_settled": 1000}, "soak.num_requests: needs 1 <= num_settled < num_requests"),
        (SoakPlan, {"output_tokens": (3, 2)}, r"soak.output_tokens: .* got \(3, 2\)"),
        (Limits, {"switch_ms": 0}, "limits.switch_ms: must be above 0, got 0"),
    ],
)
def test_plans_refuse_what_makes_no_sense(plan: Callable[..., object], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_the_command_line_runs_it_and_a_failure_ends_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {
        "proof": {
            "model": {"name": "tiny", "random_weights": True, "dtype": "float32"},
            "engine": "eager",
            "top_k": [2, 3],
            "num_active_blocks": [2],
            "capacity": 32,
            "switching": {"prompt_tokens": 2, "warmup": 0, "repeats": 1},
            "parity": {"prompt_tokens": [3], "steps": 1},
            "soak": {"num_requests": 2, "num_settled": 1, "crops": [0], "text_tokens": [3], "output_tokens": [1, 2]},
            "limits": {"switch_ms": 1000.0, "host_growth_mib": 200.0},
        },
        "output_dir": "out",
        "num_threads": 1,
    }
    Path("proof.yaml").write_text(yaml.safe_dump(fields))
    monkeypatch.setattr("sys.argv", ["main.py", "engine-proof", "--config", "proof.yaml"])
    assert main.main() == 0
    assert "wrote out/proof.json and out/proof.md" in capsys.readouterr().out
    plant(monkeypatch, lambda model: FaultyEngine(model, lambda logits: logits + 9))
    assert main.main() == 1
    assert capsys.readouterr().err.startswith("error: the engine is not proven: parity, ours_eager, decode, top_k 2")


@pytest.mark.parametrize("name", ["proof_cpu", "proof_h200"])
def test_every_config_fits_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parser = auto_parser(prove_engine)
    config = parser.parse_object(yaml.safe_load((ROOT / "configs" / "bench" / f"{name}.yaml").read_text()))
    whole: Proof = parser.instantiate_classes(config).proof
    model_config = MolmoConfig.from_hf(whole.model.hf_config())
    whole.check(model_config)
    assert len(whole.settings(model_config)) == {"proof_cpu": 4, "proof_h200": 25}[name]
