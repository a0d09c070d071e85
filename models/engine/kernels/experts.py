"""The chosen experts of one token."""

import triton
import triton.language as tl

from models.engine.kernels.linear import inverse_rms
from models.engine.kernels.overlap import let_next_start, wait_for_previous


@triton.jit
def rank_experts(logit, expert):
    """Rank the experts by their logits, 0 the largest, the lower index first among equals.

    Logits that are not numbers come last, so that ranks stay a permutation and nothing is read out of bounds.
    """
    logit = tl.where(logit == logit, logit, float("-inf"))  # noqa: PLR0124 (false for what is no number)
    before = (logit[None, :] > logit[:, None]) | (
        (logit[None, :] == logit[:, None]) & (expert[None, :] < expert[:, None])
    )
    return tl.sum(before.to(tl.int32), axis=1)


@triton.jit
def experts_in(
    x,
    norm,
    logits,
    gate_up,
    hidden,
    eps,
    D: tl.constexpr,
    D_P: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``hidden[j] = silu(gate @ y) * (up @ y)`` of the expert with the j-th largest logit, ``y = rms_norm(x)``.

    Each program ranks all experts by itself: that is cheaper than a kernel that does it once. ``x`` is older than the
    logits, so it is read before the kernel that makes them has ended.

    Args:
        logits: ``(E,)`` of the router.
        gate_up: ``(E, 2 * F, D)``, gate first.
        hidden: ``(K, F)``, written.
    """
    columns = tl.arange(0, D_P)
    inside = columns < D
    vector = tl.load(x + columns, mask=inside, other=0.0, cache_modifier=".cg")
    normed = vector * inverse_rms(vector, D, eps)
    normed *= tl.load(norm + columns, mask=inside, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    let_next_start(PDL)
    j = tl.program_id(1)
    expert_range = tl.arange(0, E_P)
    logit = tl.load(logits + expert_range, mask=expert_range < E, other=float("-inf"))
    rank = rank_experts(logit, expert_range)
    expert = tl.sum(tl.where(rank == j, expert_range, 0), axis=0)

    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tile_inside = (rows < F)[:, None] & inside[None, :]
    gate_at = gate_up + expert.to(tl.int64) * 2 * F * D + rows[:, None] * D + columns[None, :]
    gate_tile = tl.load(gate_at, mask=tile_inside, other=0.0)
    up_tile = tl.load(gate_at + F * D, mask=tile_inside, other=0.0)
    gate = tl.sum(gate_tile.to(tl.float32) * normed[None, :], axis=1)
    up = tl.sum(up_tile.to(tl.float32) * normed[None, :], axis=1)
    tl.store(hidden + j * F + rows, gate * tl.sigmoid(gate) * up, mask=rows < F)


@triton.jit
def experts_out(
    hidden,
    logits,
    down,
    x,
    D: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    F: tl.constexpr,
    F_P: tl.constexpr,
    K: tl.constexpr,
    MASS_K: tl.constexpr,
    AHEAD: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``x += sum over j of weight[j] * down[chosen[j]] @ hidden[j]``, ``ROWS`` rows a program.

    The logits are older than ``hidden``, so experts are ranked, and the weights of the first of them read, before the
    kernel that makes ``hidden`` has ended.

    Args:
        hidden: ``(K, F)``, by rank of the expert.
        logits: ``(E,)`` of the router.
        down: ``(E, D, F)``.
        MASS_K: Scale the weights to the sum that so many of the largest would have; 0 leaves them.
        AHEAD: Experts that are read ahead; a power of two, at most ``K``.
    """
    e = tl.arange(0, E_P)
    logit = tl.load(logits + e, mask=e < E, other=float("-inf"), cache_modifier=".cg")
    rank = rank_experts(logit, e)
    share = tl.exp(logit - tl.max(logit, axis=0))
    scale = 1.0 / tl.sum(share, axis=0)
    if MASS_K > 0:
        trained = tl.sum(tl.where(rank < MASS_K, share, 0.0), axis=0)
        scale *= trained / tl.sum(tl.where(rank < K, share, 0.0), axis=0)
    share *= scale

    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, F_P)
    inside = columns < F
    tile_inside = (rows < D)[:, None] & inside[None, :]
    row_at = rows[:, None] * F + columns[None, :]
    j = tl.arange(0, AHEAD)
    is_jth = rank[None, :] == j[:, None]
    expert = tl.sum(tl.where(is_jth, e[None, :], 0), axis=1)
    weight = tl.sum(tl.where(is_jth, share[None, :], 0.0), axis=1)
    first_at = down + expert.to(tl.int64)[:, None, None] * D * F + row_at[None]
    first = tl.load(first_at, mask=tile_inside[None], other=0.0)
    let_next_start(PDL)
    wait_for_previous(PDL)
    vector = tl.load(hidden + j[:, None] * F + columns[None, :], mask=inside[None, :], other=0.0) * weight[:, None]
    change = tl.sum(tl.sum(first.to(tl.float32) * vector[:, None, :], axis=2), axis=0)
    for k in tl.static_range(AHEAD, K):
        later = tl.sum(tl.where(rank == k, e, 0), axis=0)
        tile = tl.load(down + later.to(tl.int64) * D * F + row_at, mask=tile_inside, other=0.0).to(tl.float32)
        values = tl.load(hidden + k * F + columns, mask=inside, other=0.0)
        values *= tl.sum(tl.where(rank == k, share, 0.0), axis=0)
        change += tl.sum(tile * values[None, :], axis=1)
    tl.store(x + rows, tl.load(x + rows, mask=rows < D, other=0.0) + change, mask=rows < D)
