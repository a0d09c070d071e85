"""A person's own picture and question as one batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lightning import LightningDataModule

from profiling.datasets.sample import ImageFile, Sample
from profiling.vqa_batch import VQABatch

NAME: Final = "own"  # of the dataset and of its one split


class OneBatch:
    """A loader of one batch: Lightning would take a list for several loaders, and look for workers in a DataLoader.

    Args:
        batch: The batch.
    """

    def __init__(self, batch: VQABatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[VQABatch]:
        return iter((self._batch,))


class QuestionDataModule(LightningDataModule):
    """Open one picture and ask one question about it.

    Args:
        image: A file that Pillow reads; turned upright as its EXIF data says, transparency dropped.
        question: What to ask.

    Raises:
        ValueError: When reading, if the picture or the question is missing, or the picture is broken.
    """

    def __init__(self, image: str | None = None, question: str | None = None) -> None:
        super().__init__()
        self.image = image
        self.question = question
        self._batch: VQABatch | None = None

    def setup(self, stage: str) -> None:
        """Open the picture."""
        if not self.image:
            raise ValueError(f"image: name the file of a picture, got {self.image!r}")
        if self.question is None or not self.question.strip():
            raise ValueError(f"question: say what to ask about {self.image}, got {self.question!r}")
        file = ImageFile(path=Path(self.image))
        sample = Sample(
            dataset=NAME,
            split=NAME,
            sample_id=self.image,
            image_id=self.image,
            image=file,
            question=self.question.strip(),
            answers=(),
        )
        self._batch = VQABatch(samples=(sample,), images=(file.open(),))

    def predict_dataloader(self) -> OneBatch:
        """Return the one batch."""
        assert self._batch is not None
        return OneBatch(self._batch)
