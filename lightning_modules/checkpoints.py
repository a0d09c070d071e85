"""What our modules write into their checkpoints, and what they refuse when one is put into them."""

from typing import Any

import torch
from lightning import LightningModule

from models.latency_estimator import LatencyEstimator
from profiling.checkpoint_file import MAKER


def stamp(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Write down whose checkpoint it is."""
    checkpoint[MAKER] = type(module).__name__


def check_sizes(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Check that the checkpoint's tensors fit.

    Raises:
        ValueError: If one is missing, unknown or of another size.
    """
    given = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = sorted(name for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name))
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"checkpoint: {len(wrong)} tensors do not fit the configured model, first {first}: "
            f"got {given.get(first, 'nothing')}, expected {wanted.get(first, 'nothing')}"
        )


def select_devices(checkpoint: dict[str, Any], estimator: LatencyEstimator) -> None:
    """Reorder what a checkpoint knows of each device to the devices of an estimator.

    Raises:
        ValueError: If the checkpoint lacks a device, or knows it with another model.
    """
    known = list(checkpoint["hyper_parameters"]["devices"])
    lacking = [device for device in estimator.devices if device not in known]
    if lacking:
        raise ValueError(
            f"checkpoint: knows {', '.join(known)}, but the profiles are of {', '.join(lacking)}; "
            "calibrate-estimator makes a checkpoint for another device"
        )
    index = torch.tensor([known.index(device) for device in estimator.devices])
    state = checkpoint["state_dict"]
    for name in estimator.PER_DEVICE:
        state[f"estimator.{name}"] = state[f"estimator.{name}"][index]
    for device, given, wanted in zip(
        estimator.devices, state["estimator.shape_table"], estimator.shape_table.cpu(), strict=True
    ):
        if not torch.equal(given.cpu(), wanted):
            raise ValueError(f"checkpoint: was trained on another model's shape than the profile of {device} names")
