"""What is measured on a batch of samples, or a few of them."""

# Shape suffixes: B = samples, S = ids in the sequence, D = width of the language model, T = ids of all answers of a
# batch, V = vocabulary, K = blocks.

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.engine.eager import EagerEngine
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo, token_experts, token_positions
from models.processor import MolmoProcessor
from profiling.answers import score_answers
from profiling.datasets.catalogue import dataset_entry
from profiling.subsets.job import Job, Measure
from profiling.subsets.prepared import PreparedBatch, answer_log_probs

SAMPLES_PER_GRADIENT: Final = 8


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a batch gave.

    Args:
        values: By quantity, ``(batch,)`` or ``(batch, blocks or spans)``; of gradients a row for a few samples.
        forward_passes: Calls of the language model.
        backward_passes: Gradients of such calls.
    """

    values: Mapping[str, Tensor]
    forward_passes: int = 1
    backward_passes: int = 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who is measured.

    Args:
        model: The model.
        processor: Its processor.
        setting: The knobs that it runs with.
    """

    model: Molmo
    processor: MolmoProcessor
    setting: KnobSetting


@torch.inference_mode()
def answers(subject: Subject, batch: PreparedBatch) -> Measured:
    """Let the model answer greedily, and score the answers as their dataset does."""
    most = dataset_entry(batch.samples[0].dataset).max_new_tokens
    eos_id = subject.processor.special_tokens.eos_id
    inputs, x_BSD = batch.prompt
    capacity = x_BSD.shape[1] + most
    tokens: list[Tensor] = []
    with EagerEngine(subject.model).request(
        subject.setting, batch_size=len(batch.samples), capacity=capacity
    ) as request:
        request.prefill(inputs, x_BSD)
        is_over_B = torch.zeros_like(batch.prompt_lengths, dtype=torch.bool)
        while True:
            tokens.append(request.likeliest)
            is_over_B |= tokens[-1] == eos_id
            if len(tokens) == most or is_over_B.all():
                break
            request.step(tokens[-1])
    texts = [subject.processor.decode(ids) for ids in torch.stack(tokens, dim=1).tolist()]
    accuracy = [score.value for score in score_answers(texts, batch.samples)]
    return Measured(values={"accuracy": torch.tensor(accuracy)}, forward_passes=len(tokens))


@torch.inference_mode()
def likelihood(subject: Subject, batch: PreparedBatch) -> Measured:
    """Compare the distributions over the reference answers' ids with the answers, and with those of the whole model."""
    found_TV = answer_log_probs(subject.model, batch.inputs, batch.labels, batch.x, subject.setting)
    nll_T = F.nll_loss(found_TV, batch.labels[batch.is_answer], reduction="none")
    kl_T = (batch.reference.exp() * (batch.reference - found_TV)).sum(dim=1).clamp(min=0)  # rounding may go below
    return Measured(values={"nll": _mean_by_sample(nll_T, batch), "kl": _mean_by_sample(kl_T, batch)})


@torch.inference_mode()
def hidden_states(subject: Subject, batch: PreparedBatch) -> Measured:
    """Measure how far each block turns the hidden states.

    ``block_influence`` is 1 minus the cosine of a block's input and output, meaned over all tokens (Men et al., 2024).
    ``angular_distance`` is their angle, as a share of a half turn, at the prompt's last token, and ``angular_spans``
    that of spans of blocks, in the order of ``spans`` (Gromov et al., 2024).
    """
    inputs = batch.inputs
    num_tokens_B = inputs.num_tokens
    rows_B = torch.arange(len(num_tokens_B), device=num_tokens_B.device)
    last_B = batch.prompt_lengths - 1
    influence: list[Tensor] = []
    last_states: list[Tensor] = []

    def look(_block: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        x_BSD: Tensor = arguments[0]
        change_BS = (1 - F.cosine_similarity(x_BSD.float(), output.float(), dim=2)) * inputs.valid
        influence.append(change_BS.sum(dim=1) / num_tokens_B)
        if not last_states:
            last_states.append(x_BSD[rows_B, last_B].float())
        last_states.append(output[rows_B, last_B].float())

    with _hooked(subject, look):
        subject.model.language_model(
            batch.x,
            token_positions(inputs),
            active_blocks=subject.setting.active_blocks,
            top_k=token_experts(subject.setting, inputs),
        )
    angles = [_angle(last_states[span[0]], last_states[span[1]]) for span in spans(len(influence))]
    angles_B = torch.stack(angles, dim=1)
    return Measured(
        values={
            "block_influence": torch.stack(influence, dim=1),
            "angular_distance": angles_B[:, : len(influence)],
            "angular_spans": angles_B,
        }
    )


def gradients(subject: Subject, pieces: Sequence[PreparedBatch]) -> Measured:
    """Sum, over a block's weights, the size of gradient times weight, for the mean loss of a few samples together.

    To first order this is how much the loss changes if each weight is set to zero (Molchanov et al., 2017). Gradients
    of single samples would cost yet more than leaving out each block in turn; several at once are taken as by Ma et al.
    (2023).

    Args:
        subject: Who is measured.
        pieces: The samples, in as many pieces as they are run in; gradients of pieces add up.
    """
    blocks = [subject.model.language_model.blocks[index] for index in subject.setting.active_blocks]
    weights_by_block = [list(block.parameters()) for block in blocks]
    flat = [weight for weights in weights_by_block for weight in weights]
    num_samples = sum(len(piece.samples) for piece in pieces)
    total = [torch.zeros_like(weight) for weight in flat]
    for piece in pieces:
        with torch.enable_grad():
            log_probs_TV = answer_log_probs(subject.model, piece.inputs, piece.labels, piece.x, subject.setting)
            nll_T = F.nll_loss(log_probs_TV, piece.labels[piece.is_answer], reduction="none")
            found = torch.autograd.grad(_mean_by_sample(nll_T, piece).sum() / num_samples, flat)
        torch._foreach_add_(total, found)
    summed = iter(total)
    sizes = [
        torch.stack([(next(summed) * weight.detach()).abs().sum(dtype=torch.float32) for weight in weights]).sum()
        for weights in weights_by_block
    ]
    return Measured(
        values={"taylor": torch.stack(sizes)[None]}, forward_passes=len(pieces), backward_passes=len(pieces)
    )


_OF_A_BATCH: Mapping[Measure, Callable[[Subject, PreparedBatch], Measured]] = {
    Measure.ANSWERS: answers,
    Measure.LIKELIHOOD: likelihood,
    Measure.HIDDEN_STATES: hidden_states,
}


def portions(measure: Measure, batches: Iterable[PreparedBatch]) -> Iterator[Sequence[PreparedBatch]]:
    """Share samples out into what is measured at once: a batch; for gradients a few samples, whatever the batches."""
    return _few_samples(batches) if measure is Measure.GRADIENTS else ((batch,) for batch in batches)


def measured(measure: Measure, subject: Subject, portion: Sequence[PreparedBatch]) -> Measured:
    """Measure a portion."""
    if measure is Measure.GRADIENTS:
        return gradients(subject, portion)
    (batch,) = portion
    return _OF_A_BATCH[measure](subject, batch)


def quantity_shapes(job: Job) -> dict[str, tuple[int, ...]]:
    """Return what a job gives for each dataset: shapes by quantity, samples or portions of them first."""
    samples, blocks = job.num_samples, len(job.blocks)
    if job.measure is Measure.ANSWERS:
        return {"accuracy": (samples,)}
    if job.measure is Measure.LIKELIHOOD:
        return {"nll": (samples,), "kl": (samples,)}
    if job.measure is Measure.GRADIENTS:
        return {"taylor": (-(-samples // SAMPLES_PER_GRADIENT), blocks)}
    per_block = dict.fromkeys(("block_influence", "angular_distance"), (samples, blocks))
    return {**per_block, "angular_spans": (samples, len(spans(blocks)))}


def spans(num_blocks: int) -> list[tuple[int, int]]:
    """List spans of blocks, as first and one behind the last: single blocks, then pairs, up to half of the model."""
    return [
        (first, first + length)
        for length in range(1, max(1, num_blocks // 2) + 1)
        for first in range(num_blocks - length + 1)
    ]


def _mean_by_sample(value_T: Tensor, batch: PreparedBatch) -> Tensor:
    sample_T = batch.is_answer.nonzero()[:, 0]
    sum_B = torch.zeros(len(batch.samples), device=value_T.device).index_add_(0, sample_T, value_T)
    return sum_B / batch.is_answer.sum(dim=1)


def _angle(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    return F.cosine_similarity(first_BD, second_BD, dim=1).clamp(-1, 1).arccos() / math.pi


def _rows(batch: PreparedBatch, rows: slice) -> PreparedBatch:
    """Take a few samples out of a batch, without the padding that they do not need."""
    length, index = int(batch.inputs.num_tokens[rows].max()), batch.inputs.token_index
    return replace(
        batch,
        samples=batch.samples[rows],
        inputs=ModelInputs(
            input_ids=batch.inputs.input_ids[rows, :length], token_index=None if index is None else index[rows]
        ),
        labels=batch.labels[rows, :length],
        x=batch.x[rows, :length],
    )


def _few_samples(batches: Iterable[PreparedBatch]) -> Iterator[list[PreparedBatch]]:
    """Take samples by eights, in pieces where they lie in several batches."""
    pieces: list[PreparedBatch] = []
    missing = SAMPLES_PER_GRADIENT
    for batch in batches:
        start = 0
        while start < len(batch.samples):
            pieces.append(_rows(batch, slice(start, start + missing)))
            start += len(pieces[-1].samples)
            missing -= len(pieces[-1].samples)
            if missing == 0:
                yield pieces
                pieces, missing = [], SAMPLES_PER_GRADIENT
    if pieces:
        yield pieces


@contextmanager
def _hooked(subject: Subject, look: Callable[[nn.Module, tuple[Any, ...], Tensor], None]) -> Iterator[None]:
    blocks = subject.model.language_model.blocks
    handles = [blocks[index].register_forward_hook(look) for index in subject.setting.active_blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
