"""Questions of datasets as requests of a profile, in parts that share no picture."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from models.processor import format_question
from profiling.answers import score_share
from profiling.datasets.catalogue import dataset_entry, draw_samples, read_dataset
from profiling.datasets.image_split import Part, PartFractions, part_of_image
from profiling.datasets.prompt import prompt_text
from profiling.datasets.sample import Sample
from profiling.scoring import Score, ScoreName


@dataclass(frozen=True, kw_only=True)
class QuestionRequest:
    """A question to answer and, where the right answer is known, to score.

    Args:
        sample: Question and picture.
        split: Part of the profile; which split of the dataset it is from may be another.
        max_new_tokens: Most tokens of an answer; most answers end before.
        score_name: How answers are scored; not at all if ``None``.
    """

    sample: Sample
    split: str
    max_new_tokens: int
    score_name: ScoreName | None

    @property
    def dataset(self) -> str:
        """See ``Request``."""
        return self.sample.dataset

    @property
    def sample_id(self) -> str:
        """See ``Request``."""
        return self.sample.sample_id

    @property
    def image_id(self) -> str:
        """See ``Request``."""
        return self.sample.image_id

    @property
    def question(self) -> str:
        """What is asked, without options."""
        return self.sample.question

    def open_image(self) -> Image.Image:
        """Draw or decode the picture.

        Raises:
            ValueError: If it is missing or broken.
        """
        return self.sample.image.open()

    def prompt(self, vocab_size: int) -> str:
        """Return the question as the model reads it, asked in no style."""
        return format_question(prompt_text(self.sample))

    def score(self, answer: str) -> Score | None:
        """Score an answer by a share of one."""
        return None if self.score_name is None else score_share(self.score_name, answer, self.sample)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Which questions a profile asks.

    Args:
        datasets: For each dataset which of its splits the parts of the profile are drawn from. Parts that draw from the
            same split share out its pictures evenly.
        num_samples: Questions of each dataset in each part.
        root: Folder of the datasets; null takes the environment variable ``MOLMO_DATA_DIR``.
        seed: Of the draw.

    Raises:
        ValueError: If there is no dataset or an unknown one, or a part has no number or a number below 1.
    """

    datasets: Mapping[str, Mapping[Part, str]]
    num_samples: Mapping[Part, int]
    root: str | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        if not any(self.datasets.values()):
            raise ValueError("datasets: needs at least one dataset with a part, got none")
        for name, splits in self.datasets.items():
            dataset_entry(name)
            for part in splits:
                if self.num_samples.get(part, 0) < 1:
                    raise ValueError(
                        f"num_samples: {part}: must be 1 or more for {name}, got {self.num_samples.get(part)}"
                    )

    def requests(self) -> list[QuestionRequest]:
        """Read the samples. Pictures stay closed.

        Raises:
            ValueError: If a dataset cannot be read or has too few samples, a sample has no answer, or a picture would
                be in two parts.
        """
        requests = [
            request
            for name, splits in self.datasets.items()
            for part, split in splits.items()
            for request in self._part(name, part, split)
        ]
        part_by_image: dict[str, str] = {}
        for request in requests:
            if not request.sample.answers:
                raise ValueError(f"{request.dataset}: sample {request.sample_id} has no answers to be scored by")
            part = part_by_image.setdefault(request.image_id, request.split)
            if part != request.split:
                raise ValueError(
                    f"datasets: {request.dataset}: the picture {request.image_id} is in the parts {part} and "
                    f"{request.split}; draw them from splits that share none"
                )
        return requests

    def _part(self, name: str, part: Part, split: str) -> list[QuestionRequest]:
        entry = dataset_entry(name)
        return [
            QuestionRequest(sample=sample, split=part, max_new_tokens=entry.max_new_tokens, score_name=entry.score)
            for sample in self._samples(name, part, split)
        ]

    def _samples(self, name: str, part: Part, split: str) -> list[Sample]:
        num_samples = self.num_samples[part]
        sharers = [other for other, others_split in self.datasets[name].items() if others_split == split]
        if len(sharers) == 1:
            return read_dataset(name, split, root=self.root, num_samples=num_samples, seed=self.seed)
        share = dict.fromkeys(sharers, 1 / len(sharers))
        fractions = PartFractions(
            train=share.get("train", 0), val=share.get("val", 0), calibration=share.get("calibration", 0)
        )
        samples = [
            sample
            for sample in read_dataset(name, split, root=self.root)
            if part_of_image(sample.image_id, fractions, seed=self.seed) == part
        ]
        return draw_samples(samples, num_samples, self.seed, where=f"{name}: {split}: the share of {part}")
