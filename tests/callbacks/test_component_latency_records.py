"""The records of ``ComponentLatency``: what is written, when it is refused, and what a failure leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import callbacks
from callbacks.component_latency import ComponentLatency
from models.stages import DECODE, PREFILL, PROJECTOR, TOTAL, VISION_ENCODER
from profiling.records import read_profile
from profiling.schema import PART_NAMES
from tests.patched_clock import Squares, patch_clock
from tests.small_models import tiny_config, tiny_inputs
from tests.timed_modules import BROKEN, Answers, Batches, DescribedMarked, Marked, requests
from tests.timed_runs import (
    LEVELS,
    WHOLE,
    batch_times_ms,
    expected_log,
    is_anyone_listening,
    log_of_training,
    log_of_validating,
    quiet_trainer,
)

ROOT = Path(callbacks.__file__).parents[1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Squares:
    return patch_clock(monkeypatch)


def _records(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_profile(f"records/{name}.jsonl").columns.to_pylist()
    return rows


def _recorded_ms(name: str) -> dict[str, list[float]]:
    """Return the times of a file of records as ``batch_times_ms`` does."""
    rows = _records(name)
    return {field.removesuffix("_ms"): [row[field] for row in rows] for field in (*PART_NAMES, "total_ms")}


@pytest.mark.usefixtures("clock")
def test_records_hold_each_request_and_its_times() -> None:
    callback = ComponentLatency(warmup_batches=1, records_dir="records")
    logged = log_of_validating(callback, requests(3), Answers())
    samples_ms = batch_times_ms(13, 2, num_around=2)
    assert _recorded_ms("val-0") == samples_ms
    assert logged == expected_log("val", samples_ms)
    first, second = _records("val-0")
    kept = (tiny_config().tokens_per_crop + 1) // 2
    assert (first["sample_id"], second["sample_id"]) == (f"{2 * kept} vision tokens", f"{3 * kept} vision tokens")
    assert (first["vision_tokens"], first["text_tokens"], first["output_tokens"]) == (2 * kept, 5, 3)
    assert first["decode_per_token_ms"] == samples_ms[DECODE][0] / 2
    environment = read_profile("records/val-0.jsonl").environment
    assert (environment.model, environment.engine, environment.dtype) == ("tiny", "eager", "float32")
    assert environment.random_weights


@pytest.mark.usefixtures("clock")
def test_each_stage_of_a_fit_has_its_own_records() -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0, records_dir="records"), max_epochs=2)
    trainer.fit(Answers(), requests(2), requests(1))
    # An epoch makes 2 * 8 marks and 12 more; a training step gives a loss, no tokens, and decodes nothing.
    for name, first_marks, components, num_around in (
        ("train-0", (1, 29), (VISION_ENCODER, PROJECTOR, PREFILL), 1),
        ("val-0", (17, 45), WHOLE, 2),
    ):
        num_batches = 2 if name == "train-0" else 1
        epochs = [batch_times_ms(first, num_batches, components, num_around=num_around) for first in first_marks]
        expected = {key: epochs[0][key] + epochs[1][key] for key in epochs[0]}
        assert _recorded_ms(name) == {DECODE: [0.0] * 4, **expected}
    assert sorted(path.name for path in Path("records").iterdir()) == ["train-0.jsonl", "val-0.jsonl"]


@pytest.mark.usefixtures("clock")
def test_one_output_token_costs_no_decode() -> None:
    callback = ComponentLatency(warmup_batches=0, records_dir="records")
    logged = log_of_validating(callback, requests(1), Answers(num_new_tokens=1))
    (record,) = _records("val-0")
    assert record["decode_ms"] == 0
    assert record["decode_per_token_ms"] is None
    # What is logged is what was heard: the loop's own bookkeeping.
    assert logged["val/latency_p50_ms/decode"] == 10**2 - 9**2


@pytest.mark.usefixtures("clock")
def test_a_request_without_image_costs_no_vision() -> None:
    callback = ComponentLatency(warmup_batches=0, records_dir="records")
    inputs = tiny_inputs(tiny_config())
    logged = log_of_validating(callback, Batches([type(inputs)(input_ids=inputs.input_ids)]), Answers())
    samples_ms = batch_times_ms(1, 1, (PREFILL, DECODE), num_around=2)
    assert logged == expected_log("val", samples_ms)
    assert _recorded_ms("val-0") == {VISION_ENCODER: [0.0], PROJECTOR: [0.0], **samples_ms}


def test_a_module_that_cannot_describe_requests_is_refused_before_anything_runs(clock: Squares) -> None:
    class HalfDescribed(Marked):
        def describe_model(self) -> dict[str, str]:
            return {}

    for module in (Marked(), HalfDescribed()):
        trainer = quiet_trainer(ComponentLatency(records_dir="records"))
        expected = f"records_dir: {type(module).__name__} has no describe_model and describe_request"
        with pytest.raises(ValueError, match=expected):
            trainer.fit(module, Batches([WHOLE]), Batches([WHOLE]))
        assert module.num_steps == 0
    assert clock.num_marks == 0
    assert not Path("records").exists()


def test_a_batch_without_prefill_cannot_become_a_record(clock: Squares) -> None:
    callback = ComponentLatency(warmup_batches=0, records_dir="records")
    with pytest.raises(ValueError, match=r"records_dir: a batch ran no prefill.*leave records_dir out"):
        log_of_validating(callback, Batches([WHOLE, (VISION_ENCODER,)]), DescribedMarked())
    assert len(_records("val-0")) == 1
    assert not is_anyone_listening(clock)
    assert log_of_validating(ComponentLatency(warmup_batches=0), Batches([(VISION_ENCODER,)])).keys() == {
        f"val/latency_p{level}_ms/{name}" for level, name in product(LEVELS, (VISION_ENCODER, TOTAL))
    }


def test_a_description_without_output_tokens_is_named() -> None:
    class Forgetful(DescribedMarked):
        def describe_request(self, batch: Sequence[str], outputs: Any) -> dict[str, Any]:
            fields = dict(super().describe_request(batch, outputs))
            del fields["output_tokens"]
            return fields

    with pytest.raises(ValueError, match=r"output_tokens\s+Field required"):
        log_of_validating(ComponentLatency(warmup_batches=0, records_dir="records"), Batches([WHOLE]), Forgetful())


@pytest.mark.parametrize("stages", [(BROKEN,), (PREFILL, BROKEN)])
def test_an_exception_keeps_the_records_and_the_next_run_starts_clean(clock: Squares, stages: tuple[str, ...]) -> None:
    callback = ComponentLatency(warmup_batches=1, records_dir="records")
    module = DescribedMarked()
    with pytest.raises(OSError, match="no answer"):
        quiet_trainer(callback).fit(module, Batches([WHOLE, WHOLE, WHOLE, stages, WHOLE]), Batches([WHOLE]))
    assert not is_anyone_listening(clock)
    broken_off = batch_times_ms(11, 2)
    assert _recorded_ms("train-0") == broken_off

    num_marks = clock.num_marks
    logged = log_of_training(callback, Batches([WHOLE] * 3), module=module)
    again = batch_times_ms(num_marks + 11, 2)
    assert logged == expected_log("train", again)
    assert _recorded_ms("train-0") == {name: broken_off[name] + again[name] for name in again}
    assert not is_anyone_listening(clock)


TWO_PROCESSES = """
import json
import os
import warnings
from pathlib import Path

from lightning import Trainer
from lightning.fabric.utilities.warnings import PossibleUserWarning

import profiling.clock
from callbacks.component_latency import ComponentLatency
from models.stages import COMPONENTS, PREFILL
from tests.patched_clock import Squares
from tests.timed_modules import Batches, DescribedMarked

warnings.simplefilter("error", PossibleUserWarning)
rank = int(os.environ.get("LOCAL_RANK", "0"))
source = Squares()
source.num_marks = 100 * rank
profiling.clock.time_source = lambda _: source
batches = Batches([COMPONENTS if rank else (PREFILL,)] * 3)
trainer = Trainer(
    accelerator="cpu", strategy="ddp", devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, callbacks=[ComponentLatency(warmup_batches=1, records_dir="records")],
)
trainer.fit(DescribedMarked(), batches, batches)
logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
Path(f"logged-{rank}.json").write_text(json.dumps(logged))
"""


@pytest.mark.slow
def test_two_processes_log_alike_and_record_apart() -> None:
    Path("run.py").write_text(TWO_PROCESSES)
    subprocess.run(
        [sys.executable, "run.py"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    expected: dict[str, Any] = {}
    # The first process runs prefills of 4 marks a batch, the second all components with 10.
    for of_stage, first_marks in (("train", (5, 111)), ("val", (17, 141))):
        first, second = batch_times_ms(first_marks[0], 2, (PREFILL,)), batch_times_ms(first_marks[1], 2)
        expected |= expected_log(of_stage, {name: first.get(name, []) + second[name] for name in second})
        assert _recorded_ms(f"{of_stage}-0") == {name: first.get(name, [0.0, 0.0]) for name in second}
        assert _recorded_ms(f"{of_stage}-1") == second
        assert {row["sample_id"] for row in _records(f"{of_stage}-1")} == {"rank1"}
    assert json.loads(Path("logged-0.json").read_text()) == expected
    assert json.loads(Path("logged-1.json").read_text()) == expected
