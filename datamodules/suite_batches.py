"""Training batches without end: puzzles of the suite, drawn as they are needed, and samples of another dataset."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datamodules.processes import rank_and_world
from models.patch_labels import UNKNOWN
from models.tokenizer import END_OF_TEXT
from profiling.datasets.sample import Sample
from profiling.sample_batches import SampleText
from profiling.suite.bulk import Mixture, draw_batch
from profiling.suite.tokenizer_file import ROLES, TOKEN_IDS
from profiling.suite.vocabulary import tokenize
from profiling.vlm_batch import VLMBatch, text_tensors

_USER_ID, _ASSISTANT_ID = (TOKEN_IDS[role] for role in ROLES)
_END_ID = TOKEN_IDS[END_OF_TEXT]
_CELL_PIXELS: Final = 8
_PREFETCHED: Final = 2  # batches that each worker is ahead


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Samples to draw from, with their pictures in memory.

    Args:
        pixels: ``(pictures, height, width, 3)``, uint8.
        picture: Which picture belongs to each sample.
        prompts: Ids of each sample's question, with the roles around it.
        answers: Ids of each sample's answer, with the one that ends it.
    """

    pixels: NDArray[np.uint8]
    picture: NDArray[np.int64]
    prompts: list[list[int]]
    answers: list[list[int]]

    @classmethod
    def of_samples(cls, samples: Sequence[Sample], text: SampleText) -> "Pool":
        """Open the pictures, which are all of one size.

        Raises:
            ValueError: If a picture is missing or broken.
        """
        sample_by_image = {sample.image_id: sample for sample in samples}
        place_by_image = {image_id: place for place, image_id in enumerate(sample_by_image)}
        return cls(
            pixels=np.stack([np.asarray(sample.image.open()) for sample in sample_by_image.values()]),
            picture=np.array([place_by_image[sample.image_id] for sample in samples]),
            prompts=[text.prompt_ids(sample) for sample in samples],
            answers=[text.answer_ids(sample) for sample in samples],
        )


@dataclass(frozen=True, kw_only=True)
class BatchMaker:
    """Make the batch of any number. Equal numbers make equal batches, in any process.

    Args:
        mixture: How often each family of the suite comes.
        pool: Samples of another dataset.
        pool_fraction: Share of a batch that they make up.
        batch_size: Samples in a batch.
        canvas_pixels: Width and height of drawn pictures.
        seed: Of everything.
    """

    mixture: Mixture
    pool: Pool | None
    pool_fraction: float
    batch_size: int
    canvas_pixels: int
    seed: int

    def __call__(self, number: int) -> VLMBatch:
        """Make a batch."""
        num_pooled = round(self.pool_fraction * self.batch_size) if self.pool is not None else 0
        num_drawn = self.batch_size - num_pooled
        indices = range(number * num_drawn, (number + 1) * num_drawn)
        drawn = draw_batch(
            self.mixture.keys("train", indices, seed=self.seed),
            canvas_pixels=self.canvas_pixels,
            cell_pixels=_CELL_PIXELS,
        )
        prompts = [question_ids(puzzle.question) for puzzle in drawn.puzzles]
        answers = [answer_ids(puzzle.answers[0]) for puzzle in drawn.puzzles]
        pixels, cells = [torch.from_numpy(drawn.pixels)], torch.from_numpy(drawn.labels)
        if self.pool is not None and num_pooled:
            chosen = np.random.default_rng([self.seed, number]).integers(len(self.pool.prompts), size=num_pooled)
            prompts += [self.pool.prompts[place] for place in chosen]
            answers += [self.pool.answers[place] for place in chosen]
            pixels.append(torch.from_numpy(self.pool.pixels[self.pool.picture[chosen]]))
            unknown = torch.full((num_pooled, *cells.shape[1:]), UNKNOWN, dtype=torch.uint8)
            cells = torch.cat([cells, unknown])
        text_ids, labels = text_tensors(prompts, answers)
        return VLMBatch(text_ids=text_ids, labels=labels, pixels=tuple(pixels), cells=cells)


def question_ids(question: str) -> list[int]:
    """Return the ids of a question of the suite, as ``models.processor`` formats it."""
    return [_USER_ID, *(TOKEN_IDS[token] for token in tokenize(question)), _ASSISTANT_ID]


def answer_ids(answer: str) -> list[int]:
    """Return the ids of an answer of the suite, and the one that ends it."""
    return [*(TOKEN_IDS[token] for token in tokenize(answer)), _END_ID]


class _Numbered(IterableDataset[VLMBatch]):
    """Every batch from a number on that this worker has to make."""

    def __init__(self, make: BatchMaker, start: int, step: int) -> None:
        self._make = make
        self._start = start
        self._step = step

    def __iter__(self) -> Iterator[VLMBatch]:
        worker = get_worker_info()
        place, num_workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        number = self._start + place * self._step
        while True:
            yield self._make(number)
            number += num_workers * self._step


class EndlessBatches:
    """Batches for training, numbered on from epoch to epoch, whose number goes into checkpoints.

    Each process of a distributed run gets every so many-th batch. Workers go on drawing between epochs.

    Args:
        make: Makes each batch.
        num_batches: Batches in an epoch.
        num_workers: Processes that draw; 0 draws in this one.
    """

    def __init__(self, make: BatchMaker, *, num_batches: int, num_workers: int) -> None:
        self._make = make
        self._num_batches = num_batches
        self._num_workers = num_workers
        self._num_given = 0
        self._stream: Iterator[VLMBatch] | None = None

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[VLMBatch]:
        if self._stream is None:
            self._stream = self._start()
        for _ in range(self._num_batches):
            self._num_given += 1
            yield next(self._stream)

    def state_dict(self) -> Mapping[str, Any]:
        """Return how many batches each process was given."""
        return {"num_given": self._num_given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batches that were given."""
        self._num_given = state["num_given"]
        self._stream = None

    def _start(self) -> Iterator[VLMBatch]:
        rank, world = rank_and_world()
        return iter(
            DataLoader(
                _Numbered(self._make, self._num_given * world + rank, world),
                batch_size=None,
                num_workers=self._num_workers,
                prefetch_factor=_PREFETCHED if self._num_workers else None,
                pin_memory=torch.cuda.is_available(),
            )
        )
