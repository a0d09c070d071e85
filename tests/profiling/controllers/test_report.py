import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from profiling.controllers.baselines import ORACLE_FEATURE_LIMITED, ORACLES, choices_of, fit_baselines
from profiling.controllers.budgets import budget_grid
from profiling.controllers.goodput_plot import plot_goodput
from profiling.controllers.report import Report, make_report
from tests.controller_world import share_out, world_requests

MANDATORY = {
    *("random_feasible", "cheapest", "full", "lut_mean", "lut_p95", "tier_only", "top_k_only", "blocks_only"),
    *("best_static", "best_static_per_budget", "best_static_per_dataset", "knn", "plug_in", *ORACLES),
}


@pytest.fixture(scope="module")
def report() -> Report:
    parts = share_out(world_requests(num_images=400))
    budgets_ms = budget_grid(parts["train"].outcomes)
    policies = fit_baselines(parts["train"], parts["val"], budgets_ms, seed=0)
    choices = choices_of(policies, parts["test"], budgets_ms)
    choices["a_copy_of_knn"] = choices["knn"]
    return make_report(
        choices, parts["test"].outcomes, budgets_ms, reference="knn", subject="synthetic, a device", seed=0
    )


def test_every_mandatory_row_is_there_best_first(report: Report) -> None:
    names = [evaluation.name for evaluation in report.evaluations]
    assert set(names) == {*MANDATORY, "a_copy_of_knn"}
    goodputs = [evaluation.goodput for evaluation in report.evaluations]
    assert goodputs == sorted(goodputs, reverse=True)


def test_choosers_stand_in_the_order_of_what_they_know(report: Report) -> None:
    goodput = {evaluation.name: evaluation.goodput for evaluation in report.evaluations}
    order = ["oracle_realised", "oracle_noise_free", "oracle_feature_limited", "best_static_per_budget", "best_static"]
    assert [goodput[name] for name in order] == sorted((goodput[name] for name in order), reverse=True)
    assert goodput["knn"] > goodput["best_static_per_dataset"] > goodput["random_feasible"]
    assert goodput["best_static_per_budget"] > max(goodput["lut_mean"], goodput["random_feasible"], goodput["cheapest"])
    assert min(goodput, key=goodput.__getitem__) == "full"


def test_regret_is_the_distance_to_the_realised_oracle(report: Report) -> None:
    oracle = report.evaluations[0]
    assert oracle.name == "oracle_realised"
    assert oracle.regret == pytest.approx(0)
    for evaluation in report.evaluations:
        assert evaluation.regret == pytest.approx(oracle.goodput - evaluation.goodput)


def test_the_table_calls_a_tie_a_tie(report: Report) -> None:
    table = report.table()
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert cells["knn"]["verdict"] == "-"
    assert cells["knn"]["difference [95 %]"] == "reference"
    assert cells["a_copy_of_knn"]["verdict"] == "tie"
    assert cells["a_copy_of_knn"]["difference [95 %]"] == "+0.000 [+0.000, +0.000]"
    assert cells["full"]["verdict"] == "worse"
    assert cells["oracle_realised"]["verdict"] == "better"
    assert cells["oracle_feature_limited"]["gap closed"] == "100% [100%, 100%]"
    assert cells["best_static_per_budget"]["gap closed"] == "0% [0%, 0%]"


def test_a_gap_to_an_oracle_that_is_not_ahead_has_no_column(report: Report) -> None:
    behind = {
        name: replace(standing, gap_closed={**standing.gap_closed, ORACLE_FEATURE_LIMITED: None})
        for name, standing in report.standings.items()
    }
    table, summary = (replace(report, standings=behind).table(), replace(report, standings=behind).summary())
    assert "gap closed" not in table.columns
    assert table.columns[-1] == summary.columns[-1] == "of gap to realised"
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "best_static_per_budget to oracle_realised." in table.caption
    alone = replace(report, standings={name: replace(s, gap_closed={}) for name, s in behind.items()})
    assert alone.summary().columns == ("policy", "goodput", "verdict", "in time")
    assert "Gap closed" not in alone.table().caption


def test_files_are_written_and_the_json_says_all(report: Report) -> None:
    report.write(Path("out/report"))
    written = {path.name for path in Path("out/report").iterdir()}
    assert written == {"controllers.json", "controllers.md", "controllers.tex", "goodput.png"}
    content = json.loads(Path("out/report/controllers.json").read_text())
    assert content["environment"]["device"] == "a synthetic device"
    assert content["num_samples"] == len(report.outcomes)
    knn = next(policy for policy in content["policies"] if policy["name"] == "knn")
    assert knn["goodput"]["value"] == pytest.approx(np.mean([budget["goodput"] for budget in knn["budgets"]]))
    assert sum(knn["knob_shares"]["tier"].values()) == pytest.approx(1)
    text = Path("out/report/controllers.md").read_text()
    assert "![Goodput accuracy by budget](goodput.png)" in text
    assert text.count("\n| ") == 2 + len(report.evaluations) + 2 + 15 - 1


def test_the_picture_has_a_curve_and_an_interval_for_each_policy(report: Report) -> None:
    figure = plot_goodput(report.evaluations, report.standings, caption="a device")
    curves, means = figure.axes
    assert len(curves.lines) == len(report.evaluations)
    labels = [label.get_text() for label in means.get_yticklabels()]
    assert labels == [evaluation.name.replace("_", " ") for evaluation in report.evaluations]
    best = report.evaluations[0]
    assert list(np.asarray(curves.lines[0].get_ydata())) == [result.goodput for result in best.budgets]
    goodput = report.standings[best.name].goodput
    assert list(np.asarray(means.lines[0].get_xdata())) == [goodput.low, goodput.high]
    assert "budget (ms)" in curves.get_xlabel()
    assert len(curves.get_xticks()) >= 3
    plt.close(figure)
