"""What ``ComponentLatency`` logs, when it listens, and that it changes nothing."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

import callbacks
from callbacks.component_latency import ComponentLatency
from models.stages import COMPONENTS, DECODE, PREFILL, PROJECTOR, TOTAL, VISION_ENCODER, observe, stage
from profiling.clock import StageClock
from tests.patched_clock import Squares, patch_clock
from tests.timed_modules import Answers, Batches, DescribedMarked, Marked, requests
from tests.timed_runs import (
    WHOLE,
    batch_times_ms,
    expected_log,
    is_anyone_listening,
    log_of_training,
    log_of_validating,
    logged_by,
    quiet_trainer,
)

ROOT = Path(callbacks.__file__).parents[1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Squares:
    return patch_clock(monkeypatch)


@pytest.mark.usefixtures("clock")
def test_three_batches_log_these_numbers() -> None:
    assert log_of_validating(ComponentLatency(warmup_batches=0), Batches([WHOLE] * 3)) == pytest.approx(
        {
            # 3*3 - 2*2, 13*13 - 12*12 and 23*23 - 22*22 are 5, 25 and 45.
            "val/latency_p50_ms/vision_encoder": 25.0,
            "val/latency_p95_ms/vision_encoder": 43.0,
            "val/latency_p99_ms/vision_encoder": 44.6,
            "val/latency_p50_ms/projector": 29.0,
            "val/latency_p95_ms/projector": 47.0,
            "val/latency_p99_ms/projector": 48.6,
            "val/latency_p50_ms/prefill": 33.0,
            "val/latency_p95_ms/prefill": 51.0,
            "val/latency_p99_ms/prefill": 52.6,
            "val/latency_p50_ms/decode": 37.0,
            "val/latency_p95_ms/decode": 55.0,
            "val/latency_p99_ms/decode": 56.6,
            # 10*10 - 1*1, 20*20 - 11*11 and 30*30 - 21*21 are 99, 279 and 459.
            "val/latency_p50_ms/total": 279.0,
            "val/latency_p95_ms/total": 441.0,
            "val/latency_p99_ms/total": 455.4,
        },
        rel=1e-6,
    )


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A module, three batches for it, and the marks that a batch makes.

    ``generate`` marks a whole request around the components, which a training step does not.
    """

    module: type[LightningModule]
    batches: Batches
    trained: Sequence[str]
    num_around: int


KINDS = [
    pytest.param(Kind(module=Marked, batches=Batches([WHOLE] * 3), trained=WHOLE, num_around=1), id="marked"),
    pytest.param(
        Kind(module=Answers, batches=requests(3), trained=(VISION_ENCODER, PROJECTOR, PREFILL), num_around=2),
        id="molmo",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_logs_training_and_validation(kind: Kind, clock: Squares) -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0))
    trainer.fit(kind.module(), kind.batches, kind.batches)
    trained = expected_log("train", batch_times_ms(1, 3, kind.trained))
    # Validating begins where training ended: the check of two batches before the fit has left no mark.
    first_mark = 1 + 3 * 2 * (len(kind.trained) + 1)
    validated = expected_log("val", batch_times_ms(first_mark, 3, num_around=kind.num_around))
    assert logged_by(trainer) == {**trained, **validated}
    assert not is_anyone_listening(clock)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("command", "prefix"), [("validate", "val"), ("test", "test")])
@pytest.mark.parametrize("kind", KINDS)
def test_validating_and_testing_log_their_own_keys(kind: Kind, command: str, prefix: str) -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0))
    getattr(trainer, command)(kind.module(), kind.batches, verbose=False)
    assert logged_by(trainer) == expected_log(prefix, batch_times_ms(1, 3, num_around=kind.num_around))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", KINDS)
def test_predicting_hands_its_percentiles_to_the_loggers(kind: Kind) -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0), logger=CSVLogger(".", name="run"))
    trainer.predict(kind.module(), kind.batches)
    with Path("run/version_0/metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    logged = {key: float(value) for key, value in row.items() if key != "step"}
    assert logged == expected_log("predict", batch_times_ms(1, 3, num_around=kind.num_around))


@pytest.mark.usefixtures("clock")
def test_a_stage_that_a_batch_runs_twice_adds_up() -> None:
    logged = log_of_validating(ComponentLatency(warmup_batches=0), Batches([(DECODE, PREFILL, DECODE)]))
    # One batch: all percentiles are its time.
    assert logged == expected_log("val", {DECODE: [3**2 - 2**2 + 7**2 - 6**2], PREFILL: [9.0], TOTAL: [8**2 - 1**2]})


@pytest.mark.usefixtures("clock")
def test_a_component_is_summarized_over_the_batches_that_ran_it() -> None:
    logged = log_of_validating(
        ComponentLatency(warmup_batches=0), Batches([(PREFILL,), (), (PREFILL,), (PREFILL, DECODE)])
    )
    assert logged == expected_log(
        "val", {PREFILL: [5.0, 17.0, 25.0], DECODE: [29.0], TOTAL: [15.0, 11.0, 10**2 - 7**2, 16**2 - 11**2]}
    )


def test_the_documentation_lists_every_logged_key() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    section = page.split("## Component latency\n")[1].split("\n## ")[0]
    documented = {
        key.replace("<stage>", of_stage).replace("<component>", component)
        for key in re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)
        for of_stage, component in product(("train", "val", "test", "predict"), (*COMPONENTS, TOTAL))
    }
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0), logger=CSVLogger(".", name="run"))
    module = Marked()
    trainer.fit(module, Batches([WHOLE]), Batches([WHOLE]))
    logged = set(logged_by(trainer))
    trainer.test(module, Batches([WHOLE]), verbose=False)
    logged |= set(logged_by(trainer))
    trainer.predict(module, Batches([WHOLE]))
    header = Path("run/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert logged | {key for key in header if key.startswith("predict/")} == documented


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("callback", "num_warmup"), [(ComponentLatency(), 3), (ComponentLatency(2), 2)])
def test_warm_up_batches_are_not_counted(callback: ComponentLatency, num_warmup: int) -> None:
    logged = log_of_validating(callback, Batches([(PREFILL,)] * 5))
    assert logged == expected_log("val", batch_times_ms(1 + 4 * num_warmup, 5 - num_warmup, (PREFILL,)))


@pytest.mark.usefixtures("clock")
def test_every_epoch_warms_up_and_is_logged_alone() -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=1), max_epochs=2)
    trainer.fit(Marked(), Batches([(PREFILL,)] * 3), Batches([(PREFILL,)] * 2))
    # The first epoch makes 20 marks; the second makes 12 while it trains, of which the first 4 do not count.
    trained = expected_log("train", batch_times_ms(25, 2, (PREFILL,)))
    assert logged_by(trainer) == {**trained, **expected_log("val", batch_times_ms(37, 1, (PREFILL,)))}


@pytest.mark.usefixtures("clock")
def test_an_epoch_over_two_loaders_warms_up_once() -> None:
    trainer = quiet_trainer(ComponentLatency(warmup_batches=1))
    trainer.validate(Marked(), [Batches([(PREFILL,)] * 2), Batches([(PREFILL,)] * 3)], verbose=False)
    assert logged_by(trainer) == expected_log("val", batch_times_ms(5, 4, (PREFILL,)))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_an_epoch_that_is_resumed_warms_up_again(clock: Squares) -> None:
    batches = Batches([(PREFILL,)] * 6)
    before, after = (ModelCheckpoint(name, "middle", every_n_train_steps=3) for name in ("before", "after"))
    log_of_training(before, batches, max_steps=3)
    trainer = quiet_trainer(ComponentLatency(warmup_batches=2), after, limit_val_batches=0)
    trainer.fit(Marked(), batches, batches, ckpt_path="before/middle.ckpt")
    assert clock.num_marks == 3 * 4
    assert logged_by(trainer) == expected_log("train", batch_times_ms(9, 1, (PREFILL,)))


def test_an_epoch_of_nothing_but_warm_up_logs_and_records_nothing() -> None:
    callback = ComponentLatency(warmup_batches=3, records_dir="records")
    assert log_of_validating(callback, Batches([WHOLE] * 3), DescribedMarked()) == {}
    assert not Path("records").exists()


def test_negative_warm_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="warmup_batches: must be 0 or more, got -1"):
        ComponentLatency(warmup_batches=-1)


def _results(*callbacks: Callback) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Train two steps; return the weights, and what the module then answers and draws."""
    torch.manual_seed(0)
    module = Answers()
    trainer = quiet_trainer(*callbacks)
    trainer.fit(module, requests(2), requests(2))
    answers = trainer.predict(module, requests(3))
    assert answers is not None
    return module.state_dict(), [*map(torch.as_tensor, answers), torch.rand(1)]


def test_weights_and_answers_are_those_of_a_run_without_it() -> None:
    weights, answers = _results()
    watched_weights, watched_answers = _results(ComponentLatency(warmup_batches=0, records_dir="records"))
    start = Answers().state_dict()
    assert not all(torch.equal(weights[name], start[name]) for name in start)
    assert weights.keys() == watched_weights.keys()
    assert all(torch.equal(weights[name], watched_weights[name]) for name in weights)
    assert all(map(torch.equal, answers, watched_answers))


def test_nobody_listens_unless_the_callback_is_there(clock: Squares) -> None:
    quiet_trainer().fit(Marked(), Batches([WHOLE] * 2), Batches([WHOLE] * 2))
    assert clock.num_marks == 0


def test_an_observer_around_the_run_hears_the_rest() -> None:
    # It would hear nothing of a stage that another observer hears.
    outer = StageClock("cpu")
    trainer = quiet_trainer(ComponentLatency(), num_sanity_val_steps=1)
    with observe(outer):
        trainer.fit(Marked(), Batches([(PREFILL,)] * 2), Batches([(PREFILL,)] * 2))
        heard = {name: len(times_ms) for name, times_ms in outer.read_ms().items()}
        # One batch of the check before the fit; a stage of the module's own at the end of the check and of the epoch.
        assert heard == {PREFILL: 1, DECODE: 2}
        with stage(PROJECTOR):
            pass
    assert list(outer.read_ms()) == [PROJECTOR]


def test_a_module_that_skips_an_epoch_leaves_nobody_listening(clock: Squares) -> None:
    class Skipping(Marked):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

    callback = ComponentLatency(warmup_batches=0)
    logged = log_of_training(callback, Batches([(PREFILL,)] * 4), module=Skipping(), max_epochs=2)
    # Two batches and the begin of a third were the first epoch.
    assert logged == expected_log("train", batch_times_ms(10, 2, (PREFILL,)))
    assert not is_anyone_listening(clock)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("mode", "best_epoch"), [("min", 0), ("max", 2)])
def test_a_checkpoint_monitors_a_percentile(mode: str, best_epoch: int) -> None:
    checkpoint = ModelCheckpoint("checkpoints", "{epoch}", monitor="val/latency_p95_ms/total", mode=mode)
    trainer = quiet_trainer(ComponentLatency(warmup_batches=0), checkpoint, max_epochs=3)
    trainer.fit(Marked(), Batches([(PREFILL,)] * 2), Batches([(PREFILL,)] * 2))
    # Times only grow here. An epoch makes 16 marks, the last 8 of them while it validates.
    samples_ms = batch_times_ms(9 + 16 * best_epoch, 2, (PREFILL,))
    assert checkpoint.best_model_score == pytest.approx(np.percentile(samples_ms[TOTAL], 95), rel=1e-6)
    assert [path.name for path in Path("checkpoints").iterdir()] == [f"epoch={best_epoch}.ckpt"]


def test_a_run_that_stops_in_the_middle_of_an_epoch_logs_it_and_leaves_nothing(clock: Squares) -> None:
    callback = ComponentLatency(warmup_batches=0)
    logged = log_of_training(callback, Batches([(PREFILL,)] * 4), max_steps=2)
    assert logged == expected_log("train", batch_times_ms(1, 2, (PREFILL,)))
    logged = log_of_training(callback, Batches([(PREFILL,)] * 3))
    assert logged == expected_log("train", batch_times_ms(9, 3, (PREFILL,)))
    assert not is_anyone_listening(clock)


def test_two_of_them_are_refused_before_anything_runs(clock: Squares) -> None:
    trainer = quiet_trainer(ComponentLatency(), ComponentLatency(warmup_batches=0))
    with pytest.raises(ValueError, match="ComponentLatency is there more than once"):
        trainer.validate(Marked(), Batches([WHOLE]), verbose=False)
    assert clock.num_marks == 0
