"""What a model is given: a batch of requests as tensors."""

# Shape suffixes: B = requests, S = ids in the sequence, C = crops (overview first), P = patches in a crop,
# D = numbers in a patch, T = pooled tokens in a crop.

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PAD = -1


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """A batch of requests. Shorter requests and missing crops are padded on the right with -1.

    Args:
        input_ids: ``(batch, sequence)``, int64.
        crops: ``(batch, crops, patches, patch_dim)``, normalised float32; ``None`` without images.
        patch_mask: ``(batch, crops, patches)``, float32: share of each patch that shows the image. Rows of -1 occur in
            the released models' inputs and mean "partly padded".
        token_index: ``(batch, crops, tokens)``, int64: position in ``input_ids`` of each pooled token, negative where
            the token is dropped. Alone it says where vision tokens are that were made before.

    Raises:
        ValueError: If crops or their mask are given without the other two.
    """

    input_ids: Tensor
    crops: Tensor | None = None
    patch_mask: Tensor | None = None
    token_index: Tensor | None = None

    def __post_init__(self) -> None:
        parts = {"crops": self.crops, "patch_mask": self.patch_mask, "token_index": self.token_index}
        if self.crops is None and self.patch_mask is None:
            return
        missing = [name for name, tensor in parts.items() if tensor is None]
        if missing:
            raise ValueError(
                f"inputs: crops, patch_mask and token_index belong together, got no {' and no '.join(missing)}"
            )

    @property
    def valid(self) -> Tensor:
        """``(batch, sequence)`` bool: which ids are not padding."""
        return self.input_ids != PAD

    @property
    def num_tokens(self) -> Tensor:
        """``(batch,)`` int64: ids in each request, vision tokens included."""
        return self.valid.sum(dim=1)

    @property
    def num_vision_tokens(self) -> Tensor:
        """``(batch,)`` int64: image features that reach the language model."""
        if self.token_index is None:
            return torch.zeros(len(self.input_ids), dtype=torch.int64, device=self.input_ids.device)
        return (self.token_index >= 0).flatten(1).sum(dim=1)

    @property
    def is_vision(self) -> Tensor:
        """``(batch, sequence)`` bool: at which ids an image feature reaches the language model."""
        batch, length = self.input_ids.shape
        found_BS = torch.zeros(batch, length + 1, dtype=torch.bool, device=self.input_ids.device)
        if self.token_index is not None:
            index = self.token_index.flatten(1)
            found_BS.scatter_(1, torch.where(index < 0, length, index), True)  # dropped tokens go behind the sequence
        return found_BS[:, :length]

    @property
    def num_crops(self) -> Tensor:
        """``(batch,)`` int64: crops of each request, the overview included."""
        if self.crops is None:
            return torch.zeros(len(self.input_ids), dtype=torch.int64, device=self.input_ids.device)
        return is_crop(self.crops).sum(dim=1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "ModelInputs":
        """Return the same inputs on a device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return ModelInputs(
            input_ids=self.input_ids.to(device, non_blocking=non_blocking),
            crops=move(self.crops),
            patch_mask=move(self.patch_mask),
            token_index=move(self.token_index),
        )


def is_crop(crops_BCPD: Tensor) -> Tensor:
    """Tell crops from the -1 padding of a batch: ``(batch, crops)`` bool."""
    return (crops_BCPD != PAD).flatten(2).any(dim=2)


def collate(requests: Sequence[ModelInputs]) -> ModelInputs:
    """Join requests to one batch, padding ids, crops, masks and indices on the right with -1.

    Raises:
        ValueError: If there is no request, or only some of them have an image.
    """
    if not requests:
        raise ValueError("collate: needs at least one request, got none")
    if len({request.crops is None for request in requests}) > 1:
        raise ValueError("collate: either every request has an image or none has; got some of both")
    return ModelInputs(
        input_ids=_stack([request.input_ids for request in requests]),
        crops=_stack_optional([request.crops for request in requests]),
        patch_mask=_stack_optional([request.patch_mask for request in requests]),
        token_index=_stack_optional([request.token_index for request in requests]),
    )


def _stack_optional(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return _stack(present) if present else None


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate along the batch after padding dimension 1 to the longest."""
    longest = max(tensor.shape[1] for tensor in tensors)

    def pad(tensor: Tensor) -> Tensor:
        trailing = [0] * (2 * (tensor.dim() - 2))
        return F.pad(tensor, [*trailing, 0, longest - tensor.shape[1]], value=PAD)

    return torch.cat([pad(tensor) for tensor in tensors])
