"""Checkpoints that a training has written, read with care and without Lightning: another model's must be refused."""

import pickle
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from models.latency_estimator import LatencyEstimator

MAKER: Final = "made_by"
"""Key of a checkpoint under which the module that wrote it has put its name."""

_ESTIMATOR: Final = "LatencyEstimatorModule"


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint of one of our modules.

    Raises:
        ValueError: If there is no file, or it is no checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: is not a checkpoint, or it is cut")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as err:
        reason = str(err).splitlines()[0]
        raise ValueError(f"{path}: cannot be read as a checkpoint: {reason}") from err
    if not isinstance(checkpoint, dict) or MAKER not in checkpoint:
        raise ValueError(f"{path}: is no checkpoint of this project; expected one that `fit` has written")
    return checkpoint


def check_maker(checkpoint: dict[str, Any], name: str, *, source: str = "checkpoint") -> None:
    """Check that a module of that name has made the checkpoint.

    Raises:
        ValueError: If another one has.
    """
    maker = checkpoint.get(MAKER)
    if maker != name:
        raise ValueError(f"{source}: was made by {maker or 'another program'}, expected one of {name}")


def load_estimator(path: str) -> LatencyEstimator:
    """Load a latency estimator from its checkpoint alone.

    Raises:
        ValueError: If the file is missing, damaged, or no latency estimator's.
    """
    checkpoint = read_checkpoint(path)
    check_maker(checkpoint, _ESTIMATOR, source=path)
    arguments = dict(checkpoint["hyper_parameters"])
    del arguments["loss"]  # of the training
    estimator = LatencyEstimator(**arguments)
    state = checkpoint["state_dict"]
    estimator.load_state_dict({name: state[f"estimator.{name}"] for name in estimator.state_dict()})
    return estimator.requires_grad_(False).eval()
