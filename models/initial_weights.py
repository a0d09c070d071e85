"""Weights to start training from."""

import torch
from torch import nn

from models.molmo import Molmo

_EMBEDDING_STD = 0.1  # vision tokens are added to an embedding and should not drown in it
_EMBEDDINGS = ("embedding.weight", "class_embedding", "position_embedding")
_INTO_RESIDUAL = ("attention.out.weight", "mlp.down.weight")


@torch.no_grad()
def initialize(model: Molmo) -> None:
    """Draw weights whose outputs are about as large as their inputs, however narrow the model.

    What attention layers, and the vision encoder's feed-forward layers, add to the residual stream is scaled down by
    its depth; experts are left alone, since their routers' weights scale them. Torch's global generator draws.
    """
    depth_by_part = {"vision_encoder": model.config.vision.num_blocks, "language_model": model.config.num_blocks}
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif name.endswith((".bias", "pad_embedding")):
            nn.init.zeros_(parameter)
        elif name.endswith(_EMBEDDINGS) and "patch_embedding" not in name:
            nn.init.normal_(parameter, std=_EMBEDDING_STD)
        else:
            std = parameter.shape[-1] ** -0.5
            if name.endswith(_INTO_RESIDUAL):
                std *= (2 * depth_by_part[name.partition(".")[0]]) ** -0.5
            nn.init.normal_(parameter, std=std)
