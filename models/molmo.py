"""Molmo: vision encoder, connector and language model, with the knobs as arguments of each call."""

# Shape suffixes: B = requests, S = ids in the sequence, C = crops, N = B * C, P = patches in a crop, F = feature width,
# T = pooled tokens in a crop, D = width of the language model.

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import MolmoConfig
from models.connector import Connector
from models.inputs import ModelInputs, is_crop
from models.knobs import STANDARD_TIERS, KnobSetting
from models.language_model import LanguageModel, TokenExperts
from models.stages import PREFILL, PROJECTOR, VISION_ENCODER, stage
from models.vision import VisionEncoder


class Glance(NamedTuple):
    """What the overviews of a batch show, encoded before the tiers of their other crops are chosen.

    The features are those of any tier. The vision tokens are not quite: the released models give the overview the patch
    mask of the crop that follows it, which the tier decides. Here each patch is marked by what it shows itself.

    Args:
        features: ``(batch, patches, features)``: what the vision encoder made of them.
        tokens: ``(batch, tokens, width)``: what the connector makes of that.
    """

    features: Tensor
    tokens: Tensor


class VisionModules(NamedTuple):
    """What turns crops into vision tokens: the model's own modules, or other ways to run them.

    Args:
        vision_encoder: ``(crops, patches, patch_dim)`` to ``(crops, patches, features)``.
        connector: Features and ``(crops, patches)`` patch mask to ``(crops, tokens, width)``.
    """

    vision_encoder: Callable[[Tensor], Tensor]
    connector: Callable[[Tensor, Tensor], Tensor]


class Molmo(nn.Module):
    """A multimodal model of the Molmo family (Deitke et al., 2024).

    Holds weights only. What a request runs with (``KnobSetting``) is an argument of each call, so one model serves any
    number of settings and threads at once.

    Args:
        config: Shape of the model.
    """

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VisionEncoder(config)
        self.connector = Connector(config)
        self.language_model = LanguageModel(config)

    @property
    def full_setting(self) -> KnobSetting:
        """The setting of the model as released: highest tier, trained top_k, every block."""
        return KnobSetting(
            tier=STANDARD_TIERS[-1].name,
            top_k=self.config.top_k,
            active_blocks=tuple(range(self.config.num_blocks)),
        )

    @property
    def vision(self) -> VisionModules:
        """The modules that images go through."""
        return VisionModules(self.vision_encoder, self.connector)

    def checked(self, setting: KnobSetting | None) -> KnobSetting:
        """Return the setting to run with, the full one if none is given.

        Raises:
            ValueError: If the model has not the blocks or experts that the setting asks for.
        """
        if setting is None:
            return self.full_setting
        setting.check(num_blocks=self.config.num_blocks, num_experts=self.config.num_experts)
        return setting

    def glance(
        self,
        crops_BPD: Tensor,
        patch_mask_BP: Tensor,
        *,
        vision: VisionModules | None = None,
    ) -> Glance:
        """Encode the overviews of a batch alone.

        Args:
            crops_BPD: ``(batch, patches, patch_dim)``: the overviews.
            patch_mask_BP: ``(batch, patches)``: share of each patch that shows the image.
            vision: Another way to run the modules; they themselves if ``None``.
        """
        vision = vision or self.vision
        # An engine overwrites its memory when it encodes the other crops.
        with stage(VISION_ENCODER):
            features_BPF = vision.vision_encoder(crops_BPD).clone()
        with stage(PROJECTOR):
            tokens_BTD = vision.connector(features_BPF, patch_mask_BP).clone()
        return Glance(features_BPF, tokens_BTD)

    def encode_images(
        self,
        inputs: ModelInputs,
        *,
        vision: VisionModules | None = None,
        glance: Glance | None = None,
    ) -> Tensor | None:
        """Turn the crops of a batch into vision tokens.

        Args:
            inputs: The batch.
            vision: Another way to run the modules, into memory that the next call overwrites; they themselves if
                ``None``.
            glance: What ``glance`` made of the overviews; they are then not encoded again.

        Returns:
            ``(batch, crops, tokens, width)``, or ``None`` without images.
        """
        if inputs.crops is None or inputs.patch_mask is None:
            return None
        vision = vision or self.vision
        batch, num_crops = inputs.crops.shape[:2]
        with stage(VISION_ENCODER):
            features_NPF = _all_features(vision.vision_encoder, inputs.crops, glance)
            if batch > 1:  # a single request has no padding crops
                features_NPF = features_NPF * is_crop(inputs.crops).flatten()[:, None, None]
        with stage(PROJECTOR):
            tokens_NTD = vision.connector(features_NPF, inputs.patch_mask.flatten(0, 1))
        return tokens_NTD.view(batch, num_crops, *tokens_NTD.shape[1:])

    def embed(self, inputs: ModelInputs, vision_tokens_BCTD: Tensor | None) -> Tensor:
        """Embed the ids and add the vision tokens at their positions: ``(batch, sequence, width)``."""
        if vision_tokens_BCTD is None or inputs.token_index is None:
            return self.language_model.embed(inputs.input_ids)
        length = inputs.input_ids.shape[1]
        # Dropped tokens go to a row behind the sequence: no data-dependent shape, so no wait for the device.
        x_BSD = self.language_model.embed(F.pad(inputs.input_ids, [0, 1]))
        index = inputs.token_index.flatten(1)
        index = torch.where(index < 0, length, index)[:, :, None].expand(-1, -1, x_BSD.shape[2])
        return x_BSD.scatter_add_(1, index, vision_tokens_BCTD.flatten(1, 2))[:, :length]

    def forward(
        self,
        inputs: ModelInputs,
        *,
        setting: KnobSetting | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of every position, without a cache.

        Args:
            inputs: A batch of requests.
            setting: Knobs; everything on if ``None``. The tier acts where images are cut and is not read here.
            positions: ``(batch, sequence)``; counted from the first id if ``None``.
            mask: ``(batch, sequence, sequence)`` bool, true where a token may see another; causal if ``None``.

        Returns:
            ``(batch, sequence, embedding_size)`` logits; those of padding mean nothing.

        Raises:
            ValueError: If the model has not the blocks or experts that the setting asks for.
        """
        setting = self.checked(setting)
        vision_tokens = self.encode_images(inputs)
        with stage(PREFILL):
            hidden_BSD = self.language_model(
                self.embed(inputs, vision_tokens),
                token_positions(inputs) if positions is None else positions,
                active_blocks=setting.active_blocks,
                top_k=token_experts(setting, inputs),
                mask=None if mask is None else mask[:, None],
            )
            logits: Tensor = self.language_model.head(hidden_BSD)
        return logits


def _all_features(encode: Callable[[Tensor], Tensor], crops_BCPD: Tensor, glance: Glance | None) -> Tensor:
    """Encode crops, those of a glance apart: ``(batch * crops, patches, features)``."""
    if glance is None:
        return encode(crops_BCPD.flatten(0, 1))
    others_BCPF = encode(crops_BCPD[:, 1:].flatten(0, 1)).unflatten(0, (len(crops_BCPD), -1))
    return torch.cat([glance.features[:, None], others_BCPF], dim=1).flatten(0, 1)


def token_positions(inputs: ModelInputs) -> Tensor:
    """Count the ids of each request from 0, padding left out: ``(batch, sequence)``."""
    if len(inputs.input_ids) == 1:  # never padded
        return torch.arange(inputs.input_ids.shape[1], device=inputs.input_ids.device)[None]
    return (inputs.valid.cumsum(dim=1) - 1).clamp(min=0)


def token_experts(setting: KnobSetting, inputs: ModelInputs | None = None) -> int | TokenExperts:
    """Say how many experts the tokens of prompts are given; without them, those of text alone."""
    if setting.experts is None:
        return setting.top_k
    return TokenExperts(counts=setting.experts, is_vision=None if inputs is None else inputs.is_vision)
