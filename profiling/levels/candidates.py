"""Meanings of a level of top_k that give a token no more experts on average than the plain number."""

# Shape suffixes: K = blocks, C = numbers of experts that a block may have.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.knobs import ExpertCounts


class Kind(StrEnum):
    """How a meaning was found.

    * ``uniform``: the plain number.
    * ``modality``: fewer experts for vision tokens, and as many or more for text tokens.
    * ``layer_weights``: other numbers by block, chosen by the blocks' weights alone.
    * ``layer_sensitivity``: the same, chosen by how much worse samples are predicted.
    """

    UNIFORM = "uniform"
    MODALITY = "modality"
    LAYER_WEIGHTS = "layer_weights"
    LAYER_SENSITIVITY = "layer_sensitivity"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A meaning of a level.

    Args:
        top_k: The level.
        kind: How it was found.
        experts: The meaning.
    """

    top_k: int
    kind: Kind
    experts: ExpertCounts

    def mean_experts(self, vision_share: float) -> float:
        """Return the experts of a prompt's token, on average over tokens and blocks.

        Args:
            vision_share: Share of vision tokens among the tokens of prompts.
        """
        text, vision = (float(np.mean(counts)) for counts in (self.experts.text, self.experts.vision))
        return vision_share * vision + (1 - vision_share) * text


def uniform(top_k: int, num_blocks: int) -> Candidate:
    """Return the plain number."""
    return Candidate(top_k=top_k, kind=Kind.UNIFORM, experts=ExpertCounts.uniform(top_k, num_blocks))


def by_modality(
    top_k: int, *, vision_share: float, reductions: Sequence[int], num_blocks: int, num_experts: int
) -> list[Candidate]:
    """Take experts from vision tokens and give text tokens what that saves, half of it, or nothing.

    Each generated token pays for what text tokens are given, so that only the last is sure to be no slower.

    Args:
        top_k: The level.
        vision_share: Share of vision tokens among the tokens of prompts, below 1.
        reductions: By how many experts fewer for a vision token.
        num_blocks: Blocks of the model.
        num_experts: Experts of a block, the most that a token may be given.
    """
    found: dict[ExpertCounts, Candidate] = {}
    for fewer in reductions:
        if fewer >= top_k or vision_share == 0:
            continue
        # What rounding takes from a share like 0.9 must not cost a whole expert.
        saved = math.floor(fewer * vision_share / (1 - vision_share) + 1e-9)
        for more in (saved, saved // 2, 0):
            text = min(top_k + more, num_experts)
            experts = ExpertCounts(text=(text,) * num_blocks, vision=(top_k - fewer,) * num_blocks)
            found[experts] = Candidate(top_k=top_k, kind=Kind.MODALITY, experts=experts)
    return list(found.values())


def by_layer(top_k: int, kind: Kind, *, losses_KC: NDArray[np.float64], counts: Sequence[int]) -> Candidate | None:
    """Share out all of a level's experts among the blocks so that the sum of losses is least.

    Args:
        top_k: The level, which blocks have on average; where ``counts`` do not add up to it, as near below as they do.
        kind: What the losses are.
        losses_KC: ``(blocks, counts)``: what is lost if a block has so many experts.
        counts: Numbers of experts that a block may have, rising.

    Returns:
        The best shares; ``None`` if they are the plain number, blocks need more, or all ways to share out less than the
        level fit the one below as well.
    """
    num_blocks = len(losses_KC)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for losses_C in losses_KC:
        step: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (loss, chosen) in best.items():
            for count, more in zip(counts, losses_C.tolist(), strict=True):
                total = used + count
                if total <= top_k * num_blocks and (total not in step or loss + more < step[total][0]):
                    step[total] = (loss + more, (*chosen, count))
        best = step
    spent = max(best, default=0)
    if spent <= (top_k - 1) * num_blocks:
        return None
    _, shares = best[spent]
    experts = ExpertCounts(text=shares, vision=shares)
    if experts == ExpertCounts.uniform(top_k, num_blocks):
        return None
    return Candidate(top_k=top_k, kind=kind, experts=experts)


def candidates(
    levels: Sequence[int],
    *,
    vision_share: float,
    reductions: Sequence[int],
    losses: Mapping[Kind, NDArray[np.float64]],
    counts: Sequence[int],
    num_experts: int,
) -> list[Candidate]:
    """List the meanings of each level, the plain number first.

    Args:
        levels: The levels.
        vision_share: Share of vision tokens among the tokens of prompts.
        reductions: By how many experts fewer for a vision token.
        losses: ``(blocks, counts)`` each: what is lost if a block has so many experts.
        counts: Numbers of experts that a block may have, rising.
        num_experts: Experts of a block.
    """
    num_blocks = len(next(iter(losses.values())))
    found: list[Candidate] = []
    for top_k in levels:
        shared_out = [by_layer(top_k, kind, losses_KC=each, counts=counts) for kind, each in losses.items()]
        found += [
            uniform(top_k, num_blocks),
            *by_modality(
                top_k,
                vision_share=vision_share,
                reductions=reductions,
                num_blocks=num_blocks,
                num_experts=num_experts,
            ),
            *(each for each in shared_out if each is not None),
        ]
    return found
