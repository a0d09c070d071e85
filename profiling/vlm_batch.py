"""Questions, pictures and answers as tensors: what a vision-language model is trained and tested on."""

# Shape suffixes: B = samples, S = ids of a text, N = samples with pictures of one size, H, W = that size, R = rows and
# columns of labelled cells.

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from models.inputs import PAD
from profiling.datasets.sample import Sample

IGNORED = -100  # label of an id that is not to be learned
_ALIGNMENT = 4  # texts are padded to few different lengths


@dataclass(frozen=True, kw_only=True)
class VLMBatch:
    """A batch of samples.

    Args:
        text_ids: ``(batch, sequence)``, int64: question and answer as the model reads them, padded with -1.
        labels: ``(batch, sequence)``, int64: the id that follows, ``IGNORED`` where it is no part of an answer.
        pixels: Pictures in the order of the texts, one ``(samples, height, width, 3)`` uint8 tensor for each size.
        cells: ``(batch, rows, columns)``, uint8: what each cell shows, as ``models.patch_labels`` takes it.
        samples: The samples, to score answers by; empty in training.
    """

    text_ids: Tensor
    labels: Tensor
    pixels: tuple[Tensor, ...]
    cells: Tensor
    samples: tuple[Sample, ...] = ()

    def __len__(self) -> int:
        return len(self.text_ids)

    @property
    def images(self) -> list[Tensor]:
        """The pictures with their channels first."""
        return [pixels.permute(0, 3, 1, 2) for pixels in self.pixels]

    @property
    def prompt_ids(self) -> Tensor:
        """The texts without their answers, padded with -1."""
        num_ids = (self.labels != IGNORED).int().argmax(dim=1, keepdim=True) + 1
        place = torch.arange(self.text_ids.shape[1], device=self.text_ids.device)
        return torch.where(place < num_ids, self.text_ids, PAD)[:, : int(num_ids.max())]

    def to(self, device: torch.device | str, **options: object) -> "VLMBatch":
        """Return the batch on a device; Lightning moves batches with this. Memory that is pinned is not waited for."""
        return replace(
            self,
            text_ids=self.text_ids.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            pixels=tuple(pixels.to(device, non_blocking=True) for pixels in self.pixels),
            cells=self.cells.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "VLMBatch":
        """Return the batch in memory that a GPU can read by itself; a ``DataLoader`` pins batches with this."""
        return replace(
            self,
            text_ids=self.text_ids.pin_memory(),
            labels=self.labels.pin_memory(),
            pixels=tuple(pixels.pin_memory() for pixels in self.pixels),
            cells=self.cells.pin_memory(),
        )


def text_tensors(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Join prompts with their answers.

    Args:
        prompts: Ids of each prompt.
        answers: Ids of each answer, with the one that ends it.

    Returns:
        ``text_ids`` and ``labels`` of a batch.
    """
    texts, labels = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        texts.append(torch.tensor([*prompt, *answer[:-1]]))
        labels.append(torch.tensor([*[IGNORED] * (len(prompt) - 1), *answer]))
    return _padded(texts, PAD), _padded(labels, IGNORED)


def _padded(rows: list[Tensor], value: int) -> Tensor:
    padded = pad_sequence(rows, batch_first=True, padding_value=value)
    return F.pad(padded, (0, -padded.shape[1] % _ALIGNMENT), value=value)
