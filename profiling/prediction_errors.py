"""Compare predictions with measurements, predictor by predictor, device by device, group by group."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.latency_estimator import TARGETS, LatencyRows
from models.latency_terms import COMPONENTS, FEATURES, latency_terms, shape_table
from profiling.baselines import BASELINES
from profiling.splits import TEST_GROUPS

ESTIMATOR = "estimator"
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What every predictor says about the same rows.

    Args:
        rows: The measured rows.
        median_ms: For each predictor ``(rows, targets)``.
        interval_ms: The ends of the estimator's two-sided interval, ``(rows, targets, 2)``.
        levels: The levels of those two.
    """

    rows: LatencyRows
    median_ms: Mapping[str, Array]
    interval_ms: Array
    levels: tuple[float, float]


def baseline_predictions(train: LatencyRows, test: LatencyRows, shapes: list[dict[str, int]]) -> dict[str, Array]:
    """Fit every baseline on the training rows of each device and component, and predict the test rows.

    Totals add up the components, as the estimator's do.

    Returns:
        For each baseline ``(test rows, targets)`` milliseconds; NaN where a component was never measured.
    """
    known, asked = _inputs(train, shapes), _inputs(test, shapes)
    target_ms = train.target_ms.double().numpy()
    predicted = {name: np.full((len(test.features), len(TARGETS)), np.nan) for name in BASELINES}
    for d, c in product(range(len(shapes)), range(len(COMPONENTS))):
        trains = (train.device == d).numpy() & ~np.isnan(target_ms[:, c])
        tests = (test.device == d).numpy()
        if not trains.any() or not tests.any():
            continue
        for name, baseline in BASELINES.items():
            predict = baseline.fit(known[baseline.reads][trains, c], target_ms[trains, c])
            predicted[name][tests, c] = predict(asked[baseline.reads][tests, c])
    for values in predicted.values():
        values[:, -1] = total_ms(values[:, :-1], test.features.double().numpy())
    return predicted


def _inputs(rows: LatencyRows, shapes: list[dict[str, int]]) -> dict[str, Array]:
    """Return what baselines may read, each ``(rows, components, inputs)``."""
    terms = latency_terms(rows.features, shape_table(shapes)[rows.device])
    features = rows.features[:, None].expand(-1, len(COMPONENTS), -1)
    return {"terms": terms.double().numpy(), "features": features.double().numpy()}


def total_ms(component_ms: Array, features: Array) -> Array:
    """Add up the components of each row; a request without an image runs no vision part."""
    has_image = features[:, FEATURES.index("num_crops")] > 0
    steps = features[:, FEATURES.index("output_tokens")] - 1
    vision_ms = np.where(has_image, np.nansum(component_ms[:, :2], axis=1), 0.0)
    return np.asarray(vision_ms + component_ms[:, 2] + component_ms[:, 3] * steps)


def error_table(predictions: Predictions, devices: list[str]) -> pd.DataFrame:
    """Summarize the errors.

    Returns:
        One row for each device, test group, target and predictor: ``n, mae_ms, rmse_ms, mape, r2, p95_error_ms`` over
        single runs; ``typical_mape`` and ``typical_r2`` against the median of the runs of one request and setting;
        ``noise``, how far single runs lie from that median, relative to them, on average; for the estimator also
        ``coverage``, the share of runs inside its interval; ``is_best`` marks the lowest MAPE.
    """
    target_ms = predictions.rows.target_ms.double().numpy()
    typical_ms, is_first = typical_runs(predictions.rows)
    rows = []
    for (d, device), (g, group), (t, target) in product(*map(enumerate, (devices, TEST_GROUPS, TARGETS))):
        chosen = ((predictions.rows.device == d) & (predictions.rows.group == g)).numpy()
        measured = chosen & ~np.isnan(target_ms[:, t])
        if measured.sum() >= 2:
            found = _target_errors(predictions, t, measured, typical_ms[:, t], is_first)
            rows += [{"device": device, "group": group, "target": target, **row} for row in found]
    frame = pd.DataFrame(rows)
    lowest = frame.groupby(["device", "group", "target"])["mape"].transform("min")
    return frame.assign(is_best=frame["mape"] == lowest)


def _target_errors(
    predictions: Predictions, t: int, measured: Mask, typical_ms: Array, is_first: Mask
) -> list[dict[str, object]]:
    """Summarize the errors of each predictor of one target on some rows."""
    run_ms = predictions.rows.target_ms.double().numpy()[measured, t]
    noise = float((np.abs(run_ms - typical_ms[measured]) / run_ms).mean())
    low_ms, high_ms = predictions.interval_ms[measured, t].T
    inside = (low_ms <= run_ms) & (run_ms <= high_ms)
    cells = measured & is_first
    rows: list[dict[str, object]] = []
    for name, median_ms in predictions.median_ms.items():
        typical = error_summary(median_ms[cells, t], typical_ms[cells])
        rows.append(
            {
                "n": len(run_ms),
                "noise": noise,
                "predictor": name,
                **error_summary(median_ms[measured, t], run_ms),
                "typical_mape": typical["mape"],
                "typical_r2": typical["r2"],
                "coverage": float(inside.mean()) if name == ESTIMATOR else np.nan,
            }
        )
    return rows


def typical_runs(rows: LatencyRows) -> tuple[Array, Mask]:
    """Find the median of the runs that measured the same thing: equal device, group and features.

    Returns:
        For each row ``(rows, targets)`` that median in milliseconds, and ``(rows,)`` whether it is the first of its
        runs, so that each request and setting can be counted once.
    """
    keys = np.column_stack([rows.device, rows.group, rows.features])
    _, first, cell = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    cell = cell.reshape(-1)
    typical_ms = pd.DataFrame(rows.target_ms.double().numpy()).groupby(cell).transform("median").to_numpy()
    is_first = np.zeros(len(keys), dtype=np.bool_)
    is_first[first] = True
    return typical_ms, is_first


def error_summary(predicted_ms: Array, measured_ms: Array) -> dict[str, float]:
    """Return MAE, RMSE, MAPE, R2 and the 95th percentile of the absolute error."""
    error_ms = predicted_ms - measured_ms
    spread = ((measured_ms - measured_ms.mean()) ** 2).sum()
    return {
        "mae_ms": float(np.abs(error_ms).mean()),
        "rmse_ms": float(np.sqrt((error_ms**2).mean())),
        "mape": float((np.abs(error_ms) / measured_ms).mean()),
        "r2": float(1 - (error_ms**2).sum() / spread) if spread > 0 else float("nan"),
        "p95_error_ms": float(np.quantile(np.abs(error_ms), 0.95)),
    }


def compact_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Put each target on one line: every predictor's MAPE in percent, who is best, the estimator's other errors."""
    keys = ["device", "group", "target"]
    mape_pct = errors.assign(mape=errors["mape"] * 100).pivot_table(
        index=keys, columns="predictor", values="mape", sort=False
    )
    own = errors[errors["predictor"] == ESTIMATOR].set_index(keys)
    best = errors[errors["is_best"]].groupby(keys, sort=False)["predictor"].first()
    table = pd.DataFrame({"n": own["n"], ESTIMATOR: mape_pct[ESTIMATOR].map("{:.2f}".format)})
    for name in mape_pct.columns.drop(ESTIMATOR):
        table[name] = mape_pct[name].map("{:.2f}".format)
    details = pd.DataFrame(
        {
            "best": best,
            "noise %": (own["noise"] * 100).map("{:.2f}".format),
            "typical %": (own["typical_mape"] * 100).map("{:.2f}".format),
            "typical R2": own["typical_r2"].map("{:.4f}".format),
            "MAE ms": own["mae_ms"].map("{:.3f}".format),
            "P95 ms": own["p95_error_ms"].map("{:.3f}".format),
            "R2": own["r2"].map("{:.4f}".format),
            "cover %": (own["coverage"] * 100).map("{:.1f}".format),
        }
    )
    return pd.concat([table, details], axis=1).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Write a data frame as a Markdown table."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [list(map(str, row)) for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
