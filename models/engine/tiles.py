"""How the graph engine cuts a decode step into programs; known without Triton."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """How a matrix-vector product is cut into programs: rows of the matrix a program, and its warps."""

    rows: int
    warps: int = 4


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How a step's work is cut into programs.

    Args:
        qkv: Of the query, key and value projection.
        out: Of the attention's output projection, which routes too.
        expert_in: Of an expert's gate, with as many rows of its up projection.
        expert_out: Of the experts' down projections.
        head: Of the output head.
        shares_at_once: Programs of ``out`` whose shares of the router's logits are added at once; a power of two.
        experts_ahead: Experts whose down projections are read while the gates are computed.
        context_splits: Programs of an attention head: one for the new token, the others share the context; a power of
            two, not 1.
        context_tokens: Cached tokens that a program reads at once; a power of two.
        vocabulary_part: Logits that a program compares; a power of two.
    """

    qkv: Cut = Cut(4)
    out: Cut = Cut(8)
    expert_in: Cut = Cut(2)
    expert_out: Cut = Cut(8)
    head: Cut = Cut(4)
    shares_at_once: int = 256
    experts_ahead: int = 2
    context_splits: int = 32
    context_tokens: int = 128
    vocabulary_part: int = 1024
