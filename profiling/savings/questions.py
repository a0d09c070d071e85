"""Questions to learn from, measured or only answered, each counting as much as it should."""

# Shape suffixes: N = samples.

from dataclasses import dataclass, replace

import numpy as np

from profiling.controllers.answered import with_borrowed_times
from profiling.controllers.outcomes import Array, Codes, Mask
from profiling.controllers.requests import Requests, join_requests


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """Some questions.

    Args:
        requests: What is known of them before they run, and what came of every setting.
        weight_N: ``(samples,)`` how many measured questions each stands for.
    """

    requests: Requests
    weight_N: Array

    def take(self, rows: Codes | Mask) -> "Questions":
        """Return some of them, given by index or by a mask."""
        return Questions(requests=self.requests.take(rows), weight_N=self.weight_N[rows])

    def beside(self, answered: Requests, *, seed: int) -> "Questions":
        """Add questions that were answered but not timed, without changing how much any dataset counts.

        They borrow the times of these. Within a dataset all count alike, so that its accuracies become those of many
        more questions while the mix of datasets stays the measured one.

        Args:
            answered: Of datasets that these have.
            seed: Of who borrows from whom.

        Raises:
            ValueError: If these have no question of a dataset.
        """
        lent = with_borrowed_times(answered.outcomes, self.requests.outcomes, seed=seed)
        joined = join_requests([self.requests, replace(answered, outcomes=lent)])
        names, dataset_N = np.unique(joined.outcomes.samples["dataset"].to_numpy(dtype=np.str_), return_inverse=True)
        is_own_N = np.arange(len(joined)) < len(self.requests)
        own = np.bincount(dataset_N, weights=is_own_N, minlength=len(names))
        weight_N = (own / np.bincount(dataset_N, minlength=len(names)))[dataset_N]
        return Questions(requests=joined, weight_N=weight_N)


def questions_of(requests: Requests) -> Questions:
    """Let every question stand for itself."""
    return Questions(requests=requests, weight_N=np.ones(len(requests)))
