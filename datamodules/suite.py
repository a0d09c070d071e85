"""The generated suite, and easy-VQA where it is installed, as batches to train and test a vision-language model."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.suite_batches import BatchMaker, EndlessBatches, Pool
from models.tokenizer import load_tokenizer
from profiling.datasets import easy_vqa
from profiling.datasets.catalogue import read_dataset
from profiling.datasets.image_split import PartFractions, part_of_image
from profiling.datasets.sample import Sample
from profiling.sample_batches import FamilyBatches, SampleText
from profiling.suite.bulk import Mixture
from profiling.suite.labels import LABELS
from profiling.suite.suite import dataset_name, suite_samples
from profiling.suite.tokenizer_file import suite_tokenizer_json
from profiling.vlm_batch import VLMBatch

# Of easy-VQA's official training part; its official test part tests.
_FRACTIONS: Final = PartFractions(train=0.9, val=0.05, calibration=0.05)


class SuiteDataModule(LightningDataModule):
    """Draw puzzles of the suite without end for training, and a fixed set of each family for validation and test.

    An epoch is a number of batches. A checkpoint knows how many were given, and a run that goes on draws the next.

    Args:
        weights: How often each family comes in training; ``easy_vqa`` is one more.
        batch_size: Samples in a training batch of each process.
        batches_per_epoch: Training batches of each process in an epoch.
        val_samples: Samples of each family that validate.
        test_samples: Samples of each family that test.
        eval_batch_size: Samples in a batch that validates or tests.
        num_workers: Processes that draw training batches; 0 draws them in this one.
        canvas_pixels: Width and height of the pictures.
        root: Folder of easy-VQA's files; ``null`` takes the installed package.
        seed: Of the puzzles.

    Raises:
        ValueError: If a weight or number is out of range; when reading, if easy-VQA is asked for and not there.
    """

    def __init__(
        self,
        weights: dict[str, float],
        *,
        batch_size: int = 1024,
        batches_per_epoch: int = 500,
        val_samples: int = 100,
        test_samples: int = 1000,
        eval_batch_size: int = 1000,
        num_workers: int = 0,
        canvas_pixels: int = 192,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {
            "batch_size": batch_size,
            "batches_per_epoch": batches_per_epoch,
            "val_samples": val_samples,
            "test_samples": test_samples,
            "eval_batch_size": eval_batch_size,
        }
        for field, count in counts.items():
            if count < 1:
                raise ValueError(f"{field}: must be 1 or more, got {count}")
        if weights.get(easy_vqa.NAME, 0.0) < 0:
            raise ValueError(f"weights[{easy_vqa.NAME}]: must be 0 or more, got {weights[easy_vqa.NAME]}")
        if num_workers < 0:
            raise ValueError(f"num_workers: must be 0 or more, got {num_workers}")
        self.mixture = Mixture(weights={name: weight for name, weight in weights.items() if name != easy_vqa.NAME})
        self.pool_fraction = weights.get(easy_vqa.NAME, 0.0) / sum(weights.values())
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.num_samples = {"val": val_samples, "test": test_samples}
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.canvas_pixels = canvas_pixels
        self.root = root
        self.seed = seed

    @property
    def families(self) -> list[str]:
        """Names of the datasets that train, validate and test."""
        names = [dataset_name(family) for family, weight in self.mixture.weights.items() if weight > 0]
        return [*names, easy_vqa.NAME] if self.pool_fraction else names

    @property
    def num_labels(self) -> int:
        """How many things a cell of a picture may show."""
        return len(LABELS)

    @cached_property
    def tokenizer(self) -> str:
        """Content of the ``tokenizer.json`` that the texts are tokenised with."""
        return suite_tokenizer_json()

    @cached_property
    def samples(self) -> Mapping[str, list[Sample]]:
        """The samples that validate and those that test, family by family."""
        return {part: self._samples(part) for part in self.num_samples}

    def setup(self, stage: str) -> None:
        """Read what the stage needs, once."""
        _ = self._maker if stage == "fit" else self.samples

    def train_dataloader(self) -> EndlessBatches:
        """Return batches for training."""
        return EndlessBatches(self._maker, num_batches=self.batches_per_epoch, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[VLMBatch]:
        """Return the samples that validate, each batch of one family."""
        return self._loader(self.samples["val"])

    def test_dataloader(self) -> DataLoader[VLMBatch]:
        """Return the samples that test, each batch of one family."""
        return self._loader(self.samples["test"])

    @cached_property
    def _maker(self) -> BatchMaker:
        pool = None
        if self.pool_fraction:
            samples = self._easy_vqa("train")
            pool = Pool.of_samples(samples, self._text)
        return BatchMaker(
            mixture=self.mixture,
            pool=pool,
            pool_fraction=self.pool_fraction,
            batch_size=self.batch_size,
            canvas_pixels=self.canvas_pixels,
            seed=self.seed,
        )

    @cached_property
    def _text(self) -> SampleText:
        with TemporaryDirectory() as folder:
            Path(folder, "tokenizer.json").write_text(self.tokenizer)
            return SampleText(*load_tokenizer(folder))

    def _samples(self, part: str) -> list[Sample]:
        num_samples = self.num_samples[part]
        families = [family for family, weight in self.mixture.weights.items() if weight > 0]
        samples = suite_samples(
            families, part, num_samples=num_samples, seed=self.seed, canvas_pixels=self.canvas_pixels
        )
        if self.pool_fraction:
            pooled = self._easy_vqa(part)
            samples += pooled[:: max(1, len(pooled) // num_samples)][:num_samples]
        return samples

    def _easy_vqa(self, part: str) -> list[Sample]:
        if part == "test":
            return read_dataset(easy_vqa.NAME, "test", root=self.root)
        samples = read_dataset(easy_vqa.NAME, "train", root=self.root)
        return [s for s in samples if part_of_image(s.image_id, _FRACTIONS, seed=self.seed) == part]

    def _loader(self, samples: Sequence[Sample]) -> DataLoader[VLMBatch]:
        return DataLoader(FamilyBatches(samples, self._text, self.eval_batch_size), batch_size=None)
