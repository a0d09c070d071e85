"""Small models for tests of several modules: the golden ones and random ones."""

from functools import cache
from typing import Any

import torch

from models.checkpoint import load_molmo
from models.config import MolmoConfig, VisionConfig
from models.inputs import ModelInputs
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo
from tests.helpers import GOLDEN

LOGIT_TOLERANCE = 1e-4


@cache
def golden_model(variant: str) -> Molmo:
    """Load one of the two golden models; shared by all tests, so never change it."""
    return load_molmo(str(GOLDEN / variant))


def setting_of(
    model: Molmo,
    *,
    top_k: int | None = None,
    blocks: tuple[int, ...] | None = None,
    experts: ExpertCounts | None = None,
) -> KnobSetting:
    """Build a setting that differs from the full one in what is given."""
    full = model.full_setting
    return KnobSetting(
        tier=full.tier,
        top_k=full.top_k if top_k is None else top_k,
        active_blocks=full.active_blocks if blocks is None else blocks,
        experts=experts,
    )


def tiny_config(**changes: Any) -> MolmoConfig:
    """Shape of a dense model of two blocks whose numbers all differ."""
    vision = VisionConfig(
        image_size=(20, 12),
        patch_size=4,
        hidden_dim=24,
        num_heads=3,
        head_dim=8,
        mlp_dim=40,
        num_blocks=3,
        norm_eps=1e-5,
    )
    shape: dict[str, Any] = {
        "vision": vision,
        "vit_layers": (-2, -3),
        "max_crops": 3,
        "overlap_margins": (4, 4),
        "hidden_dim": 32,
        "num_heads": 4,
        "num_kv_heads": 4,
        "num_blocks": 2,
        "ffn_dim": 48,
        "num_experts": 0,
        "top_k": 0,
        "vocab_size": 50,
        "embedding_size": 56,
        "additional_vocab_size": 8,
        "rope_theta": 1e4,
        "norm_eps": 1e-5,
        "qkv_bias": False,
        "qk_norm": False,
        "norm_after": False,
        "max_position_embeddings": 128,
    }
    return MolmoConfig(**{**shape, **changes})


def tiny_molmo(**changes: Any) -> Molmo:
    """Build a model of ``tiny_config`` with wide random weights."""
    model = Molmo(tiny_config(**changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.2, generator=generator)
    return model.eval()


def tiny_inputs(config: MolmoConfig, *, num_crops: int = 2, num_words: int = 5, seed: int = 0) -> ModelInputs:
    """Draw a request: words, then the vision tokens of every crop, each second one dropped."""
    generator = torch.Generator().manual_seed(seed)
    kept = (config.tokens_per_crop + 1) // 2
    length = num_words + num_crops * kept
    index = torch.full((1, num_crops, config.tokens_per_crop), -100)
    index[:, :, ::2] = torch.arange(num_words, length).view(1, num_crops, kept)
    return ModelInputs(
        input_ids=torch.randint(config.vocab_size, (1, length), generator=generator),
        crops=torch.randn(1, num_crops, config.num_patches, config.patch_dim, generator=generator),
        patch_mask=torch.rand(1, num_crops, config.num_patches, generator=generator).round(decimals=1),
        token_index=index,
    )
