"""A Molmo as it is trained: logits of the text behind the image, and what vision tokens are said to show and where."""

# Shape suffixes: B = requests, S = ids of the text, V = vocabulary, C = crops, T = pooled tokens in a crop, D = width,
# W = patches in a pooling window, L = labels, I = ids in front of the text, A = axes, P = places along an axis.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.config import MolmoConfig
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo, token_positions
from models.patch_labels import PatchLabels
from models.token_places import TokenPlaces
from models.trained_block import Routing, TrainedBlock


@dataclass(frozen=True, kw_only=True)
class TrainingLogits:
    """What a model says about a batch.

    Args:
        text: ``(batch, text, embedding_size)``: which id follows.
        labels: Of ``PatchLabels``, from the vision tokens as they enter the language model.
        places: Of ``TokenPlaces``, halfway through it.
        routing: What the routers did, block by block; empty for a dense model.
    """

    text: Tensor
    routing: Sequence[Routing]
    labels: Tensor | None = None
    places: Tensor | None = None


class TrainableMolmo(nn.Module):
    """A model with the heads that only its training needs.

    Args:
        config: Shape of the model.
        num_labels: How many things a patch may show; 0 leaves that head out.
    """

    def __init__(self, config: MolmoConfig, num_labels: int) -> None:
        super().__init__()
        self.molmo = Molmo(config)
        self.patch_labels = PatchLabels(config.hidden_dim, num_labels) if num_labels else None
        self.token_places = TokenPlaces(config.hidden_dim)
        self._run_block = TrainedBlock()

    def compile_parts(self) -> None:
        """Compile what most of the time goes to, when it first runs: parts of blocks, vision encoder, connector."""
        self._run_block.compile()
        for part in (*self.molmo.vision_encoder.blocks, self.molmo.connector):
            part.compile(dynamic=True)

    def forward(
        self, inputs: ModelInputs, setting: KnobSetting, *, num_text_ids: int, wants_labels: bool
    ) -> TrainingLogits:
        """Run a batch whose texts are the last ids of each request.

        Places are read after the first half of the blocks that run: what is named there the other half can use.

        Args:
            inputs: The batch; padding is behind the texts.
            setting: Knobs of the whole batch.
            num_text_ids: Ids of a text, its padding included.
            wants_labels: Whether to say what patches show and where vision tokens are, where there are images.
        """
        model = self.molmo.language_model
        vision_tokens_BCTD = self.molmo.encode_images(inputs)
        blocks = setting.active_blocks
        half = (len(blocks) + 1) // 2
        routing: list[Routing] = []
        run_blocks = partial(
            model.run_blocks,
            positions_BS=token_positions(inputs),
            top_k=setting.top_k,
            run_block=partial(self._run_block, routing),
        )
        halfway_BSD = run_blocks(self.molmo.embed(inputs, vision_tokens_BCTD), active_blocks=blocks[:half])
        hidden_BSD = run_blocks(halfway_BSD, active_blocks=blocks[half:], first_slot=half)
        text_BSV = model.head(model.norm(hidden_BSD[:, -num_text_ids:]))
        if not wants_labels or vision_tokens_BCTD is None:
            return TrainingLogits(text=text_BSV, routing=routing)
        return TrainingLogits(
            text=text_BSV,
            routing=routing,
            labels=self.patch_labels(vision_tokens_BCTD) if self.patch_labels is not None else None,
            places=self.token_places(halfway_BSD[:, :-num_text_ids]),
        )


def converted(parameters: Iterable[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Convert parameters of one type to another, and their gradients back, in a few kernels for all of them."""
    return cast("tuple[Tensor, ...]", _Converted.apply(dtype, *parameters))  # type: ignore[no-untyped-call]


class _Converted(torch.autograd.Function):
    """A parameter that nothing has used gets no gradient, rather than zeros, so that the optimizer leaves it alone."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtype = parameters[0].dtype
        return _copied(parameters, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        copies = iter(_copied([gradient for gradient in gradients if gradient is not None], ctx.dtype))
        return (None, *(None if gradient is None else next(copies) for gradient in gradients))


def _copied(tensors: Iterable[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    sources = list(tensors)
    copies = [torch.empty_like(source, dtype=dtype) for source in sources]
    torch._foreach_copy_(copies, sources)
    return tuple(copies)
