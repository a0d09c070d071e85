"""Shapes of the Molmo family, read from and written to the released ``config.json`` layouts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.released import RELEASED


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Shape of the CLIP vision encoder.

    Args:
        image_size: Height and width of one crop in pixels.
        patch_size: Side of a patch in pixels.
        hidden_dim: Width of the encoder.
        num_heads: Attention heads.
        head_dim: Width of one head.
        mlp_dim: Hidden width of the feed-forward layers.
        num_blocks: Transformer blocks (the released checkpoints leave out CLIP's last).
        norm_eps: Epsilon of the layer norms.
    """

    image_size: tuple[int, int]
    patch_size: int
    hidden_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    num_blocks: int
    norm_eps: float

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "VisionConfig":
        """Read the ``vision_backbone`` part of a released config."""
        return cls(
            image_size=tuple(hf["image_default_input_size"]),
            patch_size=hf["image_patch_size"],
            hidden_dim=hf["image_emb_dim"],
            num_heads=hf["image_num_heads"],
            head_dim=hf["image_head_dim"],
            mlp_dim=hf["image_mlp_dim"],
            num_blocks=hf["image_num_layers"],
            norm_eps=hf["image_norm_eps"],
        )


@dataclass(frozen=True, kw_only=True)
class MolmoConfig:
    """Shape of a whole Molmo: vision encoder, connector and language model.

    Args:
        vision: Shape of the vision encoder.
        vit_layers: Encoder blocks whose outputs are concatenated, counted from the end of the list of outputs.
        max_crops: Most crops that the released model cuts an image into, the overview not counted.
        overlap_margins: Patches by which neighbouring crops overlap, left/top and right/bottom.
        hidden_dim: Width of the language model.
        num_heads: Query heads.
        num_kv_heads: Key and value heads.
        num_blocks: Transformer blocks.
        ffn_dim: Hidden width of the feed-forward layer, of one expert in a mixture; also of the projector.
        num_experts: Experts a block; 0 for a dense model.
        top_k: Experts per token that the model was trained with; 0 for a dense model.
        vocab_size: Ids the tokenizer knows.
        embedding_size: Rows of the base embedding and of the output head.
        additional_vocab_size: Extra input rows that no output can name.
        rope_theta: Base of the rotary embedding.
        norm_eps: Epsilon of the RMS norms.
        qkv_bias: Whether query, key and value projections have a bias.
        qk_norm: Whether queries and keys are RMS-normalised over their whole projection.
        norm_after: Whether a block normalises its layers' outputs (OLMo 2) instead of their inputs.
        max_position_embeddings: Most positions.
        match_router_mass: Scale the chosen experts' weights so that they sum to what the trained top_k would have
            summed to. OLMoE does not renormalise, so another top_k changes the scale of the feed-forward output.
    """

    vision: VisionConfig
    vit_layers: tuple[int, ...]
    max_crops: int
    overlap_margins: tuple[int, int]
    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    num_blocks: int
    ffn_dim: int
    num_experts: int
    top_k: int
    vocab_size: int
    embedding_size: int
    additional_vocab_size: int
    rope_theta: float
    norm_eps: float
    qkv_bias: bool
    qk_norm: bool
    norm_after: bool
    max_position_embeddings: int
    match_router_mass: bool = False

    @property
    def head_dim(self) -> int:
        """Width of one attention head of the language model."""
        return self.hidden_dim // self.num_heads

    @property
    def patches_per_side(self) -> tuple[int, int]:
        """Rows and columns of patches in a crop."""
        height, width = self.vision.image_size
        return height // self.vision.patch_size, width // self.vision.patch_size

    @property
    def num_patches(self) -> int:
        """Patches in a crop."""
        rows, columns = self.patches_per_side
        return rows * columns

    @property
    def patch_dim(self) -> int:
        """Numbers in a flattened RGB patch."""
        return 3 * self.vision.patch_size**2

    @property
    def feature_dim(self) -> int:
        """Numbers that the vision encoder gives for a patch: the outputs of the blocks that are read, side by side."""
        return len(self.vit_layers) * self.vision.hidden_dim

    @property
    def pooled_grid(self) -> tuple[int, int]:
        """Rows and columns of a crop's tokens after 2x2 pooling; odd grids are padded."""
        rows, columns = self.patches_per_side
        return (rows + 1) // 2, (columns + 1) // 2

    @property
    def tokens_per_crop(self) -> int:
        """Pooled tokens in a crop."""
        rows, columns = self.pooled_grid
        return rows * columns

    @property
    def read_vision_blocks(self) -> tuple[int, ...]:
        """Indices of the encoder blocks that the connector reads; no block after the last of them runs."""
        return tuple(layer % self.vision.num_blocks for layer in self.vit_layers)

    @property
    def num_run_vision_blocks(self) -> int:
        """Encoder blocks that run."""
        return max(self.read_vision_blocks) + 1

    @property
    def is_moe(self) -> bool:
        """Whether the feed-forward layers are mixtures of experts."""
        return self.num_experts > 0

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any], *, source: str = "config.json") -> "MolmoConfig":
        """Read a released ``config.json``: the MolmoE layout (``d_model``) or the dense one (``hidden_size``).

        Args:
            hf: The parsed file.
            source: Name of the file, for errors.

        Raises:
            ValueError: If a field is missing, of a wrong type, or asks for a variant that no released Molmo has.
        """
        _reject_wrong_types(hf, RELEASED["molmoe-1b-0924" if "d_model" in hf else "molmo-7b-d-0924"], source)
        _reject_unsupported(hf, source)
        try:
            shape = _olmo_shape(hf) if "d_model" in hf else _dense_shape(hf)
            return cls(
                vision=VisionConfig.from_hf(hf["vision_backbone"]),
                vit_layers=tuple(hf["vit_layers"]),
                max_crops=hf["max_crops"],
                overlap_margins=tuple(hf["overlap_margins"]),
                vocab_size=hf["vocab_size"],
                embedding_size=hf["embedding_size"],
                additional_vocab_size=hf["additional_vocab_size"],
                rope_theta=hf["rope_theta"],
                norm_eps=hf["layer_norm_eps"],
                qkv_bias=hf["qkv_bias"],
                qk_norm=hf["attention_layer_norm"],
                norm_after=hf["norm_after"],
                max_position_embeddings=hf["max_position_embeddings"],
                **shape,
            )
        except KeyError as err:
            raise ValueError(f"{source}: field {err} is missing; is this the config.json of a Molmo model?") from err


def released_config(name: str) -> MolmoConfig:
    """Return the shape of a released model.

    Raises:
        ValueError: If no released model has that name.
    """
    return MolmoConfig.from_hf(released_hf_config(name), source=name)


def released_hf_config(name: str) -> dict[str, Any]:
    """Return the ``config.json`` content of a released model.

    Raises:
        ValueError: If no released model has that name.
    """
    if name not in RELEASED:
        raise ValueError(f"shape: no released model is called {name!r}, choose one of {', '.join(RELEASED)}")
    return RELEASED[name]


def changed_hf_config(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.json`` content of a model that differs from a released one.

    Args:
        name: Name of the released model.
        changes: Fields with other values; those of ``vision_backbone`` in a mapping of their own.

    Raises:
        ValueError: If no released model has that name or one of those fields.
    """
    return _changed(released_hf_config(name), changes, where="shape")


def _changed(usual: Mapping[str, Any], changes: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    changed = dict(usual)
    for field, value in changes.items():
        if field not in usual:
            raise ValueError(f"{where}.{field}: no such field, choose among {', '.join(usual)}")
        nested = usual[field]
        changed[field] = _changed(nested, value, where=f"{where}.{field}") if isinstance(nested, Mapping) else value
    return changed


def _olmo_shape(hf: Mapping[str, Any]) -> dict[str, Any]:
    # SwiGLU halves the hidden width that the config states.
    doubled_ffn_dim = hf["mlp_hidden_size"] or hf["mlp_ratio"] * hf["d_model"]
    is_moe = hf["block_type"] == "moe"
    return {
        "hidden_dim": hf["d_model"],
        "num_heads": hf["n_heads"],
        "num_kv_heads": hf["n_kv_heads"] or hf["n_heads"],
        "num_blocks": hf["n_layers"],
        "ffn_dim": doubled_ffn_dim // 2,
        "num_experts": hf["moe_num_experts"] if is_moe else 0,
        "top_k": hf["moe_top_k"] if is_moe else 0,
    }


def _dense_shape(hf: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_dim": hf["hidden_size"],
        "num_heads": hf["num_attention_heads"],
        "num_kv_heads": hf["num_key_value_heads"],
        "num_blocks": hf["num_hidden_layers"],
        "ffn_dim": hf["intermediate_size"] // 2,
        "num_experts": 0,
        "top_k": 0,
    }


def _reject_wrong_types(hf: Mapping[str, Any], usual: Mapping[str, Any], source: str) -> None:
    """Hold each field, and each element of a list, against the type that a released config has there."""
    for field, example in usual.items():
        value = hf.get(field)
        if value is None or example is None:
            continue
        if isinstance(example, Mapping) and isinstance(value, Mapping):
            _reject_wrong_types(value, example, f"{source}: {field}")
        elif not _is_like(value, example):
            raise ValueError(f"{source}: {field}: must be of the type of {example!r}, got {value!r}")


def _is_like(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(_is_like(element, example[0]) for element in value)
    if isinstance(example, float):
        return type(value) in (int, float)
    return type(value) is type(example)


def _reject_unsupported(hf: Mapping[str, Any], source: str) -> None:
    """Refuse variants that the reference code has but no released Molmo uses."""
    expected = {
        "image_pooling_2d": ("attention-meanq", "attention_meanq"),
        "image_padding_embed": ("pad_and_partial_pad",),
        "layer_norm_type": ("rms",),
        "weight_tying": (False,),
        "clip_qkv": (None,),
        "image_pooling_h": (2,),
        "image_pooling_w": (2,),
        "activation_type": ("swiglu",),
    }
    for field, allowed in expected.items():
        if field in hf and hf[field] not in allowed:
            choices = " or ".join(repr(value) for value in allowed)
            raise ValueError(f"{source}: {field} must be {choices} as in every released Molmo, got {hf[field]!r}")
