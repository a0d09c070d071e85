"""Samples as a language model is given them: images encoded once, whatever number of subsets is measured on them."""

# Shape suffixes: B = samples, S = ids in the sequence, D = width of the language model, T = ids of all answers of a
# batch, V = vocabulary.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.inputs import PAD, ModelInputs, collate
from models.knobs import KnobSetting, Tier, Tiling
from models.molmo import Molmo, token_experts, token_positions
from models.processor import MolmoProcessor
from profiling.datasets.sample import Sample
from profiling.subsets.data import EvaluationData, reference_answer
from profiling.vlm_batch import IGNORED


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedBatch:
    """Samples of one dataset.

    Args:
        samples: The samples.
        inputs: Prompt and reference answer, ``(batch, sequence)`` ids padded with -1, and where vision tokens are.
        labels: ``(batch, sequence)``: the id that follows, ``IGNORED`` where it is no part of an answer.
        x: ``(batch, sequence, width)``: the ids embedded, with their vision tokens.
        reference: ``(answer ids of the batch, vocabulary)``: the whole model's log-probabilities at the labels.
    """

    samples: tuple[Sample, ...]
    inputs: ModelInputs
    labels: Tensor
    x: Tensor
    reference: Tensor

    @property
    def is_answer(self) -> Tensor:
        """``(batch, sequence)`` bool: where the next id is part of an answer."""
        return self.labels != IGNORED

    @property
    def prompt_lengths(self) -> Tensor:
        """``(batch,)`` int64: ids before the answer."""
        return self.is_answer.int().argmax(dim=1) + 1

    @property
    def prompt(self) -> tuple[ModelInputs, Tensor]:
        """The prompts without their answers: ids, and the same embedded."""
        lengths_B = self.prompt_lengths
        longest = int(lengths_B.max())
        place_S = torch.arange(longest, device=lengths_B.device)
        ids_BS = torch.where(place_S < lengths_B[:, None], self.inputs.input_ids[:, :longest], PAD)
        return replace(self.inputs, input_ids=ids_BS), self.x[:, :longest]

    @property
    def num_bytes(self) -> int:
        """Memory of the tensors."""
        index = self.inputs.token_index
        tensors = (self.inputs.input_ids, self.labels, self.x, self.reference)
        return sum(tensor.nbytes for tensor in tensors) + (0 if index is None else index.nbytes)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How samples are prepared.

    Args:
        model: The model.
        processor: Its processor, of the same device.
        data: Knows how to ask.
        setting: The whole model's knobs.
        tier: What images are cut into.
        tiling: How the tier is applied.
    """

    model: Molmo
    processor: MolmoProcessor
    data: EvaluationData
    setting: KnobSetting
    tier: Tier
    tiling: Tiling

    @torch.no_grad()
    def batch(self, samples: Sequence[Sample]) -> PreparedBatch:
        """Prepare a batch of samples.

        Raises:
            ValueError: If an image is missing or broken, or a text cannot be used.
        """
        examples = [
            self.processor.training_example(
                [(self.data.question(sample), reference_answer(sample))],
                sample.image.open(),
                tier=self.tier,
                tiling=self.tiling,
            )
            for sample in samples
        ]
        inputs = collate([example.inputs for example in examples])
        labels_BS = torch.full_like(inputs.input_ids, IGNORED)
        for row, example in enumerate(examples):
            labels = example.labels.where(example.loss_mask > 0, IGNORED)
            labels_BS[row, : labels.shape[1]] = labels[0]
        x_BSD = self.model.embed(inputs, self.model.encode_images(inputs))
        encoded = ModelInputs(input_ids=inputs.input_ids, token_index=inputs.token_index)
        reference_TV = answer_log_probs(self.model, encoded, labels_BS, x_BSD, self.setting)
        return PreparedBatch(samples=tuple(samples), inputs=encoded, labels=labels_BS, x=x_BSD, reference=reference_TV)


class MemoryBudget:
    """Memory that batches may be kept in.

    Args:
        num_bytes: How much there is.
    """

    def __init__(self, num_bytes: int) -> None:
        self._left_bytes = num_bytes

    def take(self, num_bytes: int) -> bool:
        """Take some, and tell whether there was so much."""
        if num_bytes > self._left_bytes:
            return False
        self._left_bytes -= num_bytes
        return True


class PreparedSamples:
    """The batches of a dataset; as many as fit are kept, others are prepared anew each time.

    Args:
        samples: Samples of one dataset.
        preparation: How they are prepared.
        batch_size: Most samples in a batch.
        budget: Memory for all datasets.
    """

    def __init__(
        self, samples: Sequence[Sample], preparation: Preparation, *, batch_size: int, budget: MemoryBudget
    ) -> None:
        self._parts = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
        self._preparation = preparation
        self._budget = budget
        self._kept: dict[int, PreparedBatch] = {}

    def __iter__(self) -> Iterator[PreparedBatch]:
        for index, samples in enumerate(self._parts):
            batch = self._kept.get(index) or self._preparation.batch(samples)
            if index not in self._kept and self._budget.take(batch.num_bytes):
                self._kept[index] = batch
            yield batch


def answer_log_probs(
    model: Molmo, inputs: ModelInputs, labels_BS: Tensor, x_BSD: Tensor, setting: KnobSetting
) -> Tensor:
    """Return the log-probabilities of all ids where an answer's id follows: ``(answer ids, vocabulary)``, float32."""
    hidden_BSD = model.language_model(
        x_BSD,
        token_positions(inputs),
        active_blocks=setting.active_blocks,
        top_k=token_experts(setting, inputs),
    )
    logits_TV: Tensor = model.language_model.head(hidden_BSD[labels_BS != IGNORED])
    return logits_TV.float().log_softmax(dim=-1)
