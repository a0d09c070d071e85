"""From a profile table to the tensors that the latency estimator reads."""

import logging

import numpy as np
import torch

from models.config import MolmoConfig
from models.latency_estimator import TARGETS, LatencyRows
from models.latency_terms import COMPONENTS, FEATURES, TERMS, ModelShape, latency_terms, shape_table
from profiling.baselines import nonnegative_coefficients
from profiling.schema import Environment, ProfileError
from profiling.table import ProfileTable

_LOGGER = logging.getLogger(__name__)


def latency_rows(table: ProfileTable) -> LatencyRows:
    """Take features and targets out of a profile; devices are numbered as ``table.codes("device")`` does.

    Times that are absent stay NaN, and so do times of zero: no logarithm has them, and they say that the part did not
    run. A file that lacks the number of crops gets the crops that its vision tokens would fill.

    Raises:
        ProfileError: If a crop count is missing in some rows of a device only.
    """
    device, _ = table.codes("device")
    columns = {name: table.numbers(name) for name in FEATURES}
    columns["num_crops"] = _crops(columns["num_crops"], columns["vision_tokens"], device, table)
    target_ms = np.column_stack([table.numbers(f"{name}_ms") for name in TARGETS])
    target_ms[target_ms == 0] = np.nan
    features = np.column_stack(list(columns.values()))
    return LatencyRows(
        features=torch.from_numpy(features.astype(np.float32)),
        device=torch.from_numpy(device),
        target_ms=torch.from_numpy(target_ms.astype(np.float32)),
        group=torch.full((len(device),), -1),
    )


def model_shape(environment: Environment) -> ModelShape:
    """Return the shape of the model that a profile was measured on; MolmoE-1B's if the file does not say.

    Raises:
        ProfileError: If the file names a shape that is no Molmo's.
    """
    if environment.model_shape is None:
        _LOGGER.info("device %s: the profile names no model shape, MolmoE-1B's is assumed", environment.device)
        return ModelShape()
    try:
        return ModelShape.from_config(MolmoConfig.from_hf(environment.model_shape, source="environment.model_shape"))
    except (ValueError, TypeError) as err:
        raise ProfileError(f"device {environment.device}: {err}") from err


def base_coefficients(rows: LatencyRows, shapes: list[dict[str, int]]) -> list[list[list[float]]]:
    """Fit the physical base of every device by non-negative least squares.

    Returns:
        A coefficient for each device, component and term; zeros for a component that was never measured.
    """
    terms = latency_terms(rows.features, shape_table(shapes)[rows.device]).double().numpy()
    target_ms = rows.target_ms.double().numpy()
    device = rows.device.numpy()
    coefficients = np.zeros((len(shapes), len(COMPONENTS), len(TERMS)))
    for d in range(len(shapes)):
        for c in range(len(COMPONENTS)):
            measured = (device == d) & ~np.isnan(target_ms[:, c])
            if measured.any():
                coefficients[d, c] = nonnegative_coefficients(terms[measured, c], target_ms[measured, c])
    nested: list[list[list[float]]] = coefficients.tolist()
    return nested


def _crops(crops: np.ndarray, vision_tokens: np.ndarray, device: np.ndarray, table: ProfileTable) -> np.ndarray:
    absent = np.isnan(crops)
    if not absent.any():
        return crops
    crops = crops.copy()
    for code, name in enumerate(table.codes("device")[1]):
        rows = device == code
        if absent[rows].any() and not absent[rows].all():
            raise ProfileError(f"device {name}: num_crops is missing in {absent[rows].sum()} of {rows.sum()} rows")
        tokens_per_crop = -(-model_shape(table.environments[name]).num_patches // 4)
        if absent[rows].all():
            crops[rows] = np.ceil(vision_tokens[rows] / tokens_per_crop)
    return crops
