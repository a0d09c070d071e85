from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from models.config import MolmoConfig
from models.vision import VisionBlock, VisionEncoder
from tests.helpers import VARIANTS, golden_case
from tests.small_models import LOGIT_TOLERANCE, golden_model, tiny_config, tiny_molmo


def block_outputs(encoder: VisionEncoder, crops_NPD: Tensor) -> dict[int, Tensor]:
    """Run the encoder and keep what each block that runs puts out, class token included."""
    outputs: dict[int, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _module, _args, out, index=index: outputs.__setitem__(index, out))
        for index, block in enumerate(encoder.blocks)
    ]
    with torch.no_grad():
        encoder(crops_NPD)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize("variant", VARIANTS)
def test_read_blocks_equal_the_reference(variant: str) -> None:
    encoder = golden_model(variant).vision_encoder
    tensors = golden_case(variant, "img_landscape").tensors
    outputs = block_outputs(encoder, tensors["images"][0, :1])
    ours = torch.cat([outputs[index] for index in encoder.read_blocks])
    torch.testing.assert_close(ours, tensors["vit_layers_crop0"], atol=LOGIT_TOLERANCE, rtol=0)


def test_blocks_behind_the_last_read_one_do_not_run() -> None:
    encoder = golden_model("moe").vision_encoder
    outputs = block_outputs(encoder, torch.randn(1, 144, 75))
    assert encoder.read_blocks == (8, 1)
    assert sorted(outputs) == list(range(9))


def test_features_are_the_read_blocks_side_by_side_without_the_class_token() -> None:
    model = tiny_molmo()
    crops = torch.randn(2, 15, 48)
    outputs = block_outputs(model.vision_encoder, crops)
    with torch.no_grad():
        features = model.vision_encoder(crops)
    assert features.shape == (2, 15, 48)
    assert torch.equal(features[..., :24], outputs[1][:, 1:])
    assert torch.equal(features[..., 24:], outputs[0][:, 1:])


def test_crops_do_not_see_one_another() -> None:
    model = tiny_molmo()
    crops = torch.randn(3, 15, 48)
    with torch.no_grad():
        together, alone = model.vision_encoder(crops), model.vision_encoder(crops[1:2])
    torch.testing.assert_close(together[1:2], alone)


def clip_of(encoder: VisionEncoder, config: MolmoConfig) -> nn.Module:
    """Build transformers' CLIP with the same weights."""
    vision = config.vision
    clip: nn.Module = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=vision.hidden_dim,
            intermediate_size=vision.mlp_dim,
            num_hidden_layers=vision.num_blocks,
            num_attention_heads=vision.num_heads,
            image_size=vision.image_size[0],
            patch_size=vision.patch_size,
            hidden_act="quick_gelu",
            layer_norm_eps=vision.norm_eps,
        )
    )
    theirs = dict(clip.named_parameters())
    state = {
        "embeddings.class_embedding": encoder.class_embedding,
        "embeddings.position_embedding.weight": encoder.position_embedding,
        # Our patches lie flat as rows, columns, colours; their convolution wants colours first.
        "embeddings.patch_embedding.weight": encoder.patch_embedding.weight.unflatten(1, (4, 4, 3)).movedim(-1, 1),
    }

    def copy(key: str, layer: nn.Module) -> None:
        state[f"{key}.weight"], state[f"{key}.bias"] = layer.weight, layer.bias

    copy("pre_layrnorm", encoder.input_norm)
    for index, block in enumerate(encoder.blocks):
        assert isinstance(block, VisionBlock)
        key = f"encoder.layers.{index}"
        copy(f"{key}.layer_norm1", block.attention_norm)
        copy(f"{key}.layer_norm2", block.mlp_norm)
        copy(f"{key}.mlp.fc1", block.mlp.up)
        copy(f"{key}.mlp.fc2", block.mlp.down)
        copy(f"{key}.self_attn.out_proj", block.attention.out)
        for row, name in enumerate(("q", "k", "v")):
            for kind in ("weight", "bias"):
                part = getattr(block.attention.qkv, kind).chunk(3)[row]
                state[f"{key}.self_attn.{name}_proj.{kind}"] = part
    unused = {name for name in theirs if "post_layernorm" in name}
    # Older versions keep everything one level down.
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in theirs) else ""
    result = clip.load_state_dict({prefix + key: tensor for key, tensor in state.items()}, strict=False)
    assert set(result.missing_keys) == unused
    assert not result.unexpected_keys
    return clip


def test_the_encoder_equals_clip_of_transformers() -> None:
    config = tiny_config(vision=replace(tiny_config().vision, image_size=(16, 16)))
    model = tiny_molmo(vision=config.vision)
    patches = torch.randn(2, 16, 48)
    pixels = patches.unflatten(1, (4, 4)).unflatten(3, (4, 4, 3)).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    with torch.no_grad():
        hidden = clip_of(model.vision_encoder, config)(pixels, output_hidden_states=True).hidden_states
        features = model.vision_encoder(patches)
    # Theirs begin with the embedding, so output i stands at i + 1.
    theirs = torch.cat([hidden[2][:, 1:], hidden[1][:, 1:]], dim=-1)
    torch.testing.assert_close(features, theirs, atol=LOGIT_TOLERANCE, rtol=0)
