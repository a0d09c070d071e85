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
def _choose(
    partial,
    chosen,
    chosen_weight,
    eps,
    D: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    K: tl.constexpr,
    MASS_K: tl.constexpr,
    PROGRAMS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """Add up the programs' shares of the router's logits, and choose. They come from other programs, so not from L1."""
    e = tl.arange(0, E_P)
    logit = tl.zeros((E_P,), tl.float32)
    square = tl.zeros((AT_ONCE,), tl.float32)
    for first in tl.static_range(0, PROGRAMS, AT_ONCE):
        program = first + tl.arange(0, AT_ONCE)
        at = partial + program * (E_P + 1)
        there = program < PROGRAMS
        logit += tl.sum(tl.load(at[:, None] + e[None, :], mask=there[:, None], other=0.0, cache_modifier=".cg"), axis=0)
        square += tl.load(at + E_P, mask=there, other=0.0, cache_modifier=".cg")
    logit = tl.where(e < E, logit / tl.sqrt(tl.sum(square, axis=0) / D + eps), float("-inf"))
    rank = rank_experts(logit, e)
    share = tl.exp(logit - tl.max(logit, axis=0))
    scale = 1.0 / tl.sum(share, axis=0)
    if MASS_K > 0:
        trained = tl.sum(tl.where(rank < MASS_K, share, 0.0), axis=0)
        scale *= trained / tl.sum(tl.where(rank < K, share, 0.0), axis=0)
    tl.store(chosen + rank, e, mask=rank < K)
    tl.store(chosen_weight + rank, share * scale, mask=rank < K)


@triton.jit
def project_and_route(
    attended,
    weight,
    x,
    norm,
    router,
    partial,
    arrived,
    chosen,
    chosen_weight,
    eps,
    D: tl.constexpr,
    D_P: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    K: tl.constexpr,
    MASS_K: tl.constexpr,
    PROGRAMS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``x += weight @ attended``, and choose the experts of the new ``x``; ``ROWS`` rows a program.

    The router is linear but for the root mean square before it, which is one number. So each program adds its rows'
    share to all logits, and the last one to arrive adds them up, divides and chooses: no kernel of its own.

    Args:
        norm: ``(D,)`` weight of the norm before the router.
        router: ``(E, D)``.
        partial: ``(PROGRAMS, E_P + 1)`` scratch: shares of the logits, and of the sum of squares.
        arrived: ``(1,)`` zero, left as zero.
        chosen: ``(K,)`` indices of the experts, the likeliest first, written; ``chosen_weight`` their weights.
        MASS_K: Scale the weights to the sum that so many of the largest would have; 0 leaves them.
        AT_ONCE: Programs whose shares are added at once.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, D_P)
    e = tl.arange(0, E_P)
    inside = columns < D
    is_row = rows < D
    at = weight + rows.to(tl.int64)[:, None] * D + columns[None, :]
    tile = tl.load(at, mask=is_row[:, None] & inside[None, :], other=0.0, eviction_policy="evict_first")
    router_at = router + e[:, None] * D + rows[None, :]
    router_tile = tl.load(router_at, mask=(e < E)[:, None] & is_row[None, :], other=0.0).to(tl.float32)
    gain = tl.load(norm + rows, mask=is_row, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    let_next_start(PDL)
    vector = tl.load(attended + columns, mask=inside, other=0.0)
    sums = tl.load(x + rows, mask=is_row, other=0.0) + tl.sum(tile.to(tl.float32) * vector[None, :], axis=1)
    tl.store(x + rows, sums, mask=is_row)
    mine = partial + tl.program_id(0) * (E_P + 1)
    tl.store(mine + e, tl.sum(router_tile * (sums * gain)[None, :], axis=1))
    tl.store(mine + E_P, tl.sum(sums * sums, axis=0))
    tl.debug_barrier()
    if tl.atomic_add(arrived, 1, sem="acq_rel") == PROGRAMS - 1:
        _choose(partial, chosen, chosen_weight, eps, D, E, E_P, K, MASS_K, PROGRAMS, AT_ONCE)
        tl.store(arrived, 0)


@triton.jit
def experts_in(
    x,
    norm,
    chosen,
    gate_up,
    hidden,
    eps,
    D: tl.constexpr,
    D_P: tl.constexpr,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``hidden[j] = silu(gate @ y) * (up @ y)`` of the j-th chosen expert, ``y = rms_norm(x)``.

    Args:
        gate_up: ``(E, 2 * F, D)``, gate first.
        hidden: ``(K, F)``, written.
    """
    j = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, D_P)
    inside = columns < D
    tile_inside = (rows < F)[:, None] & inside[None, :]
    gain = tl.load(norm + columns, mask=inside, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    let_next_start(PDL)
    expert = tl.load(chosen + j).to(tl.int64)
    gate_at = gate_up + expert * 2 * F * D + rows[:, None] * D + columns[None, :]
    gate_tile = tl.load(gate_at, mask=tile_inside, other=0.0, eviction_policy="evict_first")
    up_tile = tl.load(gate_at + F * D, mask=tile_inside, other=0.0, eviction_policy="evict_first")
    vector = tl.load(x + columns, mask=inside, other=0.0)
    normed = vector * inverse_rms(vector, D, eps) * gain
    gate = tl.sum(gate_tile.to(tl.float32) * normed[None, :], axis=1)
    up = tl.sum(up_tile.to(tl.float32) * normed[None, :], axis=1)
    tl.store(hidden + j * F + rows, gate * tl.sigmoid(gate) * up, mask=rows < F)


@triton.jit
def experts_out(
    hidden,
    chosen,
    chosen_weight,
    down,
    x,
    D: tl.constexpr,
    F: tl.constexpr,
    F_P: tl.constexpr,
    K: tl.constexpr,
    AHEAD: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``x += sum over j of weight[j] * down[chosen[j]] @ hidden[j]``, ``ROWS`` rows a program.

    The choice is older than ``hidden``: the weights of the first experts are read before the kernel that makes
    ``hidden`` has ended.

    Args:
        hidden: ``(K, F)``.
        chosen: ``(K,)``; ``chosen_weight`` likewise.
        down: ``(E, D, F)``.
        AHEAD: Experts that are read ahead, at most ``K``.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, F_P)
    inside = columns < F
    tile_inside = (rows < D)[:, None] & inside[None, :]
    at = down + rows[:, None] * F + columns[None, :]
    ahead = ()
    for k in tl.static_range(AHEAD):
        expert = tl.load(chosen + k, cache_modifier=".cg").to(tl.int64)
        ahead = ahead + (tl.load(at + expert * D * F, mask=tile_inside, other=0.0, eviction_policy="evict_first"),)  # noqa: RUF005 (a tuple of Triton)
    wait_for_previous(PDL)
    let_next_start(PDL)
    products = tl.zeros((ROWS, F_P), tl.float32)
    for k in tl.static_range(AHEAD):
        vector = tl.load(hidden + k * F + columns, mask=inside, other=0.0) * tl.load(chosen_weight + k)
        products += ahead[k].to(tl.float32) * vector[None, :]
    for k in range(AHEAD, K):  # not unrolled: all weights at once would not fit into the registers
        vector = tl.load(hidden + k * F + columns, mask=inside, other=0.0) * tl.load(chosen_weight + k)
        expert = tl.load(chosen + k).to(tl.int64)
        tile = tl.load(at + expert * D * F, mask=tile_inside, other=0.0, eviction_policy="evict_first")
        products += tile.to(tl.float32) * vector[None, :]
    change = tl.sum(products, axis=1)
    tl.store(x + rows, tl.load(x + rows, mask=rows < D, other=0.0) + change, mask=rows < D)
