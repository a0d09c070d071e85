"""An observer that writes down what each process of a run has done, step by step."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_modules.vlm import VLMModule
from models.language_model import Block
from profiling.vlm_batch import VLMBatch


class StepNotes(Callback):
    """Write ``notes_<rank>.json``: what each step was given, which blocks ran and learned; and the weights' digest."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to the parts that tell the setting."""
        molmo = cast("VLMModule", pl_module).network.molmo
        molmo.vision_encoder.patch_embedding.register_forward_pre_hook(self._note_crops)
        for index, block in enumerate(molmo.language_model.blocks):
            router = cast("nn.Module", cast("nn.Module", cast("Block", block).ffn).router)
            router.register_forward_pre_hook(lambda _, inputs, index=index: self._note_experts(index, inputs[1]))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: VLMBatch, batch_idx: int
    ) -> None:
        """Begin the notes of a step."""
        self.steps.append({"texts": _digest({"ids": batch.text_ids}), "num_samples": len(batch), "experts": {}})

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note which blocks have a gradient."""
        network = cast("VLMModule", pl_module).network
        routers = [weight for name, weight in network.named_parameters() if name.endswith("router.linear.weight")]
        self.steps[-1]["learned"] = [index for index, weight in enumerate(routers) if weight.grad is not None]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what was noted."""
        weights = _digest(dict(cast("VLMModule", pl_module).network.named_parameters()))
        notes = {"steps": self.steps, "weights": weights}
        Path(f"notes_{trainer.global_rank}.json").write_text(json.dumps(notes))

    def _note_crops(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.steps:
            self.steps[-1]["crops"] = len(inputs[0]) // self.steps[-1]["num_samples"]

    def _note_experts(self, index: int, top_k: int) -> None:
        if self.steps:
            self.steps[-1]["experts"][index] = top_k


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = sha256()
    for tensor in tensors.values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
