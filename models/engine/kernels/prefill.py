"""What a prefill does between its matrix products, one token a program. Tensors have the model's type.

Prompts are padded, so that they have one of a few lengths; ``num_tokens`` says how many tokens are real.
"""

import triton
import triton.language as tl

# Below every logit that is a number.
_LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def _place_normed(
    row,
    norm,
    cosine,
    sine,
    out,
    stride,
    is_real,
    eps,
    D: tl.constexpr,
    H: tl.constexpr,
    HALF: tl.constexpr,
    H_P: tl.constexpr,
    HALF_P: tl.constexpr,
):
    """Normalise a projected row over all heads, turn each by the position's angle, store them ``stride`` apart."""
    head = tl.arange(0, H_P)[:, None]
    half = tl.arange(0, HALF_P)[None, :]
    inside = (head < H) & (half < HALF)
    at = head * 2 * HALF + half
    first = tl.load(row + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(row + at + HALF, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt((tl.sum(tl.sum(first * first + second * second, axis=1), axis=0)) / D + eps)
    first *= scale * tl.load(norm + at, mask=inside, other=0.0).to(tl.float32)
    second *= scale * tl.load(norm + at + HALF, mask=inside, other=0.0).to(tl.float32)
    place = out + head.to(tl.int64) * stride + half
    turned_1 = tl.where(is_real, first * cosine - second * sine, 0.0)
    turned_2 = tl.where(is_real, second * cosine + first * sine, 0.0)
    tl.store(place, turned_1.to(out.dtype.element_ty), mask=inside)
    tl.store(place + HALF, turned_2.to(out.dtype.element_ty), mask=inside)


@triton.jit
def place_heads(
    qkv,
    query_norm,
    key_norm,
    cosines,
    sines,
    num_tokens,
    query,
    cache,
    eps,
    C,
    D: tl.constexpr,
    D_P: tl.constexpr,
    H: tl.constexpr,
    HALF: tl.constexpr,
    H_P: tl.constexpr,
    HALF_P: tl.constexpr,
):
    """Turn projected tokens into queries, and into keys and values in the cache; those of padding are zeros.

    Nothing attends to padding, but a weight of zero times what is no number would be none either.

    Args:
        qkv: ``(tokens, 3 * D)``.
        query: ``(tokens, D)``, written.
        cache: ``(2, H, C, 2 * HALF)`` of this block; the first tokens are written.
    """
    token = tl.program_id(0).to(tl.int64)
    is_real = token < tl.load(num_tokens)
    half = tl.arange(0, HALF_P)[None, :]
    cosine = tl.load(cosines + token * HALF + half, mask=half < HALF, other=0.0)
    sine = tl.load(sines + token * HALF + half, mask=half < HALF, other=0.0)
    row = qkv + token * 3 * D
    _place_normed(row, query_norm, cosine, sine, query + token * D, 2 * HALF, is_real, eps, D, H, HALF, H_P, HALF_P)
    keys = cache + token * 2 * HALF
    _place_normed(row + D, key_norm, cosine, sine, keys, C * 2 * HALF, is_real, eps, D, H, HALF, H_P, HALF_P)
    column = tl.arange(0, D_P)
    value = tl.load(row + 2 * D + column, mask=(column < D) & is_real, other=0.0)
    head = (column // (2 * HALF)).to(tl.int64)
    tl.store(keys + (H + head) * C * 2 * HALF + column % (2 * HALF), value, mask=column < D)


@triton.jit
def route(
    logits,
    num_tokens,
    is_vision,
    weight,
    expert,
    place,
    counts,
    E: tl.constexpr,
    E_P: tl.constexpr,
    K: tl.constexpr,
    TEXT_K: tl.constexpr,
    VISION_K: tl.constexpr,
    MASS_K: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Choose each token's experts and a place for it among the tokens of each; ``TOKENS`` tokens a program.

    The order of places depends on which program comes first, but no result does: every row is computed by itself.

    Args:
        logits: ``(tokens, E)`` of the router.
        is_vision: ``(tokens,)`` int32: 1 for vision tokens, which are given VISION_K experts, 0 for others, TEXT_K.
        weight: ``(tokens, K)`` float32, written; ``expert`` and ``place`` likewise, int32. An expert that a token is
            not given is called E.
        counts: ``(E,)`` int32 zeros; afterwards how many tokens chose each expert.
        K: The larger of TEXT_K and VISION_K.
        MASS_K: Scale the weights to the sum that so many of the largest would have; 0 leaves them.
    """
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    is_real = token < tl.load(num_tokens)
    own_k = tl.where(tl.load(is_vision + token, mask=is_real, other=0) > 0, VISION_K, TEXT_K)
    e = tl.arange(0, E_P)
    inside = is_real[:, None] & (e < E)[None, :]
    logit = tl.load(logits + token[:, None] * E + e[None, :], mask=inside, other=0.0).to(tl.float32)
    not_a_number = tl.sum(logit * 0.0, axis=1)  # if one of the logits is none, else 0
    # Such a logit comes last, but before what is no expert, so that choices stay different experts.
    logit = tl.where(logit > _LOWEST, logit, _LOWEST)
    free = tl.where((e < E)[None, :], logit, float("-inf"))
    total = tl.sum(tl.exp(free - tl.max(free, axis=1)[:, None]), axis=1)
    scale = 1.0 / total + not_a_number
    shares = ()
    if MASS_K > 0:
        trained = tl.zeros((TOKENS,), tl.float32)
        kept = tl.zeros((TOKENS,), tl.float32)
    highest = tl.max(free, axis=1)
    for j in tl.static_range(max(MASS_K, K)):
        best = tl.max(free, axis=1)
        index = tl.min(tl.where(free == best[:, None], e[None, :], E_P), axis=1)
        free = tl.where(e[None, :] == index[:, None], float("-inf"), free)
        share = tl.exp(best - highest)
        if MASS_K > 0:
            trained += share if j < MASS_K else 0.0
            kept += tl.where(j < own_k, share, 0.0)
        if j < K:
            shares = shares + (share,)  # noqa: RUF005 (a tuple of Triton)
            is_given = is_real & (j < own_k)
            tl.store(expert + token * K + j, tl.where(is_given, index, E), mask=is_real)
            turn = tl.atomic_add(counts + index, 1, mask=is_given, sem="relaxed")
            tl.store(place + token * K + j, turn, mask=is_given)
    if MASS_K > 0:
        scale *= trained / kept
    for j in tl.static_range(K):
        tl.store(weight + token * K + j, shares[j] * scale, mask=is_real)


@triton.jit
def dispatch(
    y,
    num_tokens,
    expert,
    place,
    counts,
    rows,
    row_of,
    ends,
    D: tl.constexpr,
    D_P: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    K: tl.constexpr,
):
    """Copy each token to the rows of its experts, which lie one expert behind the other.

    Args:
        y: ``(tokens, D)``.
        place: As ``route`` left it; ``counts`` likewise.
        rows: ``(tokens * K, D)``, written.
        row_of: ``(tokens, K)`` int32: the row of each choice, -1 where it is none, written. Not in ``place``'s
            memory: one thread could write it before another has read it.
        ends: ``(E,)`` int32: where each expert's rows end, written.
    """
    token = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, E_P)
    count = tl.load(counts + e, mask=e < E, other=0)
    if token == 0:
        tl.store(ends + e, tl.cumsum(count, axis=0), mask=e < E)
    if token < tl.load(num_tokens):
        column = tl.arange(0, D_P)
        vector = tl.load(y + token * D + column, mask=column < D, other=0.0)
        for j in tl.static_range(K):
            at = token * K + j
            chosen = tl.load(expert + at)
            row = tl.sum(tl.where(e < chosen, count, 0), axis=0) + tl.load(place + at, mask=chosen < E, other=0)
            tl.store(rows + row.to(tl.int64) * D + column, vector, mask=(column < D) & (chosen < E))
            tl.store(row_of + at, tl.where(chosen < E, row, -1))


@triton.jit
def gate(gate_up, ends, hidden, F: tl.constexpr, F_P: tl.constexpr, E: tl.constexpr):
    """``hidden = silu(gate) * up`` of rows ``(2 * F,)``, gate first, up to where the last expert's rows end."""
    row = tl.program_id(0).to(tl.int64)
    if row < tl.load(ends + E - 1):
        column = tl.arange(0, F_P)
        inside = column < F
        gates = tl.load(gate_up + row * 2 * F + column, mask=inside, other=0.0).to(tl.float32)
        ups = tl.load(gate_up + row * 2 * F + F + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(hidden + row * F + column, (gates * tl.sigmoid(gates) * ups).to(hidden.dtype.element_ty), mask=inside)


@triton.jit
def combine(
    rows,
    weight,
    row_of,
    num_tokens,
    counts,
    x,
    D: tl.constexpr,
    D_P: tl.constexpr,
    E: tl.constexpr,
    E_P: tl.constexpr,
    K: tl.constexpr,
):
    """``x += sum over j of weight[j] * rows[row_of[j]]``; leave ``counts`` zeros for the next block."""
    token = tl.program_id(0).to(tl.int64)
    if token == 0:
        e = tl.arange(0, E_P)
        tl.store(counts + e, tl.zeros((E_P,), tl.int32), mask=e < E)
    if token < tl.load(num_tokens):
        column = tl.arange(0, D_P)
        inside = column < D
        total = tl.load(x + token * D + column, mask=inside, other=0.0).to(tl.float32)
        for j in tl.static_range(K):
            row = tl.load(row_of + token * K + j).to(tl.int64)
            part = tl.load(rows + row * D + column, mask=inside & (row >= 0), other=0.0).to(tl.float32)
            total += tl.load(weight + token * K + j) * part
        tl.store(x + token * D + column, total.to(x.dtype.element_ty), mask=inside)
