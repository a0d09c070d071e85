"""Samples of datasets as batches that a model answers and that can be scored."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from models.patch_labels import UNKNOWN
from models.processor import format_question
from models.tokenizer import SpecialTokens, Tokenizer
from profiling.datasets.prompt import prompt_text
from profiling.datasets.sample import Sample
from profiling.vlm_batch import VLMBatch, text_tensors


class SampleText:
    """Questions and answers of samples as ids.

    Args:
        tokenizer: Text to ids.
        special_tokens: Knows the id that ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, special_tokens: SpecialTokens) -> None:
        self._tokenizer = tokenizer
        self._eos_id = special_tokens.eos_id

    def prompt_ids(self, sample: Sample) -> list[int]:
        """Return the ids of a sample's question, asked in no style."""
        return self._tokenizer.encode(format_question(prompt_text(sample)))

    def answer_ids(self, sample: Sample) -> list[int]:
        """Return the ids of a sample's first answer and of its end."""
        return [*self._tokenizer.encode(f" {sample.answers[0]}"), self._eos_id]


class FamilyBatches(Dataset[VLMBatch]):
    """Samples in batches of one dataset each, whose pictures are all of one size.

    Args:
        samples: The samples.
        text: Makes ids of their texts.
        batch_size: Most samples in a batch.

    Raises:
        ValueError: When a batch is made, if its pictures differ in size.
    """

    def __init__(self, samples: Sequence[Sample], text: SampleText, batch_size: int) -> None:
        by_dataset: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            by_dataset[sample.dataset].append(sample)
        self._text = text
        self._parts = [
            members[start : start + batch_size]
            for members in by_dataset.values()
            for start in range(0, len(members), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> VLMBatch:
        samples = self._parts[index]
        pixels = np.stack(_pictures(samples))
        text_ids, labels = text_tensors(
            [self._text.prompt_ids(sample) for sample in samples], [self._text.answer_ids(sample) for sample in samples]
        )
        return VLMBatch(
            text_ids=text_ids,
            labels=labels,
            pixels=(torch.from_numpy(pixels),),
            cells=torch.full((len(samples), 1, 1), UNKNOWN, dtype=torch.uint8),
            samples=tuple(samples),
        )

    def __iter__(self) -> Iterator[VLMBatch]:
        return (self[index] for index in range(len(self)))


def _pictures(samples: Sequence[Sample]) -> list[NDArray[np.uint8]]:
    pictures = [np.asarray(sample.image.open()) for sample in samples]
    sizes = sorted({(picture.shape[1], picture.shape[0]) for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(
            f"{samples[0].dataset}: pictures must be of one size to be answered in batches, got widths and heights "
            f"{sizes[0]} and {sizes[1]}"
        )
    return pictures
