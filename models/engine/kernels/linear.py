"""Matrix-vector products, and the norm before them."""

import triton
import triton.language as tl

from models.engine.kernels.overlap import let_next_start, wait_for_previous


@triton.jit
def inverse_rms(x, dim: tl.constexpr, eps):
    """What a vector, padded with zeros, is multiplied by to have a root mean square of one."""
    return 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / dim + eps)


@triton.jit
def embed(token, table, x, D: tl.constexpr, D_P: tl.constexpr, PDL: tl.constexpr):
    """Look the token up: ``x = table[token]``."""
    let_next_start(PDL)
    wait_for_previous(PDL)
    columns = tl.arange(0, D_P)
    inside = columns < D
    row = tl.load(token)
    tl.store(x + columns, tl.load(table + row * D + columns, mask=inside, other=0.0).to(tl.float32), mask=inside)


@triton.jit
def norm_linear(
    x,
    norm,
    weight,
    out,
    eps,
    N: tl.constexpr,
    D: tl.constexpr,
    D_P: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """``out = weight @ rms_norm(x)``, ``ROWS`` rows a program."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, D_P)
    inside = columns < D
    tile_inside = (rows < N)[:, None] & inside[None, :]
    # The weights first: they do not depend on the kernel before.
    at = weight + rows.to(tl.int64)[:, None] * D + columns[None, :]
    tile = tl.load(at, mask=tile_inside, other=0.0, eviction_policy="evict_first")
    gain = tl.load(norm + columns, mask=inside, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    let_next_start(PDL)
    vector = tl.load(x + columns, mask=inside, other=0.0)
    normed = vector * inverse_rms(vector, D, eps) * gain
    tl.store(out + rows, tl.sum(tile.to(tl.float32) * normed[None, :], axis=1), mask=rows < N)
