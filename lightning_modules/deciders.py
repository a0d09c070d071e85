"""Trained controllers from their checkpoints, ready to be asked."""

from inspect import signature
from typing import Final

from lightning_modules.controller import ControllerModule
from lightning_modules.grpo_controller import GRPOControllerModule
from lightning_modules.llm_based_controller import LLMBasedControllerModule
from lightning_modules.supervised_controller import SupervisedControllerModule
from lightning_modules.two_stage_controller import TwoStageControllerModule
from profiling.checkpoint_file import read_checkpoint

_KINDS: Final[dict[str, type[ControllerModule]]] = {
    kind.__name__: kind
    for kind in (SupervisedControllerModule, TwoStageControllerModule, GRPOControllerModule, LLMBasedControllerModule)
}


def load_decider(path: str) -> ControllerModule:
    """Load a controller from its checkpoint alone, to be asked on the CPU.

    Raises:
        ValueError: If the file is missing, damaged, or no controller's.
    """
    checkpoint = read_checkpoint(path)
    kind = _KINDS.get(checkpoint["made_by"])
    if kind is None:
        raise ValueError(f"{path}: was made by {checkpoint['made_by']}, expected one of {', '.join(_KINDS)}")
    known = signature(kind).parameters
    controller = kind(**{name: value for name, value in checkpoint["hyper_parameters"].items() if name in known})
    controller.on_load_checkpoint(checkpoint)
    controller.load_state_dict(checkpoint["state_dict"])
    return controller.requires_grad_(False).eval()
