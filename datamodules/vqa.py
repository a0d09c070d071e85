"""Visual question answering datasets as batches of questions and decoded images."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, Literal, get_args

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from profiling.datasets.catalogue import read_dataset
from profiling.datasets.image_split import Part, PartFractions, part_of_image
from profiling.datasets.sample import Sample
from profiling.vqa_batch import VQABatch

OnBadImage = Literal["error", "skip"]

_log = logging.getLogger(__name__)
_PARTS: Final = get_args(Part)


class _Decoded(Dataset[VQABatch]):
    """Samples with their image, opened by whichever worker asks."""

    def __init__(self, samples: Sequence[Sample], on_bad_image: OnBadImage) -> None:
        self.samples = samples
        self.on_bad_image = on_bad_image

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> VQABatch:
        sample = self.samples[index]
        try:
            return VQABatch(samples=(sample,), images=(sample.image.open(),))
        except ValueError as err:  # raised again by the loader: out of a worker it would come with a traceback inside
            wrong = f"{sample.dataset}: {sample.split}: sample {sample.sample_id}: {err}"
            return VQABatch(samples=(), images=(), bad_images=(wrong,))


class VQALoader(DataLoader[VQABatch]):
    """Batches of samples whose image could be decoded.

    Others are an error, or are left out; how many is logged once, at the end of the first pass.

    Raises:
        ValueError: While iterating, if an image is missing or broken and that is to be an error.
    """

    _has_logged = False

    def __iter__(self) -> Iterator[VQABatch]:  # type: ignore[override]
        bad_images: list[str] = []
        is_error = isinstance(self.dataset, _Decoded) and self.dataset.on_bad_image == "error"
        for batch in super().__iter__():
            if batch.bad_images and is_error:
                raise ValueError(batch.bad_images[0])
            bad_images += batch.bad_images
            if batch.samples:
                yield batch
        if bad_images and not self._has_logged:
            _log.warning("left out %d samples with a bad image; first: %s", len(bad_images), bad_images[0])
            self._has_logged = True


class VQADataModule(LightningDataModule):
    """Read datasets, split them by image, hand out batches of ``VQABatch``.

    An image's questions, of all datasets together, all train, all validate, all calibrate or all test, whatever else is
    read: its part depends on its id and the seed. Batches hold words and pictures; ``models.processor`` makes model
    inputs of them, since how many crops a picture is cut into is the controller's choice. ``predict`` sees every sample
    in file order.

    Args:
        dataset_names: Names of the catalogue, or paths of ``.jsonl`` files.
        root: Folder of the datasets; ``null`` takes the environment variable ``MOLMO_DATA_DIR``.
        splits: Official part to read of a dataset, by its name; others are read in their default part.
        train_fraction: Share of images that train.
        val_fraction: Share of images that stop the training.
        calibration_fraction: Share of images that margins are set on; the rest test.
        num_samples: How many samples to draw of each dataset, before the split; ``null`` takes all.
        seed: Of the draw, the split and the order of training batches.
        batch_size: Samples in a batch.
        num_workers: Processes that decode images; 0 decodes in this one.
        on_bad_image: What an image does that is missing or broken: end the run, or leave its sample out.
        molmo_compat: Read as the Molmo models' loader does, mistakes included.

    Raises:
        ValueError: If an argument is out of range; when reading, if a file is bad; when asked for batches, if the part
            is empty.
    """

    def __init__(
        self,
        dataset_names: list[str],
        *,
        root: str | None = None,
        splits: dict[str, str] | None = None,
        train_fraction: float = 0.6,
        val_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        num_samples: int | None = None,
        seed: int = 42,
        batch_size: int = 1,
        num_workers: int = 0,
        on_bad_image: OnBadImage = "error",
        molmo_compat: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: must be 1 or more, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers: must be 0 or more, got {num_workers}")
        if on_bad_image not in get_args(OnBadImage):
            raise ValueError(f"on_bad_image: must be one of {', '.join(get_args(OnBadImage))}, got {on_bad_image!r}")
        self.fractions = PartFractions(train=train_fraction, val=val_fraction, calibration=calibration_fraction)
        self.dataset_names = _check_names(dataset_names, splits or {})
        self.splits = splits or {}
        self.root = root
        self.num_samples = num_samples
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.on_bad_image = on_bad_image
        self.molmo_compat = molmo_compat

    @cached_property
    def samples(self) -> list[Sample]:
        """All samples, dataset by dataset, in file order; reads the files when first asked."""
        return [
            sample
            for name in self.dataset_names
            for sample in read_dataset(
                name,
                self.splits.get(name),
                root=self.root,
                num_samples=self.num_samples,
                seed=self.seed,
                molmo_compat=self.molmo_compat,
            )
        ]

    @cached_property
    def parts(self) -> Mapping[Part, list[Sample]]:
        """The samples of each part, in file order."""
        parts: dict[Part, list[Sample]] = {part: [] for part in _PARTS}
        for sample in self.samples:
            parts[part_of_image(sample.image_id, self.fractions, seed=self.seed)].append(sample)
        return parts

    def setup(self, stage: str) -> None:
        """Read and split, once whatever the stages."""
        _ = self.parts

    def train_dataloader(self) -> VQALoader:
        """Return shuffled training batches."""
        return self._loader(self._part("train"), shuffle=True)

    def val_dataloader(self) -> VQALoader:
        """Return the samples that stop the training."""
        return self._loader(self._part("val"))

    def calibration_dataloader(self) -> VQALoader:
        """Return the samples that margins are set on."""
        return self._loader(self._part("calibration"))

    def test_dataloader(self) -> VQALoader:
        """Return the samples that test."""
        return self._loader(self._part("test"))

    def predict_dataloader(self) -> VQALoader:
        """Return every sample."""
        return self._loader(self.samples)

    def _part(self, part: Part) -> list[Sample]:
        if not self.parts[part]:
            raise ValueError(
                f"split: no image of {', '.join(self.dataset_names)} is in the part {part!r}, "
                f"got {len(self.samples)} samples and {self.fractions}"
            )
        return self.parts[part]

    def _loader(self, samples: Sequence[Sample], *, shuffle: bool = False) -> VQALoader:
        return VQALoader(
            _Decoded(samples, self.on_bad_image),
            batch_size=self.batch_size,
            shuffle=shuffle,
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.num_workers,
            collate_fn=_join,
        )


def _join(batches: Sequence[VQABatch]) -> VQABatch:
    return VQABatch(
        samples=tuple(sample for batch in batches for sample in batch.samples),
        images=tuple(image for batch in batches for image in batch.images),
        bad_images=tuple(wrong for batch in batches for wrong in batch.bad_images),
    )


def _check_names(dataset_names: list[str], splits: Mapping[str, str]) -> list[str]:
    if not dataset_names:
        raise ValueError("dataset_names: needs at least one dataset, got none")
    twice = [name for name, count in Counter(dataset_names).items() if count > 1]
    if twice:
        raise ValueError(f"dataset_names: {twice[0]!r} is named twice")
    strange = sorted(set(splits) - set(dataset_names))
    if strange:
        raise ValueError(f"splits: expected names of dataset_names, {', '.join(dataset_names)}, got {strange[0]!r}")
    return dataset_names
