import re
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import Trainer

import main
from datamodules.question import QuestionDataModule
from lightning_modules.answer import AnswerModule
from lightning_modules.finished_policy import PolicySource
from models.checkpoint import load_molmo, read_hf_config
from models.generation import generate
from models.knobs import KnobSetting, own_grid
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.datasets.catalogue import read_dataset
from profiling.promises.guarantee import Level
from profiling.promises.promise import BudgetPromise, Promise, Terms
from profiling.schema import ProfileRecord
from tests.adaptive_world import PROFILE, write_controller, write_world_of_small_model
from tests.patched_clock import patch_clock
from tests.small_vlm import write_small_snapshot

CONFIG = str(Path(main.__file__).parent / "configs" / "predict.yaml")
QUESTION = "what shape is the biggest?"


@pytest.fixture(autouse=True)
def _snapshot_and_picture() -> None:
    write_small_snapshot(Path("model"))
    (sample,) = read_dataset("suite_scenes", "test", num_samples=1)
    sample.image.open().resize((300, 170)).save("scene.png")


def ask(**changes: Any) -> ProfileRecord:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = AnswerModule("model", **{"max_new_tokens": 5, **changes})
    batches: Any = trainer.predict(module, datamodule=QuestionDataModule("scene.png", QUESTION))
    ((record,),) = batches
    assert isinstance(record, ProfileRecord)
    return record


def answer(tier: str, top_k: int, num_active_blocks: int) -> tuple[str, KnobSetting]:
    """What the model says, asked with nothing of what is tested here."""
    model = load_molmo("model")
    tokenizer, special_tokens = load_tokenizer("model")
    grid = own_grid(read_hf_config(Path("model")))
    assert grid is not None
    setting = grid.setting(tier=tier, top_k=top_k, num_active_blocks=num_active_blocks)
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    image = QuestionDataModule("scene.png", QUESTION)
    image.setup("predict")
    (batch,) = image.predict_dataloader()
    inputs = processor(QUESTION, batch.images[0], tier=grid.tier(tier))
    ids = generate(model, inputs, setting=setting, max_new_tokens=5, stop_token_ids=(special_tokens.eos_id,))
    return processor.decode(ids.token_ids[0].tolist()), setting


def test_everything_is_on_unless_asked_otherwise() -> None:
    record = ask()
    assert (record.prediction, record.active_blocks) == (answer("high", 2, 3)[0], (0, 1, 2))
    assert (record.tier, record.top_k) == ("high", 2)
    assert (record.question, record.dataset, record.sample_id) == (QUESTION, "own", "scene.png")
    assert (record.image_width, record.image_height) == (300, 170)
    assert (record.accuracy, record.metric) == (None, None)


def test_each_knob_can_be_turned() -> None:
    text, setting = answer("low", 1, 2)
    record = ask(tier="low", top_k=1, num_active_blocks=2)
    assert (record.prediction, record.active_blocks) == (text, setting.active_blocks)
    assert (record.tier, record.top_k) == ("low", 1)
    assert text != ask().prediction
    assert ask(top_k=3).top_k == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tier": "huge"}, "tier: must be one of low, medium, high, got 'huge'"),
        ({"top_k": 4}, "top_k: must be one of 1, 2, 3, got 4"),
        ({"num_active_blocks": 1}, "num_active_blocks: must be one of 2, 3, got 1"),
        ({"max_new_tokens": 0}, "max_new_tokens: must be 1 or more, got 0"),
        ({"max_new_tokens": 999}, "exceeds the model's 512 positions"),
    ],
)
def test_a_level_that_the_model_lacks_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(**changes)


def predict(*words: str) -> Any:
    named = ("--image", "scene.png", "--question", QUESTION, "--model.init_args.snapshot", "model")
    return main.cli_main(["predict", "--config", CONFIG, *named, "--trainer.accelerator", "cpu", *words])


def test_the_command_prints_answer_setting_and_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patch_clock(monkeypatch)
    seconds = iter([1.0, 1.5])
    monkeypatch.setattr("profiling.profiler.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    before = set(Path().iterdir())
    predict("--setting.tier", "low", "--setting.num_active_blocks", "2", "--model.init_args.max_new_tokens", "5")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    text, _ = answer("low", 2, 2)
    assert f"question {QUESTION}" in lines
    assert f"answer {text}".strip() in lines
    assert "setting tier low, top_k 2, 2 active blocks" in lines
    # The clock's marks lie at their squares; see the profiler's tests.
    for line in ("preprocess 500.00", "vision encoder 5.00", "projector 9.00", "prefill 13.00", "decode 17.00"):
        assert line in lines
    assert "whole request 599.00" in lines
    assert set(Path().iterdir()) == before


def test_words_that_the_model_was_not_taught_are_named(caplog: pytest.LogCaptureFixture) -> None:
    predict("--question", "Where is the elephant? \N{SNOWMAN}")
    assert "question: the model was taught no such word as elephant, \N{SNOWMAN}" in caplog.messages


def test_a_bad_picture_is_told_before_the_model_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"nowhere.png: no such image"):
        predict("--image", "nowhere.png", "--model.init_args.snapshot", "no_model")
    with pytest.raises(ValueError, match=r"'no_model' is neither a directory nor a hub id"):
        predict("--model.init_args.snapshot", "no_model")


def predict_within(budget: str, *words: str) -> Any:
    chooser = ("--model.init_args.controller", "best_static_per_budget", "--model.init_args.promise", "null")
    return predict("--latency_budget", budget, *chooser, "--model.init_args.profile", f"[{PROFILE}]", *words)


def test_within_a_budget_the_controller_chooses_and_says_what_was_next(capsys: pytest.CaptureFixture[str]) -> None:
    write_world_of_small_model()
    predict_within("100000", "--model.init_args.max_new_tokens", "5")
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    chosen = next(line for line in lines if line.startswith("setting tier"))
    words = chosen.removeprefix("setting tier ").split(", ")
    level = (words[0], int(words[1].removeprefix("top_k ")), int(words[2].split()[0]))
    assert f"answer {answer(*level)[0]}".strip() in lines
    (time_line,) = [line for line in lines if line.startswith("time ")]
    assert "of 100000 ms" in time_line
    assert re.search(r"ms expected for \d tokens?: in time$", time_line)
    assert "margin 0% of the budget kept back" in lines
    assert "chosen, and next in line" in text
    assert sum(line.startswith("tier ") for line in lines) == 5  # the chosen one and four more


def test_a_budget_that_was_not_calibrated_is_said_to_have_no_promise(caplog: pytest.LogCaptureFixture) -> None:
    write_world_of_small_model()
    source = PolicySource(snapshot="model", controller="low/1/2", profile=[PROFILE])
    policy = source.load()
    assert policy.table is not None
    terms = Terms(budgets_ms=(1e5,), margins=(0.1,), level=Level(), denominator="all")
    budget = BudgetPromise(budget_ms=1e5, margin=0.1, num_requests=99, num_misses=0, num_infeasible=0, num_truncated=0)
    Promise(
        policy=asdict(source),
        digests=policy.digests,
        terms=terms,
        budgets=(budget,),
        table=policy.table,
        expected_ratio=1.0,
        data_hash="",
        environment=policy.environment("eager"),
    ).write(Path("promise.json"))
    words = ("--model.init_args.promise", "promise.json", "--model.init_args.controller", "low/1/2")
    predict_within("100000", *words)
    assert not [message for message in caplog.messages if "promise" in message]
    predict_within("90000", *words)
    assert [m for m in caplog.messages if "promise" in m] == ["promise: Nothing is promised for 90000 ms."]


def test_that_a_trained_controller_was_overruled_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write_world_of_small_model()
    predict_within("100000", "--model.init_args.controller", write_controller("supervised"))
    text = capsys.readouterr().out
    assert "note there was time for the full setting, so it ran" in " ".join(text.split())
    assert "tier high, top_k 2, 3 active blocks" in text


def test_where_nothing_is_feasible_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write_world_of_small_model()
    predict_within("0.01")
    text = capsys.readouterr().out
    assert "no setting was expected in time, so the cheapest one ran" in text
    assert "late" in text


@pytest.mark.parametrize("budget", ["0", "-5", ".nan"])
def test_a_wrong_budget_is_told(budget: str) -> None:
    with pytest.raises(ValueError, match="latency_budget: must be a positive number of milliseconds"):
        predict_within(budget)


def test_a_budget_leaves_the_knobs_to_the_controller() -> None:
    with pytest.raises(ValueError, match="latency_budget: the controller chooses the setting"):
        predict_within("50", "--setting.tier", "low")
