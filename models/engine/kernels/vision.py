"""What the vision encoder does between its matrix products, one token a program. Tensors have the model's type."""

# Shapes: W = width of the encoder, F = hidden width of its feed-forward layers.

import triton
import triton.language as tl


@triton.jit
def add_norm(x, change, bias, norm, norm_bias, y, eps, W: tl.constexpr, W_P: tl.constexpr):
    """``x += change + bias`` and ``y = layer_norm(x)``."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, W_P)
    inside = column < W
    at = token * W + column
    total = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(change + at, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    rounded = total.to(x.dtype.element_ty)
    tl.store(x + at, rounded, mask=inside)
    total = rounded.to(tl.float32)
    centred = tl.where(inside, total - tl.sum(total, axis=0) / W, 0.0)
    normed = centred / tl.sqrt(tl.sum(centred * centred, axis=0) / W + eps)
    normed *= tl.load(norm + column, mask=inside, other=0.0).to(tl.float32)
    normed += tl.load(norm_bias + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, normed.to(y.dtype.element_ty), mask=inside)


@triton.jit
def quick_gelu(hidden, bias, F: tl.constexpr, F_P: tl.constexpr):
    """``h = hidden + bias``, ``hidden = h * sigmoid(1.702 * h)``, in place."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, F_P)
    inside = column < F
    at = hidden + token * F + column
    h = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(at, (h * tl.sigmoid(1.702 * h)).to(hidden.dtype.element_ty), mask=inside)
