"""Which tensor of a released checkpoint is which part of which parameter of ours.

The released files keep each expert, and each of the vision encoder's query, key and value projections, apart; we stack
them, because one large product is faster than many small ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.config import MolmoConfig

_Part = tuple[int | slice, ...]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One tensor of a checkpoint.

    Args:
        key: Its name in the file.
        parameter: The parameter of ``Molmo`` that it belongs to.
        part: Index of the part that it fills; empty for the whole parameter.
    """

    key: str
    parameter: str
    part: _Part = ()


def checkpoint_layout(config: MolmoConfig) -> list[Piece]:
    """List every tensor of a checkpoint of this shape, in the released models' naming."""
    return [*_vision_pieces(config), *_connector_pieces(config), *_language_pieces(config)]


def _vision_pieces(config: MolmoConfig) -> Iterator[Piece]:
    key, ours = "model.vision_backbone.image_vit", "vision_encoder"
    yield Piece(key=f"{key}.class_embedding", parameter=f"{ours}.class_embedding")
    yield Piece(key=f"{key}.positional_embedding", parameter=f"{ours}.position_embedding")
    yield Piece(key=f"{key}.patch_embedding.weight", parameter=f"{ours}.patch_embedding.weight")
    width = config.vision.num_heads * config.vision.head_dim
    for kind in ("weight", "bias"):
        yield Piece(key=f"{key}.pre_ln.{kind}", parameter=f"{ours}.input_norm.{kind}")
        for i in range(config.vision.num_blocks):
            theirs, block = f"{key}.transformer.resblocks.{i}", f"{ours}.blocks.{i}"
            for row, name in enumerate(("wq", "wk", "wv")):
                part = (slice(row * width, (row + 1) * width),)
                yield Piece(
                    key=f"{theirs}.attention.{name}.{kind}", parameter=f"{block}.attention.qkv.{kind}", part=part
                )
            yield Piece(key=f"{theirs}.attention.wo.{kind}", parameter=f"{block}.attention.out.{kind}")
            yield Piece(key=f"{theirs}.feed_forward.w1.{kind}", parameter=f"{block}.mlp.up.{kind}")
            yield Piece(key=f"{theirs}.feed_forward.w2.{kind}", parameter=f"{block}.mlp.down.{kind}")
            yield Piece(key=f"{theirs}.attention_norm.{kind}", parameter=f"{block}.attention_norm.{kind}")
            yield Piece(key=f"{theirs}.ffn_norm.{kind}", parameter=f"{block}.mlp_norm.{kind}")


def _connector_pieces(config: MolmoConfig) -> Iterator[Piece]:
    key = "model.vision_backbone"
    yield Piece(key=f"{key}.pad_embed", parameter="connector.pad_embedding")
    width = config.vision.num_heads * config.vision.head_dim
    for kind in ("weight", "bias"):
        yield Piece(key=f"{key}.image_pooling_2d.wq.{kind}", parameter=f"connector.pooling.query.{kind}")
        for row, name in enumerate(("wk", "wv")):
            yield Piece(
                key=f"{key}.image_pooling_2d.{name}.{kind}",
                parameter=f"connector.pooling.key_value.{kind}",
                part=(slice(row * width, (row + 1) * width),),
            )
        yield Piece(key=f"{key}.image_pooling_2d.wo.{kind}", parameter=f"connector.pooling.out.{kind}")
    for theirs, ours in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
        yield Piece(key=f"{key}.image_projector.{theirs}.weight", parameter=f"connector.projector.{ours}.weight")


def _language_pieces(config: MolmoConfig) -> Iterator[Piece]:
    key, ours = "model.transformer", "language_model"
    base = config.embedding_size
    yield Piece(key=f"{key}.wte.embedding", parameter=f"{ours}.embedding.weight", part=(slice(0, base),))
    yield Piece(
        key=f"{key}.wte.new_embedding",
        parameter=f"{ours}.embedding.weight",
        part=(slice(base, base + config.additional_vocab_size),),
    )
    yield Piece(key=f"{key}.ln_f.weight", parameter=f"{ours}.norm.weight")
    yield Piece(key="lm_head.weight" if config.is_moe else f"{key}.ff_out.weight", parameter=f"{ours}.head.weight")
    for i in range(config.num_blocks):
        yield from _block_pieces(config, f"{key}.blocks.{i}", f"{ours}.blocks.{i}")


def _block_pieces(config: MolmoConfig, key: str, ours: str) -> Iterator[Piece]:
    # The mixture's files have one level more than the dense models'.
    attention, ffn = (f"{key}.attn", f"{key}.mlp") if config.is_moe else (key, key)
    yield Piece(key=f"{attention}.att_proj.weight", parameter=f"{ours}.attention.qkv.weight")
    if config.qkv_bias:
        yield Piece(key=f"{attention}.att_proj.bias", parameter=f"{ours}.attention.qkv.bias")
    yield Piece(key=f"{attention}.attn_out.weight", parameter=f"{ours}.attention.out.weight")
    yield Piece(key=f"{attention}.attn_norm.weight", parameter=f"{ours}.attention_norm.weight")
    if config.qk_norm:
        yield Piece(key=f"{attention}.q_norm.weight", parameter=f"{ours}.attention.query_norm.weight")
        yield Piece(key=f"{attention}.k_norm.weight", parameter=f"{ours}.attention.key_norm.weight")
    yield Piece(key=f"{ffn}.ff_norm.weight", parameter=f"{ours}.ffn_norm.weight")
    if not config.is_moe:
        yield Piece(key=f"{ffn}.ff_proj.weight", parameter=f"{ours}.ffn.up_gate.weight")
        yield Piece(key=f"{ffn}.ff_out.weight", parameter=f"{ours}.ffn.down.weight")
        return
    yield Piece(key=f"{ffn}.gate.weight", parameter=f"{ours}.ffn.router.linear.weight")
    gate, up = slice(0, config.ffn_dim), slice(config.ffn_dim, 2 * config.ffn_dim)
    for e in range(config.num_experts):
        experts = f"{ours}.ffn.experts"
        yield Piece(key=f"{ffn}.experts.{e}.gate_proj.weight", parameter=f"{experts}.gate_up", part=(e, gate))
        yield Piece(key=f"{ffn}.experts.{e}.up_proj.weight", parameter=f"{experts}.gate_up", part=(e, up))
        yield Piece(key=f"{ffn}.experts.{e}.down_proj.weight", parameter=f"{experts}.down", part=(e,))
