"""Scores of a dataset as its file holds them: means with intervals, no samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiling.importance.scores import BlockScore
from profiling.resampling import Interval
from profiling.subsets.job import Part


@dataclass(frozen=True, kw_only=True)
class DatasetScores:
    """Every score of every block on each part of a dataset.

    Args:
        label: What captions call the model and where it ran.
        dataset: Name of the dataset.
        num_samples: Samples by part.
        scores: By part and score, an interval for each block.
    """

    label: str
    dataset: str
    num_samples: Mapping[Part, int]
    scores: Mapping[Part, Mapping[BlockScore, tuple[Interval, ...]]]

    @property
    def samples(self) -> str:
        """What captions say of the samples."""
        counts = " and ".join(f"{count:,} {part}" for part, count in self.num_samples.items())
        return f"{self.label}; {counts} samples of each dataset"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DatasetScores":
        """Read what ``importance_comparison_<dataset>.json`` holds."""
        return cls(
            label=content["model"],
            dataset=content["dataset"],
            num_samples={part: each["num_samples"] for part, each in content["parts"].items()},
            scores={
                part: {
                    BlockScore(score): tuple(Interval(**interval) for interval in intervals)
                    for score, intervals in each["scores"].items()
                }
                for part, each in content["parts"].items()
            },
        )
