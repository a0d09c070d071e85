import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

import main
from lightning_modules.adaptive_inference import AdaptiveInferenceModule
from lightning_modules.finished_policy import PolicySource
from lightning_modules.policy_run import PolicyRun
from profiling.adaptive.pace import Pace
from profiling.adaptive.served import Served
from profiling.adaptive.server import Server
from profiling.controllers.outcomes import read_outcomes
from profiling.promises.drift import DriftAlarm
from profiling.promises.guarantee import Level
from profiling.promises.latency_table import fit_latency_table
from profiling.promises.promise import BudgetPromise, Promise, Terms, read_promise
from profiling.schema import Environment
from tests.adaptive_world import PROFILE, SNAPSHOT, write_controller, write_world_of_small_model

CONFIG = str(Path(main.__file__).parent / "configs" / "adaptive_inference" / "cpu.yaml")
OUT = Path("out")


@pytest.fixture(autouse=True)
def _world() -> None:
    write_world_of_small_model()


def run(*words: str, controller: str = "full", promise: str = "null") -> Any:
    arguments = {
        "--model.init_args.snapshot": SNAPSHOT,
        "--model.init_args.profile": f"[{PROFILE}]",
        "--model.init_args.controller": controller,
        "--model.init_args.promise": promise,
        "--model.init_args.output_dir": str(OUT),
        "--data.init_args.datasets": "{suite_scenes: test, suite_counting: test}",
        "--latency_budget": "[40.0, 1000000]",
        "--num_samples": "2",
        "--trainer.enable_progress_bar": "false",
    }
    named = [word for pair in arguments.items() for word in pair]
    return main.cli_main(["test", "--config", CONFIG, *named, *words])


PLACES = {"policy": OUT, "cheap": OUT / "cheap", "patient": OUT / "patient"}


def rows() -> pd.DataFrame:
    return pd.read_parquet(OUT / "requests.parquet")


def totals() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OUT / "totals.json").read_text())
    return found


@pytest.mark.parametrize("kind", ["supervised", "two_stage"])
def test_a_trained_controller_is_run_end_to_end(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(controller=write_controller(kind))
    found = rows()
    assert len(found) == 8
    assert found.groupby("budget_ms").sample_id.nunique().to_dict() == {40.0: 4, 1e6: 4}
    assert (found.latency_ms > found.prefill_ms + found.controller_ms + found.features_ms).all()
    ample = found[found.budget_ms == 1e6]
    assert set(zip(ample.tier, ample.top_k, ample.num_active_blocks, strict=True)) == {("high", 2, 3)}
    found_totals, references = totals()["totals"], totals()["references"]
    assert [each["budget_ms"] for each in found_totals] == [40.0, 1e6, None]
    assert found_totals[1]["adherence"]["value"] == 1.0
    assert set(references) >= {"best_static_per_budget", "oracle_realised", "cheapest", "full", "lut_mean"}
    assert references["oracle_realised"][1] >= references["full"][1]
    for name in ("budgets.png", "examples.png"):
        with Image.open(OUT / name) as image:
            assert image.width > 500
    assert "Clopper-Pearson" in capsys.readouterr().out
    assert (OUT / "totals.md").exists()
    assert (OUT / "totals.tex").exists()


def test_a_policy_is_read_on_the_cpu_wherever_the_trainer_makes_tensors() -> None:
    module = AdaptiveInferenceModule(
        str(OUT), snapshot=SNAPSHOT, controller=write_controller("supervised"), profile=[PROFILE]
    )
    with torch.device("meta"):
        module.configure_model()
    assert module.molmo is not None
    assert module.molmo.language_model.head.weight.device == torch.device("cpu")


def test_a_run_goes_on_where_it_stopped_and_measures_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    answer = Server.answer

    def counted(self: Server, request: Any, image: Any, *, margin: float) -> Any:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(request.budget_ms)
        return answer(self, request, image, margin=margin)

    monkeypatch.setattr(Server, "answer", counted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run()
    journal = OUT / "requests.jsonl"
    before = journal.read_text().splitlines()
    assert len(before) == 1 + 3  # the run, and what was answered; the warm-up is not counted
    monkeypatch.setattr(Server, "answer", answer)
    run()
    after = journal.read_text().splitlines()
    assert after[:4] == before
    assert len(after) == 1 + 8
    stamp = journal.stat().st_mtime_ns
    run()
    assert journal.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match=r"policy.controller: .* 'full' .* with --model.init_args.output_dir"):
        run(controller="random")


def test_fixed_choosers_choose_what_they_always_do() -> None:
    run(controller="low/1/2")
    found = rows()
    # Nothing of the profile, made by another law, says that the lowest setting takes more than its budget.
    assert set(zip(found.tier, found.top_k, found.num_active_blocks, strict=True)) == {("low", 1, 2)}
    assert not found[found.budget_ms > 100].is_infeasible.any()


def write_promise(*, margin: float | None, **policy: Any) -> str:
    outcomes = read_outcomes([PROFILE])
    budgets = tuple(
        BudgetPromise(budget_ms=ms, margin=margin, num_requests=99, num_misses=0, num_infeasible=0, num_truncated=0)
        for ms in (40.0, 1e6)
    )
    Promise(
        policy=policy,
        terms=Terms(budgets_ms=(40.0, 1e6), margins=(0.5, 0.25), level=Level(), denominator="all"),
        budgets=budgets,
        table=fit_latency_table(outcomes, outcomes, alpha=0.05),
        expected_ratio=1.0,
        data_hash="",
        environment=Environment(device="d"),
    ).write(Path("promise.json"))
    return "promise.json"


def test_the_promised_margin_is_kept_back() -> None:
    run(promise=write_promise(margin=0.25))
    assert set(rows().margin) == {0.25}


def test_a_promise_of_another_policy_lends_its_margin_and_is_said_to_promise_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run(promise=write_promise(margin=0.25, controller="best.ckpt", stops_at_deadline=False))
    (said,) = [message for message in caplog.messages if message.startswith("promise:")]
    assert "Nothing is promised: the promise was found with another stops_at_deadline (False then, True now)" in said
    assert "device (d then, " in said
    assert "controller (best.ckpt then, full now)" in said
    assert said.endswith("Not compared, since the promise does not say them: weights.")
    assert set(rows().margin) == {0.25}
    assert totals()["promised"].startswith("Nothing is promised: the promise was found with another")
    for text in (capsys.readouterr().out, (OUT / "totals.md").read_text()):
        assert "Nothing is promised: the promise was found" in " ".join(text.split())


def test_what_is_promised_to_the_policy_that_was_calibrated_is_said(caplog: pytest.LogCaptureFixture) -> None:
    source = PolicySource(snapshot=SNAPSHOT, controller="full", profile=[PROFILE])
    policy = source.load()
    write_promise(margin=0.25, **asdict(source))
    promise = replace(read_promise("promise.json"), digests=policy.digests, environment=policy.environment("eager"))
    promise.write(Path("promise.json"))
    run("--latency_budget", "[40.0, 41.0, 42.0]", promise="promise.json")
    said = "Promised for 40 ms: at most 0.05 missed, confidence 0.95. Nothing is promised for 41, 42 ms."
    assert totals()["promised"] == said
    (told,) = [message for message in caplog.messages if message.startswith("promise:")]
    assert told in {f"promise: Nothing is promised for {budget} ms." for budget in (41, 42)}


def test_a_changed_checkpoint_of_the_same_name_is_another_controller() -> None:
    source = PolicySource(snapshot=SNAPSHOT, controller=write_controller("supervised"), profile=[PROFILE])
    before = source.digests()
    assert source.digests() == before
    write_controller("two_stage")
    after = source.digests()
    assert [name for name in before if before[name] != after[name]] == ["controller"]


def test_without_a_promise_nothing_is_promised_and_no_drift_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DriftAlarm, "update", None)
    run()
    assert totals()["promised"] == "Nothing is promised."


def test_a_run_that_goes_on_watches_what_was_answered_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []

    def update(_: DriftAlarm, *, measured_ms: float, predicted_ms: float) -> None:
        told.append(measured_ms / predicted_ms)

    monkeypatch.setattr(DriftAlarm, "update", update)
    promise = write_promise(margin=0.25)
    run(promise=promise)
    first, told[:] = list(told), []
    run(promise=promise)
    assert len(first) == 8
    assert told == first


def test_another_run_in_the_folder_reports_what_it_was_asked_and_keeps_the_other_rows() -> None:
    run()
    run("--latency_budget", "[1000000, 2000000]", "--num_samples", "1")
    assert rows().groupby("budget_ms").sample_id.nunique().to_dict() == {1e6: 2, 2e6: 2}
    assert [each["num_requests"] for each in totals()["totals"]] == [2, 2, 4]
    assert len((OUT / "requests.jsonl").read_text().splitlines()) == 1 + 8 + 2
    run()
    assert rows().groupby("budget_ms").sample_id.nunique().to_dict() == {40.0: 4, 1e6: 4}


def test_references_are_looked_up_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(_training: Any, _test: Any, budgets_ms: Any) -> dict[str, list[float]]:
        calls.append(budgets_ms)
        return {}

    monkeypatch.setattr("lightning_modules.policy_run.reference_goodputs", counted)
    run()
    assert calls == [[40.0, 1e6]]


def test_too_few_samples_to_bound_any_time_are_refused() -> None:
    write_world_of_small_model(num_images=54)  # a third of them for calibration
    with pytest.raises(ValueError, match=r"profile: part calibration: 19 or more samples .* has more than 18"):
        run()
    run("--model.init_args.checks_time", "false")  # needs no bound


RIVALS = "{cheap: {controller: cheapest}, patient: {stops_at_deadline: false, online_margin: true}}"


def test_rivals_answer_each_request_in_turn_with_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[Any, str]] = []
    take = PolicyRun.take

    def noted(self: PolicyRun, request: Any, image: Any) -> Served:
        turns.append((request.key, self.output_dir.name))
        return take(self, request, image)

    monkeypatch.setattr(PolicyRun, "take", noted)
    run("--model.init_args.rivals", RIVALS, controller="low/1/2")
    folders = [OUT.name, "cheap", "patient"]
    assert len(turns) == 8 * 3
    for number in range(8):
        group = turns[3 * number : 3 * number + 3]
        first = number % 3
        assert [folder for _, folder in group] == [*folders[first:], *folders[:first]]
        assert len({key for key, _ in group}) == 1
    found = {name: pd.read_parquet(folder / "requests.parquet") for name, folder in PLACES.items()}
    assert {len(rows) for rows in found.values()} == {8}
    assert set(found["policy"].top_k) == {1}
    assert not found["patient"].is_truncated.any()
    comparison = json.loads((OUT / "comparison" / "comparison.json").read_text())
    assert [each["name"] for each in comparison["runs"]] == ["low/1/2", "cheap", "patient"]
    before = {place: (place / "requests.jsonl").stat().st_mtime_ns for place in PLACES.values()}
    run("--model.init_args.rivals", RIVALS, controller="low/1/2")  # everything is there
    assert before == {place: (place / "requests.jsonl").stat().st_mtime_ns for place in PLACES.values()}
    with pytest.raises(ValueError, match=r"rivals.* this one has None; .* --model.init_args.output_dir"):
        run(controller="low/1/2")


def test_rivals_share_the_weights() -> None:
    module = AdaptiveInferenceModule(
        str(OUT), snapshot=SNAPSHOT, controller="full", profile=[PROFILE], rivals={"cheap": {"controller": "cheapest"}}
    )
    module.configure_model()
    assert module._others["cheap"].molmo is module.molmo
    assert module._others["cheap"].source.controller == "cheapest"


@pytest.mark.parametrize(
    ("rivals", "message"),
    [
        ("{comparison: {controller: cheapest}}", "rivals: 'comparison': must be the name of a folder"),
        ("{full: {controller: cheapest}}", "rivals: 'full': must be the name of a folder, neither 'full' nor"),
        ("{../away: {controller: cheapest}}", "must be the name of a folder"),
        ("{half: {dtype: bfloat16}}", "rivals: half: dtype: must be one of checks_time, controller, "),
        ("{bold: {checks_time: perhaps}}", "rivals: bold: checks_time: .* valid boolean, got 'perhaps'"),
        ("{lone: {profile: x.parquet}}", "rivals: lone: profile: .* valid list, got 'x.parquet'"),
    ],
)
def test_a_rival_that_cannot_be_one_is_told(rivals: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run("--model.init_args.rivals", rivals)


def test_where_nothing_is_promised_the_safest_margin_is_kept_back_and_may_follow_what_happens() -> None:
    run("--model.init_args.online_margin", "true", promise=write_promise(margin=None))
    found = rows()
    loose = found[found.budget_ms > 100].margin.tolist()
    assert max(loose) == 0.5
    assert sorted(loose, reverse=True) == pytest.approx([0.5 - 0.05 * 0.05 * i for i in range(4)])


@pytest.mark.parametrize("tracks", [True, False])
def test_a_policy_that_tracks_the_pace_learns_from_every_request(
    monkeypatch: pytest.MonkeyPatch, *, tracks: bool
) -> None:
    told: list[tuple[float, float]] = []

    def update(_: Pace, *, measured_ms: float, expected_ms: float) -> None:
        told.append((measured_ms, expected_ms))

    monkeypatch.setattr(Pace, "update", update)
    run("--model.init_args.tracks_pace", str(tracks).lower())
    served = list(rows()[["latency_ms", "expected_ms"]].itertuples(index=False, name=None))
    assert told[1:] == (served if tracks else [])  # the first request is run once before, uncounted


def test_without_stopping_no_answer_is_cut() -> None:
    run("--model.init_args.stops_at_deadline", "false", "--latency_budget", "0.001")
    found = rows()
    assert not found.is_truncated.any()
    assert found.is_infeasible.all()
    assert totals()["totals"][0]["adherence"]["value"] == 0.0


def test_with_stopping_an_impossible_budget_leaves_one_token() -> None:
    run("--latency_budget", "0.001")
    assert set(rows().output_tokens) == {1}


@pytest.mark.parametrize("budget", ["0", "-5", ".nan", "[40, -1]", "[]"])
def test_a_wrong_budget_is_told(budget: str) -> None:
    with pytest.raises(ValueError, match=r"latency_budget: "):
        run("--latency_budget", budget)


def test_a_budget_in_words_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--latency_budget", "soon")
    assert "latency_budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model.init_args.controller", "nobody"), "controller: must be a checkpoint"),
        (("--model.init_args.controller", "none.ckpt"), r"none.ckpt: no such checkpoint file"),
        (("--model.init_args.promise", "none.json"), r"none.json: no such file; `calibrate` writes one"),
        (("--model.init_args.profile", "null"), "stops_at_deadline: how long a token takes must be known"),
        (("--model.init_args.num_examples", "-1"), "num_examples: must be 0 or more, got -1"),
    ],
)
def test_what_is_missing_is_named(words: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*words)
