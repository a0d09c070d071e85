"""The likeliest next token."""

import triton
import triton.language as tl

from models.engine.kernels.overlap import let_next_start, wait_for_previous


@triton.jit
def largest_of_part(logits, high, index, V: tl.constexpr, PART: tl.constexpr, PDL: tl.constexpr):
    """The largest logit of each part of the vocabulary and where it is."""
    let_next_start(PDL)
    wait_for_previous(PDL)
    ids = tl.program_id(0) * PART + tl.arange(0, PART)
    logit = tl.load(logits + ids, mask=ids < V, other=float("-inf"))
    best = tl.max(logit, axis=0)
    tl.store(high + tl.program_id(0), best)
    tl.store(index + tl.program_id(0), tl.min(tl.where(logit == best, ids, V), axis=0))


@triton.jit
def advance(
    high,
    index,
    token,
    position,
    PARTS: tl.constexpr,
    PARTS_P: tl.constexpr,
    V: tl.constexpr,
    PDL: tl.constexpr,
):
    """Choose the likeliest token, the first among equals, and count the one that was run.

    Where no logit is a number it is the last token: a wrong answer, but one that the next step can look up.
    """
    wait_for_previous(PDL)
    part = tl.arange(0, PARTS_P)
    best = tl.load(high + part, mask=part < PARTS, other=float("-inf"))
    where = tl.load(index + part, mask=part < PARTS, other=V)
    first = tl.min(tl.where(best == tl.max(best, axis=0), where, V), axis=0)
    tl.store(token, tl.minimum(first, V - 1).to(tl.int64))
    tl.store(position, tl.load(position) + 1)
