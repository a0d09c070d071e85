"""What is lost if a block has another number of experts: by its weights alone, or by samples."""

# Shape suffixes: T = random tokens, D = width of the model, K = blocks, C = numbers of experts that a block may have.

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.experts import MoE
from models.knobs import ExpertCounts
from models.language_model import Block
from models.molmo import Molmo
from profiling.subsets.job import Job, Measure, Outcome, Part, whole

_RANDOM_TOKENS: Final = 256


@torch.inference_mode()
def weight_losses(model: Molmo, counts: Sequence[int], *, seed: int) -> NDArray[np.float64]:
    """Measure how far normal random tokens come out of each block's experts from where the trained top_k puts them.

    Knows no data (Chitty-Venkata et al., 2025).

    Args:
        model: A mixture of experts.
        counts: Numbers of experts.
        seed: Of the random tokens.

    Returns:
        Mean distance, ``(blocks, counts)``.
    """
    weight = model.language_model.head.weight
    drawn_TD = torch.randn(_RANDOM_TOKENS, model.config.hidden_dim, generator=torch.Generator().manual_seed(seed))
    rows = []
    for block in model.language_model.blocks:
        assert isinstance(block, Block)
        assert isinstance(block.ffn, MoE)
        x_1TD = block.ffn_input(drawn_TD.to(weight.device, weight.dtype)[None])
        trained_1TD = block.ffn(x_1TD, model.config.top_k)
        distances = [(block.ffn(x_1TD, count) - trained_1TD).float().norm(dim=-1).mean() for count in counts]
        rows.append(torch.stack(distances))
    losses_KC: NDArray[np.float64] = torch.stack(rows).double().cpu().numpy()
    return losses_KC


def sensitivity_jobs(
    part: Part, *, num_blocks: int, trained_top_k: int, counts: Sequence[int], num_samples: int
) -> list[Job]:
    """List what ``sensitivity_losses`` needs: the model as trained, then each block with each number of experts."""
    plain = Job(
        blocks=whole(num_blocks),
        measure=Measure.LIKELIHOOD,
        part=part,
        num_samples=num_samples,
        experts=ExpertCounts.uniform(trained_top_k, num_blocks),
    )
    return [plain] + [
        replace(plain, experts=_with_block(block, count, num_blocks, trained_top_k))
        for block in range(num_blocks)
        for count in counts
    ]


def sensitivity_losses(outcomes: Sequence[Outcome], *, num_counts: int) -> NDArray[np.float64]:
    """Return by how much the reference answers' negative log-likelihood rises: ``(blocks, counts)``.

    Args:
        outcomes: Of ``sensitivity_jobs``, in order.
        num_counts: How many numbers of experts there were.
    """
    plain, *others = [
        float(np.mean([values["nll"].mean() for values in outcome.values.values()])) for outcome in outcomes
    ]
    losses_KC: NDArray[np.float64] = np.asarray(others).reshape(-1, num_counts) - plain
    return losses_KC


def _with_block(block: int, count: int, num_blocks: int, trained_top_k: int) -> ExpertCounts:
    counts = tuple(count if index == block else trained_top_k for index in range(num_blocks))
    return ExpertCounts(text=counts, vision=counts)
