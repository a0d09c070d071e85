"""Small modules whose steps run stages, for tests of what times them; both can become profile records."""

from collections import UserList
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from models.generation import generate
from models.inputs import ModelInputs
from models.stages import DECODE, stage
from tests.small_models import tiny_config, tiny_inputs, tiny_molmo

BROKEN = "broken"
"""A stage of ``Marked`` that fails."""


class Batches(UserList[Any]):
    """A loader of what it holds; a plain list would be taken for several loaders."""


class Marked(LightningModule):
    """Runs, one after the other, the stages that a batch names, and trains two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.num_steps = 0

    def training_step(self, batch: Sequence[str], batch_idx: int) -> Tensor:
        self._run(batch)
        loss: Tensor = self.layer(torch.ones(1)).square().sum()
        return loss

    def validation_step(self, batch: Sequence[str], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._run(batch)

    def test_step(self, batch: Sequence[str], batch_idx: int) -> None:
        self._run(batch)

    def predict_step(self, batch: Sequence[str], batch_idx: int) -> int:
        self._run(batch)
        return len(batch)

    def on_validation_epoch_end(self) -> None:
        """Run a stage outside of every batch: nobody may hear it."""
        self._run([DECODE])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def _run(self, batch: Sequence[str]) -> None:
        self.num_steps += 1
        for name in batch:
            with stage(name):
                if name == BROKEN:
                    raise OSError("no answer")


class DescribedMarked(Marked):
    """Each batch is a request that answered with one token more than it has decode stages."""

    def describe_model(self) -> Mapping[str, Any]:
        return {"engine": "eager", "dtype": "float32", "model": "marked"}

    def describe_request(self, batch: Sequence[str], outputs: Any) -> Mapping[str, Any]:
        return {
            "sample_id": f"rank{self.global_rank}",
            "tier": "high",
            "top_k": 0,
            "num_active_blocks": 1,
            "vision_tokens": 0,
            "text_tokens": len(batch),
            "output_tokens": 1 + list(batch).count(DECODE),
        }


class Answers(LightningModule):
    """Trains a small model on the ids of a request; answers a request in every other step.

    Its loss is scaled by a random number, so that a stray draw from the generator changes the weights.
    """

    def __init__(self, num_new_tokens: int = 3) -> None:
        super().__init__()
        self.model = tiny_molmo().train()
        self.num_new_tokens = num_new_tokens

    def training_step(self, batch: ModelInputs, batch_idx: int) -> Tensor:
        logits = self.model(batch)[0, :-1]
        return F.cross_entropy(logits, batch.input_ids[0, 1:]) * torch.rand(())

    def validation_step(self, batch: ModelInputs, batch_idx: int) -> Tensor:
        return generate(self.model, batch, max_new_tokens=self.num_new_tokens).token_ids

    test_step = validation_step
    predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def describe_model(self) -> Mapping[str, Any]:
        return {"engine": "eager", "dtype": "float32", "model": "tiny", "random_weights": True}

    def describe_request(self, batch: ModelInputs, outputs: Any) -> Mapping[str, Any]:
        setting = self.model.full_setting
        num_vision_tokens = int(batch.num_vision_tokens[0])
        return {
            "sample_id": f"{num_vision_tokens} vision tokens",
            "tier": setting.tier,
            "top_k": setting.top_k,
            "num_active_blocks": setting.num_active_blocks,
            "vision_tokens": num_vision_tokens,
            "text_tokens": int(batch.num_tokens[0]) - num_vision_tokens,
            # A training step gives its loss, every other step the tokens of its answer.
            "output_tokens": outputs.shape[1] if isinstance(outputs, Tensor) else 1,
        }


def requests(num_requests: int) -> Batches:
    """Draw requests of one crop, two crops and so on."""
    return Batches(tiny_inputs(tiny_config(), num_crops=1 + i, seed=i) for i in range(num_requests))
