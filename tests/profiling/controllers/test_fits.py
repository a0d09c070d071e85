import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from profiling.controllers.budgets import budget_grid
from profiling.controllers.fits import PARTS, Fit, averaged, knob_table, read_fit, seed_table
from profiling.controllers.learning_curves import plot_learning_curves
from profiling.controllers.outcomes import Outcomes
from tests.controller_world import world

SHARES = dict.fromkeys(PARTS, 0.5)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return world(num_images=30)


def fit_of(outcomes: Outcomes, *, row: str, seed: int, setting: int, val_goodput: list[float]) -> Fit:
    budgets_ms = budget_grid(outcomes)
    return Fit(
        row=row,
        seed=seed,
        recipe="r" * 64,
        budgets_ms=budgets_ms,
        chosen=[[setting] * len(outcomes) for _ in budgets_ms],
        val_goodput=val_goodput,
        label_accuracy=SHARES,
        best_accuracy=SHARES,
        seconds=2.0,
    )


@pytest.fixture
def fits(outcomes: Outcomes) -> dict[str, list[Fit]]:
    return {
        "one": [
            fit_of(outcomes, row="one", seed=0, setting=0, val_goodput=[0.1, 0.4]),
            fit_of(outcomes, row="one", seed=1, setting=17, val_goodput=[0.1, 0.2]),
        ],
        "other": [fit_of(outcomes, row="other", seed=s, setting=5, val_goodput=[0.5, 0.4]) for s in (0, 1)],
    }


def test_the_mean_over_seeds_is_that_of_every_number(outcomes: Outcomes, fits: dict[str, list[Fit]]) -> None:
    parts = [fit.evaluation(outcomes) for fit in fits["one"]]
    mean = averaged("one", parts)
    assert mean.name == "one"
    assert mean.goodput == pytest.approx(np.mean([part.goodput for part in parts]))
    assert mean.goodput == pytest.approx(mean.goodput_N.mean())
    assert mean.adherence == pytest.approx(np.mean([part.adherence for part in parts]))
    assert mean.setting_share_S[[0, 17]].tolist() == [0.5, 0.5]
    first = mean.budgets[0]
    assert first.adherence.low == pytest.approx(np.mean([part.budgets[0].adherence.low for part in parts]))
    assert first.regret == pytest.approx(np.mean([part.budgets[0].regret for part in parts]))


def test_seeds_are_told_best_in_validation_first(outcomes: Outcomes, fits: dict[str, list[Fit]]) -> None:
    table, plain = seed_table(fits, outcomes, default="other", subject="a device")
    assert [row[0] for row in table.rows] == ["other (default)", "one"]
    assert table.rows[1][1] == "0.300 +- 0.141"  # of the best epochs, 0.4 and 0.2
    assert plain[0]["test_goodput"]["std"] == 0
    assert plain[1]["by_seed"].keys() == {"0", "1"}


def test_knobs_stand_beside_the_original_aims(outcomes: Outcomes, fits: dict[str, list[Fit]]) -> None:
    table = knob_table(fits, outcomes, subject="a device")
    assert table.rows[0] == ("aims, tier and rest trained as one", "70", "65", "65", "60", "80")
    assert table.rows[1] == ("aims, two stages trained apart", "75", "65", "65", "60", "80")
    assert table.rows[2][1] == "50.0 (50.0)"


def test_a_fit_is_read_as_it_was_written_and_one_of_another_recipe_is_not(fits: dict[str, list[Fit]]) -> None:
    fit, path = fits["one"][0], Path("fits/one/seed_0.json")
    fit.write(path)
    assert read_fit(path, recipe="r" * 64) == fit
    with pytest.raises(ValueError, match=r"was trained by other configs.*delete it or choose another fits_dir"):
        read_fit(path, recipe="s" * 64)
    path.write_text(json.dumps({"row": "one"}))
    with pytest.raises(ValueError, match=r"seed_0.json: is no result of a fit"):
        read_fit(path, recipe="r" * 64)


def test_choices_of_other_samples_are_refused(outcomes: Outcomes, fits: dict[str, list[Fit]]) -> None:
    fit = fits["one"][0]
    with pytest.raises(ValueError, match=r"one, seed 0: choices: expected shape"):
        replace(fit, chosen=[row[1:] for row in fit.chosen]).evaluation(outcomes)


def test_learning_curves_have_a_line_and_a_band_each(fits: dict[str, list[Fit]]) -> None:
    figure = plot_learning_curves(fits, caption="a device")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["one", "other"]
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), [0.1, 0.3])
    assert len(axes.collections) == 2
    assert axes.get_xlabel() == "epoch"
    plt.close(figure)
