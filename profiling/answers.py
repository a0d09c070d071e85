"""Ask a model many questions at once, and say how right it is."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobGrid, KnobSetting
from models.molmo import Molmo
from models.processor import MolmoProcessor
from profiling.datasets.catalogue import dataset_entry
from profiling.datasets.sample import Sample
from profiling.scoring import Score, ScoreName, score
from profiling.vlm_batch import VLMBatch


def answer_batch(
    model: Molmo,
    processor: MolmoProcessor,
    batch: VLMBatch,
    setting: KnobSetting,
    grid: KnobGrid,
    *,
    is_blind: bool = False,
) -> list[str]:
    """Answer greedily, every question with one setting.

    Args:
        model: The model, on its device.
        processor: Its processor, of the same device.
        batch: The questions and pictures, there too.
        setting: Knobs.
        grid: Knows the setting's tier.
        is_blind: Whether to keep the pictures back.
    """
    prompt_ids = batch.prompt_ids
    if is_blind:
        first = torch.full_like(prompt_ids[:, :1], processor.special_tokens.bos_id)
        inputs = ModelInputs(input_ids=torch.cat([first, prompt_ids], dim=1))
    else:
        inputs, _ = processor.from_batch(prompt_ids, batch.images, tier=grid.tier(setting.tier))
    return [processor.decode(ids) for ids in answer_ids(model, processor, batch, inputs, setting).tolist()]


def answer_ids(
    model: Molmo,
    processor: MolmoProcessor,
    batch: VLMBatch,
    inputs: ModelInputs,
    setting: KnobSetting,
    *,
    vision_tokens: Tensor | None = None,
) -> Tensor:
    """Answer greedily, by ids.

    Args:
        model: The model, on its device.
        processor: Its processor.
        batch: The questions.
        inputs: What was made of them at the setting's tier.
        setting: Knobs.
        vision_tokens: What the model made of the pictures at that tier; made here if ``None``.

    Returns:
        ``(batch, new_tokens)`` int64; an answer goes on with the id that ended it until the last one has ended.
    """
    generation = generate(
        model,
        inputs,
        setting=setting,
        max_new_tokens=max(dataset_entry(sample.dataset).max_new_tokens for sample in batch.samples),
        stop_token_ids=(processor.special_tokens.eos_id,),
        vision_tokens=vision_tokens,
    )
    return generation.token_ids


def score_answers(answers: Sequence[str], samples: Sequence[Sample]) -> list[Score]:
    """Score each answer as its dataset does, by a share of one."""
    return [
        score_share(dataset_entry(sample.dataset).score, answer, sample)
        for answer, sample in zip(answers, samples, strict=True)
    ]


def score_share(name: ScoreName, answer: str, sample: Sample) -> Score:
    """Score an answer by a share of one.

    A caption is right if it is one of those that are true: CIDEr-D, which is no share, has no meaning for one sample.
    """
    return score(name if name.is_fraction else ScoreName.EXACT_MATCH, answer, sample)


def spot_settings(grid: KnobGrid, full: KnobSetting) -> Mapping[str, KnobSetting]:
    """Name the full setting and those that turn one knob all the way down."""
    tier, top_k = grid.tiers[0].name, min(grid.top_k)
    fewest = min(grid.blocks_by_count)
    return {
        "full": full,
        f"tier_{tier}": KnobSetting(tier=tier, top_k=full.top_k, active_blocks=full.active_blocks),
        f"top_k_{top_k}": KnobSetting(tier=full.tier, top_k=top_k, active_blocks=full.active_blocks),
        f"blocks_{fewest}": KnobSetting(tier=full.tier, top_k=full.top_k, active_blocks=grid.blocks_by_count[fewest]),
    }
