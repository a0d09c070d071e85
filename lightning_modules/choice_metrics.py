"""How good chosen settings are, as a torchmetric: right, in time, and how near to the best ones."""

# Shape suffixes: B = requests, S = settings, G = budgets, M = measures, K = knobs and all of them together, L = levels.

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from models.controllers import Feedback, Goodput, GridShape, choose, grid_shape
from models.knobs import KnobGrid
from profiling.controllers.batch import ControllerBatch

KNOBS: Final = ("tier", "top_k", "num_active_blocks")
MEASURES: Final = ("accuracy", "goodput", "adherence", "latency_ms", "regret")
_PARTS: Final = (*KNOBS, "all_knobs")
_AT: Final = "/at_"
_BY_BUDGET: Final = ("accuracy", "goodput", "adherence", "regret")


class ChoiceMetrics(Metric):
    """Add up what chosen settings gave, by budget, over batches and processes.

    A request's label is the most accurate setting in time; of equals the one of the best mean accuracy in training.
    Requests that nothing answers right in time have none. Latencies are means over runs.

    Args:
        grid: The settings.
        budgets_ms: The budgets that results are told apart by; a request counts to the nearest.
        population_accuracy: Mean accuracy of each setting in training.
    """

    full_state_update = False
    totals_GM: Tensor
    counts_G: Tensor
    label_totals_GK: Tensor
    best_totals_GK: Tensor
    label_counts_G: Tensor
    setting_counts_S: Tensor

    def __init__(self, grid: KnobGrid, budgets_ms: Sequence[float], population_accuracy: Sequence[float]) -> None:
        super().__init__()
        self.shape: GridShape = grid_shape(grid)
        self.level_names = {
            "tier": [tier.name for tier in grid.tiers],
            "top_k": [str(top_k) for top_k in grid.top_k],
            "num_active_blocks": [str(count) for count in grid.blocks_by_count],
        }
        self.budgets_ms = list(budgets_ms)
        self._goodput = Goodput()
        self.register_buffer("_budget_ms_G", torch.tensor(self.budgets_ms), persistent=False)
        self.register_buffer("_population_S", torch.tensor(list(population_accuracy)), persistent=False)
        num_budgets, num_parts = len(self.budgets_ms), len(_PARTS)
        sizes = {
            "totals_GM": (num_budgets, len(MEASURES)),
            "counts_G": (num_budgets,),
            "label_totals_GK": (num_budgets, num_parts),
            "best_totals_GK": (num_budgets, num_parts),
            "label_counts_G": (num_budgets,),
            "setting_counts_S": (len(grid.settings()),),
        }
        for name, size in sizes.items():
            self.add_state(name, default=torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, chosen_B: Tensor, batch: ControllerBatch) -> None:
        """Add the settings chosen for a batch, ``(batch,)`` int64."""
        budget_ms_G: Tensor = self._budget_ms_G  # type: ignore[assignment]
        budget_B = (batch.budget_ms_B[:, None] - budget_ms_G).abs().argmin(dim=1)
        reward_BS = self._goodput(batch.accuracy_BS, batch.latency_ms_BS, batch.budget_ms_B)
        feedback = Feedback(reward_BS, batch.latency_ms_BS, batch.is_measured_BS)

        def of_choice(values_BS: Tensor) -> Tensor:
            return values_BS.gather(1, chosen_B[:, None]).squeeze(1)

        latency_ms_B, goodput_B = of_choice(batch.latency_ms_BS), of_choice(reward_BS)
        best_B = feedback.measured_reward.amax(dim=1)
        in_time_B = latency_ms_B <= batch.budget_ms_B
        measures_BM = torch.stack(
            [of_choice(batch.accuracy_BS), goodput_B, in_time_B.float(), latency_ms_B, best_B - goodput_B], dim=1
        )
        self._add("totals_GM", budget_B, measures_BM)
        self.counts_G += torch.bincount(budget_B, minlength=len(self.budgets_ms))
        self.setting_counts_S += torch.bincount(chosen_B, minlength=len(self.setting_counts_S))
        self._add_labels(budget_B, chosen_B, feedback, has_label_B=best_B > 0)

    def compute(self) -> dict[str, Tensor]:
        """Return means by name: over all requests, by budget (``.../at_<budget>_ms``), and shares of knobs' levels."""
        found = dict(zip(MEASURES, self.totals_GM.sum(dim=0) / self.counts_G.sum(), strict=True))
        for name, totals_GK in self._label_totals():
            means_K = totals_GK.sum(dim=0) / self.label_counts_G.sum()
            found |= {f"{name}/{part}": mean for part, mean in zip(_PARTS, means_K, strict=True)}
        return {name: mean.float() for name, mean in (found | self._by_budget() | self._shares()).items()}

    def _by_budget(self) -> dict[str, Tensor]:
        measures = dict(zip(MEASURES, (self.totals_GM / self.counts_G[:, None]).T, strict=True))
        means = {name: measures[name] for name in _BY_BUDGET}
        for name, totals_GK in self._label_totals():
            means_GK = totals_GK / self.label_counts_G[:, None]
            means |= {f"{name}/{part}": mean_G for part, mean_G in zip(_PARTS, means_GK.T, strict=True)}
        return {
            f"{name}{_AT}{budget_ms:g}_ms": mean
            for name, mean_G in means.items()
            for budget_ms, mean in zip(self.budgets_ms, mean_G, strict=True)
            if mean.isfinite()  # no request has a label under a budget that nothing keeps
        }

    def _label_totals(self) -> list[tuple[str, Tensor]]:
        return [("label_accuracy", self.label_totals_GK), ("best_accuracy", self.best_totals_GK)]

    def _shares(self) -> dict[str, Tensor]:
        share_TKC = (self.setting_counts_S / self.setting_counts_S.sum()).unflatten(0, self.shape)
        shares = {knob: share_TKC.sum(dim=_others(place)) for place, knob in enumerate(KNOBS)}
        return {
            f"share/{knob}/{level}": share
            for knob, levels in self.level_names.items()
            for level, share in zip(levels, shares[knob], strict=True)
        }

    def _add_labels(self, budget_B: Tensor, chosen_B: Tensor, feedback: Feedback, *, has_label_B: Tensor) -> None:
        population_S: Tensor = self._population_S  # type: ignore[assignment]
        label_B = choose(population_S.expand_as(feedback.reward), feedback.is_best)
        is_label = F.one_hot(label_B, feedback.reward.shape[1]).bool()
        for name, is_good_BS in (("label_totals_GK", is_label), ("best_totals_GK", feedback.is_best)):
            hit_BK = self._hits(chosen_B, is_good_BS) & has_label_B[:, None]
            self._add(name, budget_B, hit_BK.double())
        self.label_counts_G += torch.bincount(budget_B[has_label_B], minlength=len(self.budgets_ms))

    def _hits(self, chosen_B: Tensor, is_good_BS: Tensor) -> Tensor:
        """Say of each knob whether the chosen level is that of some good setting; last, whether the setting is good."""
        is_good_BTKC = is_good_BS.unflatten(1, self.shape)
        levels = torch.unravel_index(chosen_B, self.shape)
        hits = [
            is_good_BTKC.flatten(1).gather(1, chosen_B[:, None])
            if knob is None
            else is_good_BTKC.sum(dim=[dim + 1 for dim in _others(knob)]).gather(1, levels[knob][:, None]) > 0
            for knob in (0, 1, 2, None)
        ]
        return torch.cat(hits, dim=1)

    def _add(self, name: str, budget_B: Tensor, values_BM: Tensor) -> None:
        getattr(self, name).index_add_(0, budget_B, values_BM.double())


def without_budgets(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what is told budget by budget: logging takes longer than an epoch on a small profile."""
    return {name: value for name, value in values.items() if _AT not in name}


def keyed(stage: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a stage before names."""
    return {f"{stage}/{name}": value for name, value in values.items()}


def _others(knob: int) -> list[int]:
    return [other for other in range(len(KNOBS)) if other != knob]
