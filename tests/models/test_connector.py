import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.connector import Connector
from tests.helpers import VARIANTS, golden_case, golden_inputs
from tests.small_models import LOGIT_TOLERANCE, golden_model, tiny_molmo


@pytest.mark.parametrize("case", ["img_landscape", "img_portrait", "img_square", "img_tiny"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_image_features_equal_the_reference(variant: str, case: str) -> None:
    model, golden = golden_model(variant), golden_case(variant, case)
    with torch.no_grad():
        features = model.encode_images(golden_inputs(variant, case))
    torch.testing.assert_close(features, golden.tensors["image_features"], atol=LOGIT_TOLERANCE, rtol=0)


def pooled_by_hand(connector: Connector, window_VF: Tensor) -> Tensor:
    """Pool one window with the mean as its query, head by head."""
    pooling = connector.pooling
    query = pooling.query(window_VF.mean(dim=0)).chunk(pooling.num_heads)
    key, value = pooling.key_value(window_VF).chunk(2, dim=-1)
    heads = []
    for q, k, v in zip(query, key.chunk(pooling.num_heads, -1), value.chunk(pooling.num_heads, -1), strict=True):
        weight = (k @ q / len(q) ** 0.5).softmax(dim=0)
        heads.append(weight @ v)
    pooled: Tensor = pooling.out(torch.cat(heads))
    return pooled


def test_each_window_is_pooled_by_attention_from_its_mean() -> None:
    connector = tiny_molmo().connector  # grid of 5 x 3 patches, so 3 x 2 windows
    features = torch.randn(1, 15, 48)
    grid = F.pad(features.view(5, 3, 48), [0, 0, 0, 1, 0, 1])
    with torch.no_grad():
        tokens = connector(features, torch.ones(1, 15))
        for token, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2), (4, 0), (4, 2)]):
            window = grid[row : row + 2, column : column + 2].flatten(0, 1)
            expected = connector.projector(pooled_by_hand(connector, window))
            torch.testing.assert_close(tokens[0, token], expected, atol=1e-5, rtol=1e-5)


def test_padding_embeddings_mark_empty_and_partly_padded_patches() -> None:
    connector = tiny_molmo().connector
    features = torch.randn(1, 15, 48)
    mask = torch.ones(1, 15)
    mask[0, 3], mask[0, 7], mask[0, 11] = 0.0, 0.4, -1.0
    marked = features.clone()
    with torch.no_grad():
        marked[0, 3] += connector.pad_embedding[0]
        marked[0, [7, 11]] += connector.pad_embedding[1]
        torch.testing.assert_close(connector(features, mask), connector(marked, torch.ones(1, 15)))


def test_the_projector_is_gated() -> None:
    projector = tiny_molmo().connector.projector
    x = torch.randn(2, 24)
    gate, up, down = (layer.weight for layer in (projector.gate, projector.up, projector.down))
    with torch.no_grad():
        torch.testing.assert_close(projector(x), (F.silu(x @ gate.T) * (x @ up.T)) @ down.T)


def test_more_windows_than_the_fused_kernels_take_are_pooled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pooling = tiny_molmo().connector.pooling
    windows = torch.randn(3, 6, 4, 48)
    fused = pooling(windows)
    monkeypatch.setattr("models.connector._MAX_FUSED_WINDOWS", 17)
    torch.testing.assert_close(pooling(windows), fused)
    assert torch.equal(pooling(windows[:2]), fused[:2])
