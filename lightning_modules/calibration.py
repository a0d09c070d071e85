"""The command that brings a trained latency estimator to a new device."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lightning_modules.latency_estimator import LatencyEstimatorModule
from models.latency_calibration import calibrate_device
from models.latency_estimator import TARGETS, LatencyEstimator, LatencyRows
from profiling.checkpoint_file import check_maker, read_checkpoint
from profiling.files import written_whole
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.prediction_errors import baseline_predictions, error_summary
from profiling.records import read_profiles

_NNLS = "nnls"


def calibrate_estimator(
    checkpoint: str, files: list[str], output: str, *, num_rows: int = 50, source: str | None = None, seed: int = 42
) -> None:
    """Fit a trained latency estimator to another device from a few of its rows.

    The rows come from one half of the profile's images; the errors that are printed, before and after, are on the other
    half, beside non-negative least squares on the same few rows. With few rows the far quantiles are infinite: 50 rows
    cannot promise 99 %.

    Args:
        checkpoint: A latency estimator's checkpoint.
        files: Profile files of one device; its label is the profile's.
        output: Where to write the new checkpoint, which knows the old devices and this one.
        num_rows: How many rows to calibrate from.
        source: Device whose residual the new one borrows; the checkpoint's first if not given.
        seed: Of the rows drawn.

    Raises:
        ValueError: If a file is bad, the output exists, or there are too few rows.
    """
    if Path(output).exists():
        raise ValueError(f"{output}: exists already, choose another output")
    old = read_checkpoint(checkpoint)
    check_maker(old, LatencyEstimatorModule.__name__, source=checkpoint)
    table = read_profiles(files)
    label = table.environment.device
    shape = model_shape(table.environment).to_mapping()
    few, rest = _draw(latency_rows(table), table.codes("image_id")[0], num_rows=num_rows, seed=seed)
    coefficients = base_coefficients(few, [shape])[0]
    new, device = _with_device(old, label, shape, coefficients, source=source)
    module = LatencyEstimatorModule(**new["hyper_parameters"])
    module.load_state_dict(new["state_dict"])
    median_ms = {"before": _medians(module.estimator, device, rest)}
    calibrate_device(module.estimator, device, few, fitted=torch.tensor(coefficients), seed=seed)
    median_ms["after"] = _medians(module.estimator, device, rest)
    median_ms[_NNLS] = baseline_predictions(few, rest, [shape])[_NNLS]
    new["state_dict"] = module.state_dict()
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(Path(output)) as partial:
        torch.save(new, partial)
    _print(f"{label}: error on {len(rest.features)} rows after calibration from {num_rows}", median_ms, rest)


def _draw(rows: LatencyRows, image: np.ndarray, *, num_rows: int, seed: int) -> tuple[LatencyRows, LatencyRows]:
    rng = np.random.default_rng(seed)
    images = rng.permutation(np.unique(image))
    in_first_half = np.isin(image, images[: (len(images) + 1) // 2])
    candidates = np.flatnonzero(in_first_half)
    if not 0 < num_rows <= len(candidates) or in_first_half.all():
        raise ValueError(
            f"num_rows: must be 1 to {len(candidates)}, the rows of half the images, with others left, got {num_rows}"
        )
    chosen = torch.from_numpy(rng.choice(candidates, size=num_rows, replace=False))
    rest = torch.from_numpy(np.flatnonzero(~in_first_half))
    return LatencyRows(*(column[chosen] for column in rows)), LatencyRows(*(column[rest] for column in rows))


def _with_device(
    old: dict[str, Any],
    label: str,
    shape: dict[str, int],
    coefficients: list[list[float]],
    *,
    source: str | None,
) -> tuple[dict[str, Any], int]:
    """Return a checkpoint whose device ``label`` is a copy of ``source`` with another model's shape, and its index."""
    arguments = dict(old["hyper_parameters"])
    devices = list(arguments["devices"])
    source = source or devices[0]
    if source not in devices:
        raise ValueError(f"source: the checkpoint knows {', '.join(devices)}, got {source!r}")
    index = [i for i, device in enumerate(devices) if device != label]
    state = dict(old["state_dict"])
    for name in LatencyEstimator.PER_DEVICE:
        tensor = state[f"estimator.{name}"]
        state[f"estimator.{name}"] = torch.cat([tensor[index], tensor[devices.index(source)][None]])
    state["estimator.shape_table"][-1] = torch.tensor(list(shape.values()), dtype=torch.float32)
    arguments["devices"] = [*(devices[i] for i in index), label]
    arguments["shapes"] = [*(arguments["shapes"][i] for i in index), shape]
    arguments["coefficients"] = [*(arguments["coefficients"][i] for i in index), coefficients]
    # What an optimizer remembers no longer fits, so this checkpoint can be tested and used but not resumed.
    kept = {name: value for name, value in old.items() if name not in ("optimizer_states", "lr_schedulers", "loops")}
    return {**kept, "hyper_parameters": arguments, "state_dict": state}, len(index)


def _medians(estimator: LatencyEstimator, device: int, rows: LatencyRows) -> np.ndarray:
    with torch.no_grad():
        quantiles_ms = estimator.quantiles_ms(rows.features, torch.full_like(rows.device, device))
    return np.asarray(quantiles_ms[..., estimator.median_index].double())


def _print(title: str, median_ms: dict[str, np.ndarray], rows: LatencyRows) -> None:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("target", no_wrap=True)
    for name in (*(f"{name} %" for name in median_ms), *(f"{name} ms" for name in median_ms)):
        table.add_column(name, justify="right", no_wrap=True)
    for t, target in enumerate(TARGETS):
        measured_ms = rows.target_ms[:, t].double().numpy()
        known = ~np.isnan(measured_ms)
        if known.any():
            errors = [error_summary(values[known, t], measured_ms[known]) for values in median_ms.values()]
            cells = [f"{100 * error['mape']:.2f}" for error in errors] + [f"{error['mae_ms']:.3f}" for error in errors]
            table.add_row(target, *cells)
    Console().print(table)
    Console().print(
        "%: mean absolute percentage error; ms: mean absolute error; nnls: the physical terms alone, same rows"
    )
