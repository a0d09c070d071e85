"""Attention of one new token to the cached ones."""

import triton
import triton.language as tl

from models.engine.kernels.linear import inverse_rms
from models.engine.kernels.overlap import let_next_start, wait_for_previous


@triton.jit
def _rotated_head(row, norm, cosine, sine, scale, head, half, half_inside, HALF: tl.constexpr):
    """Normalise one head of a projected row and turn it by the position's angle; two halves."""
    first_at = head * 2 * HALF + half
    second_at = first_at + HALF
    first = tl.load(row + first_at, mask=half_inside, other=0.0) * scale
    second = tl.load(row + second_at, mask=half_inside, other=0.0) * scale
    first *= tl.load(norm + first_at, mask=half_inside, other=0.0).to(tl.float32)
    second *= tl.load(norm + second_at, mask=half_inside, other=0.0).to(tl.float32)
    return first * cosine - second * sine, second * cosine + first * sine


@triton.jit
def _append(
    qkv,
    key_row,
    key_norm,
    cosine,
    sine,
    keys,
    values,
    query_1,
    query_2,
    head,
    length,
    eps,
    half,
    half_inside,
    D: tl.constexpr,
    HALF: tl.constexpr,
):
    """Put the new token's key and value into the cache; return its score and its value's halves."""
    key_1, key_2 = _rotated_head(
        qkv + D, key_norm, cosine, sine, inverse_rms(key_row, D, eps), head, half, half_inside, HALF
    )
    # What is attended to is what the cache holds, rounded to its type.
    key_1 = key_1.to(keys.dtype.element_ty)
    key_2 = key_2.to(keys.dtype.element_ty)
    value_at = qkv + 2 * D + head * 2 * HALF + half
    value_1 = tl.load(value_at, mask=half_inside, other=0.0).to(keys.dtype.element_ty)
    value_2 = tl.load(value_at + HALF, mask=half_inside, other=0.0).to(keys.dtype.element_ty)
    new = length * 2 * HALF + half
    tl.store(keys + new, key_1, mask=half_inside)
    tl.store(keys + new + HALF, key_2, mask=half_inside)
    tl.store(values + new, value_1, mask=half_inside)
    tl.store(values + new + HALF, value_2, mask=half_inside)
    score = tl.sum(query_1 * key_1.to(tl.float32) + query_2 * key_2.to(tl.float32), axis=0)
    return score, value_1.to(tl.float32), value_2.to(tl.float32)


@triton.jit
def _join_splits(partial, out, half, half_inside, active, HALF: tl.constexpr, HALF_P: tl.constexpr, S: tl.constexpr):
    """Weigh the splits of one head by their shares of the softmax. They come from other programs, so not from L1."""
    split = tl.arange(0, S)
    splits = partial + split * (2 * HALF_P + 2)
    is_active = split < active
    highest = tl.load(splits + 2 * HALF_P, mask=is_active, other=float("-inf"), cache_modifier=".cg")
    total = tl.load(splits + 2 * HALF_P + 1, mask=is_active, other=0.0, cache_modifier=".cg")
    mixed_at = splits[:, None] + half[None, :]
    mixed_1 = tl.load(mixed_at, mask=is_active[:, None], other=0.0, cache_modifier=".cg")
    mixed_2 = tl.load(mixed_at + HALF_P, mask=is_active[:, None], other=0.0, cache_modifier=".cg")
    share = tl.exp(highest - tl.max(highest, axis=0))
    share /= tl.sum(share * total, axis=0)
    tl.store(out + half, tl.sum(mixed_1 * share[:, None], axis=0), mask=half_inside)
    tl.store(out + HALF + half, tl.sum(mixed_2 * share[:, None], axis=0), mask=half_inside)


@triton.jit
def _read(tokens, end, keys, values, half, half_inside, HALF: tl.constexpr):
    """Read cached keys and values of some tokens, each in two halves, as they are."""
    inside = (tokens < end)[:, None] & half_inside[None, :]
    at = tokens[:, None] * 2 * HALF + half[None, :]
    key_1 = tl.load(keys + at, mask=inside, other=0.0)
    key_2 = tl.load(keys + at + HALF, mask=inside, other=0.0)
    value_1 = tl.load(values + at, mask=inside, other=0.0)
    value_2 = tl.load(values + at + HALF, mask=inside, other=0.0)
    return key_1, key_2, value_1, value_2


@triton.jit
def _mix(is_token, key_1, key_2, value_1, value_2, query_1, query_2, highest, total, mixed_1, mixed_2):
    """Add tokens to a softmax that runs along the context."""
    score = tl.sum(key_1.to(tl.float32) * query_1[None, :] + key_2.to(tl.float32) * query_2[None, :], axis=1)
    score = tl.where(is_token, score, float("-inf"))
    higher = tl.maximum(highest, tl.max(score, axis=0))
    weight = tl.exp(score - higher)
    rescale = tl.exp(highest - higher)
    total = total * rescale + tl.sum(weight, axis=0)
    mixed_1 = mixed_1 * rescale + tl.sum(weight[:, None] * value_1.to(tl.float32), axis=0)
    mixed_2 = mixed_2 * rescale + tl.sum(weight[:, None] * value_2.to(tl.float32), axis=0)
    return higher, total, mixed_1, mixed_2


@triton.jit
def attend(
    qkv,
    query_norm,
    key_norm,
    cosines,
    sines,
    position,
    cache,
    partial,
    arrived,
    out,
    eps,
    C,
    D: tl.constexpr,
    D_P: tl.constexpr,
    H: tl.constexpr,
    HALF: tl.constexpr,
    HALF_P: tl.constexpr,
    S: tl.constexpr,
    TOKENS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Attend to the cached tokens and the new one, whose key and value are put into the cache.

    Programs of a head: the first one sees to the new token, each other one to a split of the context; the last to
    arrive joins what they found. Cached tokens are of earlier steps, so the first ones are read before the kernel that
    projects the new one has ended.

    Args:
        qkv: ``(3 * D,)`` projected token.
        query_norm: ``(D,)`` weight of the query's norm, over all heads; ``key_norm`` likewise.
        cosines: ``(positions, HALF)`` table; ``sines`` likewise.
        position: How many tokens are cached.
        cache: ``(2, H, C, 2 * HALF)`` keys and values of this block.
        partial: ``(H, S, 2 * HALF_P + 2)`` scratch: a program's weighted values, its largest score, its sum.
        arrived: ``(H,)`` zeros, left as zeros.
        out: ``(D,)`` mixed values.
        S: Programs of a head, 2 or more; in a short context the last of them have nothing to do.
        TOKENS: Cached tokens that are read at once.
    """
    let_next_start(PDL)
    head = tl.program_id(0)
    split = tl.program_id(1)
    length = tl.load(position)
    per_split = tl.cdiv(tl.cdiv(length, S - 1), TOKENS) * TOKENS
    active = 1 + tl.cdiv(length, tl.maximum(per_split, 1))
    if split < active:
        half = tl.arange(0, HALF_P)
        half_inside = half < HALF
        keys = cache + head.to(tl.int64) * C * 2 * HALF
        values = keys + H * C * 2 * HALF
        start = tl.maximum(split - 1, 0) * per_split
        end = tl.minimum(split * per_split, length)
        tokens = start + tl.arange(0, TOKENS)
        key_1, key_2, value_1, value_2 = _read(tokens, end, keys, values, half, half_inside, HALF)
        cosine = tl.load(cosines + length * HALF + half, mask=half_inside, other=0.0)
        sine = tl.load(sines + length * HALF + half, mask=half_inside, other=0.0)
        wait_for_previous(PDL)

        wide = tl.arange(0, D_P)
        query_row = tl.load(qkv + wide, mask=wide < D, other=0.0)
        key_row = tl.load(qkv + D + wide, mask=(wide < D) & (split == 0), other=0.0)
        scale = inverse_rms(query_row, D, eps) * tl.rsqrt(2.0 * HALF)
        query_1, query_2 = _rotated_head(qkv, query_norm, cosine, sine, scale, head, half, half_inside, HALF)
        highest = tl.full((), float("-inf"), tl.float32)
        total = tl.full((), 0.0, tl.float32)
        mixed_1 = tl.zeros((HALF_P,), tl.float32)
        mixed_2 = tl.zeros((HALF_P,), tl.float32)
        if split == 0:
            highest, mixed_1, mixed_2 = _append(
                qkv,
                key_row,
                key_norm,
                cosine,
                sine,
                keys,
                values,
                query_1,
                query_2,
                head,
                length,
                eps,
                half,
                half_inside,
                D,
                HALF,
            )
            total = tl.full((), 1.0, tl.float32)
        else:
            highest, total, mixed_1, mixed_2 = _mix(
                tokens < end, key_1, key_2, value_1, value_2, query_1, query_2, highest, total, mixed_1, mixed_2
            )
            for first in range(start + TOKENS, end, TOKENS):
                tokens = first + tl.arange(0, TOKENS)
                key_1, key_2, value_1, value_2 = _read(tokens, end, keys, values, half, half_inside, HALF)
                highest, total, mixed_1, mixed_2 = _mix(
                    tokens < end, key_1, key_2, value_1, value_2, query_1, query_2, highest, total, mixed_1, mixed_2
                )

        size: tl.constexpr = 2 * HALF_P + 2
        mine = partial + (head * S + split) * size
        tl.store(mine + half, mixed_1)
        tl.store(mine + HALF_P + half, mixed_2)
        tl.store(mine + 2 * HALF_P, highest)
        tl.store(mine + 2 * HALF_P + 1, total)
        tl.debug_barrier()
        if tl.atomic_add(arrived + head, 1, sem="acq_rel") == active - 1:
            _join_splits(partial + head * S * size, out + head * 2 * HALF, half, half_inside, active, HALF, HALF_P, S)
            tl.store(arrived + head, 0)
