"""The samples that subsets of blocks are measured on."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from profiling.datasets.catalogue import dataset_entry, read_dataset
from profiling.datasets.prompt import prompt_text
from profiling.datasets.sample import Sample
from profiling.scoring.multiple_choice import option_labels
from profiling.subsets.job import Part


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Datasets, each with a part to learn from and one to look at afterwards.

    Args:
        dataset_names: Names of the catalogue, or paths of ``.jsonl`` files.
        train_splits: Official split that is the train part of a dataset, by its name; ``train`` for others.
        validation_splits: The same for the validation part; the dataset's default split for others.
        root: Folder of the datasets; null takes the environment variable ``MOLMO_DATA_DIR``.
        names_style: Whether a prompt names the dataset's answering style, as the released models were trained to read.
        seed: Of the draw of samples.

    Raises:
        ValueError: If a dataset is unknown, there is none or one twice, or a split is given for another.
    """

    dataset_names: tuple[str, ...]
    train_splits: Mapping[str, str] = field(default_factory=dict)
    validation_splits: Mapping[str, str] = field(default_factory=dict)
    root: str | None = None
    names_style: bool = True
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.dataset_names:
            raise ValueError("dataset_names: needs at least one dataset, got none")
        for name, count in Counter(self.dataset_names).items():
            dataset_entry(name)
            if count > 1:
                raise ValueError(f"dataset_names: {name!r} is named twice")
        for argument in ("train_splits", "validation_splits"):
            strangers = sorted(set(getattr(self, argument)) - set(self.dataset_names))
            if strangers:
                raise ValueError(f"{argument}: expected names of dataset_names, got {strangers[0]!r}")

    def split(self, name: str, part: Part) -> str:
        """Return the official split of a dataset's part."""
        if part == "train":
            return self.train_splits.get(name, "train")
        return self.validation_splits.get(name, dataset_entry(name).default_split)

    def check_parts_differ(self) -> None:
        """Check that what is learned from is not looked at afterwards.

        Raises:
            ValueError: If the parts of a dataset are the same split.
        """
        for name in self.dataset_names:
            split = self.split(name, "train")
            if split == self.split(name, "validation"):
                raise ValueError(f"{name}: its train and validation parts are both the split {split!r}")

    def samples(self, part: Part, num_samples: int) -> dict[str, list[Sample]]:
        """Read the same number of samples of each dataset.

        Raises:
            ValueError: If a dataset has no such split, fewer samples, or a sample without an answer.
        """
        samples = {
            name: read_dataset(name, self.split(name, part), root=self.root, num_samples=num_samples, seed=self.seed)
            for name in self.dataset_names
        }
        for name, members in samples.items():
            for sample in members:
                if not sample.answers:
                    raise ValueError(
                        f"{name}: {sample.split}: sample {sample.sample_id} has no answers, so nothing can be measured"
                    )
        return samples

    def question(self, sample: Sample) -> str:
        """Return what the model is asked."""
        style = f"{dataset_entry(sample.dataset).prompt_style(sample)}: " if self.names_style else ""
        return f"{style}{prompt_text(sample)}"


def reference_answer(sample: Sample) -> str:
    """Return the answer that teacher forcing follows: the commonest, the first of those.

    Where the prompt gives options letters, it is the letter, as the released models were trained to answer.
    """
    answer = Counter(sample.answers).most_common(1)[0][0]
    if sample.options and not sample.question_has_options:
        return option_labels(sample.options)[sample.options.index(answer)]
    return answer


def samples_digest(samples: Mapping[str, list[Sample]]) -> str:
    """Return a digest that differs where samples do, in what they are called, ask or answer; pixels are not read."""
    rows = [
        (
            *(sample.dataset, sample.split, sample.sample_id, sample.question, sample.answers),
            *(sample.options, sample.question_has_options),
        )
        for each in samples.values()
        for sample in each
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
