"""Ask a model a batch of questions under every setting, each picture encoded once a tier."""

# Shape suffixes: B = samples of a batch, S = settings, T = tiers, N = new tokens.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.generation import encode_images
from models.inputs import ModelInputs
from models.knobs import KnobGrid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from profiling.answers import answer_ids, score_answers
from profiling.datasets.sample import Sample
from profiling.scoring import Score
from profiling.vlm_batch import VLMBatch

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said, and how right that is."""

    text: str
    score: Score


@dataclass(frozen=True, kw_only=True, eq=False)
class GridAnswers:
    """What a batch of questions was answered under every setting of a grid.

    Args:
        num_crops_BT: ``(samples, tiers)``: crops, the overview included.
        vision_tokens_BT: ``(samples, tiers)``.
        text_tokens_BT: ``(samples, tiers)``: ids that are no vision tokens, those that lay out the picture included.
        output_tokens_BS: ``(samples, settings)``: ids of each answer, with the one that ended it.
        answers_BS: A row a sample, an answer a setting.
    """

    num_crops_BT: Counts
    vision_tokens_BT: Counts
    text_tokens_BT: Counts
    output_tokens_BS: Counts
    answers_BS: list[list[Answer]]


def ask_grid(
    model: Molmo, processor: MolmoProcessor, batch: VLMBatch, grid: KnobGrid, advance: Callable[[int], None]
) -> GridAnswers:
    """Answer a batch greedily with every setting of a grid.

    Args:
        model: The model, on its device.
        processor: Its processor, of the same device.
        batch: Questions of one dataset, there too, with pictures that are cut alike.
        grid: The settings.
        advance: Told how many more answers there are.
    """
    readers = [_Reader(processor, sample) for sample in batch.samples]
    prompt_ids = batch.prompt_ids
    counts, answers, lengths = [], [], []
    for tier in grid.tiers:
        inputs, _ = processor.from_batch(prompt_ids, batch.images, tier=tier)
        counts.append(_counts(inputs))
        vision_tokens = encode_images(model, inputs)
        for setting in grid.settings():
            if setting.tier != tier.name:
                continue
            ids_BN = answer_ids(model, processor, batch, inputs, setting, vision_tokens=vision_tokens).cpu().numpy()
            length_B = answer_lengths(ids_BN, processor.special_tokens.eos_id)
            lengths.append(length_B)
            rows = zip(readers, ids_BN.tolist(), length_B.tolist(), strict=True)
            answers.append([reader.read(tuple(ids[:length])) for reader, ids, length in rows])
            advance(len(batch))
    num_crops_BT, vision_tokens_BT, text_tokens_BT = np.stack(counts, axis=2)
    return GridAnswers(
        num_crops_BT=num_crops_BT,
        vision_tokens_BT=vision_tokens_BT,
        text_tokens_BT=text_tokens_BT,
        output_tokens_BS=np.stack(lengths, axis=1),
        answers_BS=[list(row) for row in zip(*answers, strict=True)],
    )


def answer_lengths(ids_BN: Counts, end_id: int) -> Counts:
    """Count the ids of each answer up to the one that ends it, and with it: ``(samples,)``."""
    is_end_BN = ids_BN == end_id
    lengths: Counts = np.where(is_end_BN.any(axis=1), is_end_BN.argmax(axis=1) + 1, ids_BN.shape[1])
    return lengths


class _Reader:
    """Reads and scores the answers to one question; settings often agree, and then it is done once."""

    def __init__(self, processor: MolmoProcessor, sample: Sample) -> None:
        self._processor = processor
        self._sample = sample
        self._known: dict[tuple[int, ...], Answer] = {}

    def read(self, ids: tuple[int, ...]) -> Answer:
        """Return what an answer's ids say."""
        if ids not in self._known:
            text = self._processor.decode(ids)
            (score,) = score_answers([text], [self._sample])
            self._known[ids] = Answer(text=text, score=score)
        return self._known[ids]


def _counts(inputs: ModelInputs) -> Counts:
    """Return crops, vision tokens and all other ids of each request, as the profiler counts them: ``(3, samples)``."""
    vision_tokens_B = inputs.num_vision_tokens.cpu().numpy()
    return np.stack(
        [inputs.num_crops.cpu().numpy(), vision_tokens_B, inputs.num_tokens.cpu().numpy() - vision_tokens_B]
    )
