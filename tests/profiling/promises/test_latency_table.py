import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from models.knobs import spread_grid
from profiling.controllers.outcomes import Outcomes, read_outcomes
from profiling.promises.latency_table import PARTS, LatencyTable, check_calibration, fit_latency_table
from tests.controller_world import write_world

GRID = spread_grid(16, top_k=(4,), block_counts=(8, 16))


def measured(*, num_images: int, seed: int = 0) -> Outcomes:
    with TemporaryDirectory() as folder:
        path = write_world(Path(folder) / "world.parquet", num_images=num_images, per_image=1, grid=GRID, seed=seed)
        return read_outcomes([path])


def halves(num_images: int = 60) -> tuple[Outcomes, Outcomes]:
    outcomes = measured(num_images=num_images)
    rows = np.arange(len(outcomes))
    return outcomes.take(rows % 2 == 0), outcomes.take(rows % 2 == 1)


@pytest.fixture(scope="module")
def parts() -> tuple[Outcomes, Outcomes]:
    return halves()


def test_what_is_expected_are_the_means_of_requests_with_as_many_vision_tokens(
    parts: tuple[Outcomes, Outcomes],
) -> None:
    training, calibration = parts
    table = fit_latency_table(training, calibration, alpha=0.1)
    tokens_T = training.vision_tokens_NT[0]
    alike = (training.vision_tokens_NT == tokens_T).all(axis=1)
    times = table.expected([int(count) for count in tokens_T])
    np.testing.assert_allclose(times.first_token_ms, training.before_decode_ms_NS[alike].mean(axis=0))
    np.testing.assert_allclose(times.token_ms, training.token_ms_NS[alike].mean(axis=0))
    np.testing.assert_allclose(times.total_ms, training.latency_ms_NS[alike].mean(axis=0))
    # By the law of the world: blocks * (0.3 + 0.02 * top_k + 0.02 * crops), 3 % of noise.
    crops = tokens_T / 20
    expected_ms = [blocks * (0.3 + 0.08 + 0.02 * crop) for crop in crops for blocks in (8, 16)]
    np.testing.assert_allclose(times.prefill_ms, expected_ms, rtol=0.05)


def test_numbers_of_tokens_never_met_take_the_nearest(parts: tuple[Outcomes, Outcomes]) -> None:
    table = fit_latency_table(*parts, alpha=0.1)
    known = [min(tier) for tier in table.by_tokens]
    near = table.expected([count - 3 for count in known])
    np.testing.assert_array_equal(near.total_ms, table.expected(known).total_ms)


def test_kappa_bounds_new_samples_as_often_as_said() -> None:
    covered = []
    table = fit_latency_table(*halves(200), alpha=0.1)
    fresh = measured(num_images=300, seed=7)
    for row, tokens_T in enumerate(fresh.vision_tokens_NT):
        bound_S = table.expected(tokens_T.astype(int).tolist()).first_token_ms * table.kappa.first_token_ms
        covered.append(fresh.before_decode_ms_NS[row] <= bound_S)
    # 0.9 over calibration and sample; 100 samples a kappa and 300 here leave a standard deviation of about 0.035.
    assert np.mean(covered, axis=0) == pytest.approx(0.9, abs=0.1)


def test_too_few_samples_bound_nothing(parts: tuple[Outcomes, Outcomes]) -> None:
    table = fit_latency_table(*parts, alpha=0.01)
    assert np.isinf(table.kappa.total_ms).all()
    assert math.isinf(LatencyTable.from_json(table.to_json()).kappa.total_ms[0])


def test_a_tier_that_could_not_be_bounded_at_any_setting_is_refused(parts: tuple[Outcomes, Outcomes]) -> None:
    _, calibration = parts
    enough = calibration.take(np.arange(19))
    check_calibration(enough, alpha=0.05)
    message = (
        r"19 or more samples of a setting are needed to bound times that 0.05 of requests exceed \(kappa_alpha\); "
        "no setting of tier low has more than 18"
    )
    with pytest.raises(ValueError, match=message):
        check_calibration(calibration.take(np.arange(18)), alpha=0.05)
    with pytest.raises(ValueError, match="99 or more samples"):
        check_calibration(calibration, alpha=0.01)


def test_a_single_setting_with_too_few_samples_is_merely_ruled_out(parts: tuple[Outcomes, Outcomes]) -> None:
    _, calibration = parts
    for column, is_refused in ((0, False), (1, True)):  # the settings of the lowest tier, one after the other
        calibration = without_cells(calibration, rows=range(12, len(calibration)), column=column)
        with pytest.raises(ValueError, match="tier low has more than 12") if is_refused else nullcontext():
            check_calibration(calibration, alpha=0.05)


def without_cells(outcomes: Outcomes, *, rows: range, column: int) -> Outcomes:
    """Forget what a setting took for some samples."""
    runs_NSR = outcomes.latency_runs_NSR.copy()
    runs_NSR[rows, column] = np.nan
    return replace(outcomes, latency_runs_NSR=runs_NSR)


def test_a_table_survives_json(parts: tuple[Outcomes, Outcomes]) -> None:
    table = fit_latency_table(*parts, alpha=0.1)
    again = LatencyTable.from_json(json.loads(json.dumps(table.to_json(), allow_nan=False)))
    tokens_T = [min(tier) for tier in table.by_tokens]
    for name in PARTS:
        np.testing.assert_array_equal(getattr(again.expected(tokens_T), name), getattr(table.expected(tokens_T), name))
        np.testing.assert_array_equal(getattr(again.kappa, name), getattr(table.kappa, name))
    assert again.grid.settings() == table.grid.settings()


def test_a_slower_device_takes_as_much_longer_for_everything(parts: tuple[Outcomes, Outcomes]) -> None:
    table = fit_latency_table(*parts, alpha=0.1)
    tokens_T = [min(tier) for tier in table.by_tokens]
    slower = table.rescaled(1.25).expected(tokens_T)
    for name in PARTS:
        np.testing.assert_allclose(getattr(slower, name), 1.25 * getattr(table.expected(tokens_T), name))
    twice = table.rescaled(1.25).rescaled(0.5)
    assert (table.scale, twice.scale) == (1.0, 0.625)
    content = twice.to_json()
    assert LatencyTable.from_json(content).scale == 0.625
    del content["scale"]  # as in files of earlier versions
    assert LatencyTable.from_json(content).scale == 1.0


def test_something_else_is_no_table() -> None:
    with pytest.raises(ValueError, match="latency table: is not as `calibrate` writes it"):
        LatencyTable.from_json({"grid": GRID.to_json()})
