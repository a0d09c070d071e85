"""The ``bench-grpo`` command: how many groups of settings a controller learns from in a second."""

# Shape suffixes: B = groups (one request under one budget), F = features, S = settings, G = settings of a group.

from collections.abc import Callable
from functools import partial
from math import prod
from statistics import fmean, stdev
from time import perf_counter
from typing import Final, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from models.controllers import Controller, Feedback, OverrunPenalty, masked_log_prob
from models.controllers.objectives import Grpo
from profiling.markup import Table
from profiling.statistics import LatencySummary, summarize

_LEVELS: Final = (3, 5, 5)
_FASTEST_MS, _SLOWEST_MS = 20.0, 400.0
_NUM_WARM_UP: Final = 3
_LOOP_GROUPS: Final = 64  # a batch of the loop: hundreds of milliseconds are long enough to time


class GroupBatch(NamedTuple):
    """Requests with the outcome of every setting: budget, features, accuracy, latency, what was measured."""

    budget_ms: Tensor
    features: Tensor
    accuracy: Tensor
    latency_ms: Tensor
    is_measured: Tensor

    def head(self, num_groups: int) -> "GroupBatch":
        """Return the first requests."""
        return GroupBatch(*(column[:num_groups] for column in self))


def bench_grpo(
    num_groups: int = 4096, *, group_size: int = 5, num_features: int = 140, num_repeats: int = 30, num_threads: int = 2
) -> None:
    """Print how many groups of settings GRPO draws, rewards and learns from in a second.

    A step draws a group for each (request, budget), rewards it, compares it and updates a controller of the default
    size: on whole tensors, and in a loop over the requests, of which a step has 64. Data is random, a tenth of the
    cells is missing.

    Args:
        num_groups: Groups in a step on whole tensors.
        group_size: Settings in a group.
        num_features: Numbers that describe a request.
        num_repeats: Timed steps of each kind, after three that are not.
        num_threads: Threads of torch.

    Raises:
        ValueError: If a number is too small.
    """
    limits = {"num_groups": (num_groups, 1), "group_size": (group_size, 2), "num_features": (num_features, 0)}
    limits |= {"num_repeats": (num_repeats, 2), "num_threads": (num_threads, 1)}
    for field, (number, least) in limits.items():
        if number < least:
            raise ValueError(f"{field}: must be {least} or more, got {number}")
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    batch = _random_batch(num_groups, num_features)
    objective = Grpo(group_size=group_size, entropy_weight=0.0)
    cases = (
        ("whole tensors", whole_tensors_loss, batch),
        ("whole tensors, few", whole_tensors_loss, batch.head(_LOOP_GROUPS)),
        ("loop over requests", loop_loss, batch.head(_LOOP_GROUPS)),
    )
    rows = []
    for name, loss, data in cases:
        summary = _time_steps(partial(loss, batch=data, objective=objective), num_features, num_repeats)
        rates = [len(data.budget_ms) / step_ms * 1e3 for step_ms in (summary.p50, summary.p95, summary.min)]
        rows.append((name, f"{len(data.budget_ms):,}", *(f"{rate:,.0f}" for rate in rates)))
    Table(
        columns=("step", "groups", "groups/s, median", "slowest 5 %", "fastest"),
        rows=tuple(rows),
        caption=f"Draw, reward and update: groups of {group_size} out of {prod(_LEVELS)} settings, {num_features} "
        f"features, {num_repeats} steps, {num_threads} thread(s).",
    ).show(Console())


def whole_tensors_loss(network: nn.Module, batch: GroupBatch, objective: Grpo) -> Tensor:
    """Compute GRPO's loss of all groups at once."""
    reward_BS = OverrunPenalty()(batch.accuracy, batch.latency_ms, batch.budget_ms)
    feedback = Feedback(reward_BS, batch.latency_ms, batch.is_measured)
    return objective.loss(network(batch.budget_ms, batch.features), feedback).loss


def loop_loss(network: nn.Module, batch: GroupBatch, objective: Grpo) -> Tensor:
    """Compute the same loss request by request and setting by setting: what the whole tensors are compared with."""
    losses = []
    for b in range(len(batch.budget_ms)):
        logits_S = network(batch.budget_ms[b : b + 1], batch.features[b : b + 1])[0]
        log_prob_S = masked_log_prob(logits_S, batch.is_measured[b])
        budget_ms = float(batch.budget_ms[b])
        drawn = [draw_one(log_prob_S) for _ in range(objective.group_size)]
        rewards = []
        for setting in drawn:
            overrun = max(0.0, float(batch.latency_ms[b, setting]) - budget_ms) / budget_ms
            rewards.append(float(batch.accuracy[b, setting]) - 0.5 * overrun)
        mean, spread = fmean(rewards), stdev(rewards)
        for setting, reward in zip(drawn, rewards, strict=True):
            ratio = (log_prob_S[setting] - log_prob_S[setting].detach()).exp()
            advantage = (reward - mean) / (spread + 1e-4)
            clipped = ratio.clamp(1 - objective.clip_fraction, 1 + objective.clip_fraction)
            losses.append(-torch.minimum(ratio * advantage, clipped * advantage))
    return torch.stack(losses).mean()


def draw_one(log_prob_S: Tensor) -> int:
    """Draw a setting from one request's policy."""
    return int(log_prob_S.detach().exp().multinomial(1))


def _time_steps(loss: Callable[[nn.Module], Tensor], num_features: int, num_repeats: int) -> LatencySummary:
    """Time updates of a new network."""
    network = Controller(_LEVELS, num_features, fastest_ms=_FASTEST_MS, slowest_ms=_SLOWEST_MS)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    samples_ms = []
    for _ in range(_NUM_WARM_UP + num_repeats):
        start = perf_counter()
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
        samples_ms.append((perf_counter() - start) * 1e3)
    return summarize(samples_ms[_NUM_WARM_UP:])


def _random_batch(num_groups: int, num_features: int) -> GroupBatch:
    num_settings = prod(_LEVELS)
    span_ms = _SLOWEST_MS - _FASTEST_MS
    return GroupBatch(
        budget_ms=_FASTEST_MS + span_ms * torch.rand(num_groups),
        features=torch.randn(num_groups, num_features),
        accuracy=torch.rand(num_groups, num_settings),
        latency_ms=_FASTEST_MS + span_ms * torch.rand(num_groups, num_settings),
        is_measured=torch.rand(num_groups, num_settings) > 0.1,
    )
