"""How right answers are, over many samples: mean scores by group, parse failures and errors of counts, as torchmetrics.

A group is whatever results are reported apart by: a dataset, a family of datasets, ``tally_qa/complex``. Groups are
named beforehand, so that every process adds up the same sums. Values come back by group, without groups that no sample
belongs to; ``all`` stands for all samples together.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torchmetrics import Metric

from profiling.scoring import Score, parse_count

OVERALL: Final = "all"


class _GroupMeans(Metric):
    """Add up numbers by group, over batches and processes.

    Args:
        groups: Names of all groups.

    Raises:
        ValueError: If there are none, or one comes twice or is called ``all``.
    """

    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, groups: Sequence[str]) -> None:
        super().__init__()
        names = [*groups, OVERALL]
        if len(names) == 1 or len(set(names)) < len(names):
            raise ValueError(
                f"groups: needs one or more, all different and none called {OVERALL!r}, got {list(groups)}"
            )
        self.places = {name: place for place, name in enumerate(names)}
        self.add_state("totals", default=torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", default=torch.zeros(len(names), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, values: Sequence[float], groups: Sequence[str], overall: Sequence[float]) -> None:
        """Add values to their groups, and those of them that count for all samples together."""
        strangers = set(groups) - (set(self.places) - {OVERALL})
        if strangers or len(groups) != len(values):
            raise ValueError(
                f"groups: needs one of {list(self.places)[:-1]} for each of {len(values)} values, got {list(groups)}"
            )
        names = [*groups, *[OVERALL] * len(overall)]
        places = torch.tensor([self.places[name] for name in names], dtype=torch.int64, device=self.totals.device)
        numbers = torch.tensor([*values, *overall], dtype=torch.float64, device=self.totals.device)
        self.totals.index_add_(0, places, numbers)
        self.counts += torch.bincount(places, minlength=len(self.places))

    def _means(self) -> dict[str, Tensor]:
        means = self.totals / self.counts
        return {name: means[place] for name, place in self.places.items() if self.counts[place] > 0}


class MeanScore(_GroupMeans):
    """The mean score of each group.

    The mean over all samples leaves CIDEr-D out, which is no share of anything.
    """

    def update(self, scores: Sequence[Score], groups: Sequence[str]) -> None:
        """Add scores, and for each the group that it belongs to."""
        fractions = [score.value for score in scores if score.name.is_fraction]
        self._add([score.value for score in scores], groups, fractions)

    def compute(self) -> dict[str, Tensor]:
        """Return the means by group."""
        return self._means()


class ParseFailureRate(_GroupMeans):
    """The share of answers in which what was asked for could not be found: an option, a number."""

    def update(self, scores: Sequence[Score], groups: Sequence[str]) -> None:
        """Add scores, and for each the group that it belongs to."""
        failures = [float(not score.is_parsed) for score in scores]
        self._add(failures, groups, failures)

    def compute(self) -> dict[str, Tensor]:
        """Return the shares by group."""
        return self._means()


class CountRmse(_GroupMeans):
    """The root of the mean squared error of counts, in digits or as words.

    An answer that is no number has no error and is left out: ``ParseFailureRate`` says how many are.
    """

    def update(self, predictions: Sequence[str], truths: Sequence[str], groups: Sequence[str]) -> None:
        """Add predicted and true counts, and for each the group that it belongs to.

        Raises:
            ValueError: If a truth is no number.
        """
        squares: list[float] = []
        counted: list[str] = []
        for prediction, truth, group in zip(predictions, truths, groups, strict=True):
            predicted, right = parse_count(prediction), parse_count(truth)
            if right is None:
                raise ValueError(f"truth: must be a whole number or its word, got {truth!r}")
            if predicted is not None:
                squares.append(float((predicted - right) ** 2))
                counted.append(group)
        self._add(squares, counted, squares)

    def compute(self) -> dict[str, Tensor]:
        """Return the errors by group."""
        return {name: mean.sqrt() for name, mean in self._means().items()}
