from copy import deepcopy

import numpy as np
import pytest
import torch

from models.knobs import spread_grid
from models.tiling import CropGeometry, image_layout
from profiling.adaptive import online_features
from profiling.adaptive.online_features import Known, OnlineFeatures
from profiling.controllers.embeddings import question_embedding
from profiling.controllers.features import free_feature_names
from tests.small_models import golden_model

MODEL = golden_model("moe")
GRID = spread_grid(MODEL.config.num_blocks, top_k=(1,), block_counts=(MODEL.config.num_blocks,))
NAMES = free_feature_names([tier.name for tier in GRID.tiers])
READS = {"free": len(NAMES), "question": MODEL.config.hidden_dim, "vision": 0}
IDS = [5, 9, 5, 17]


def described(features: OnlineFeatures, width: int, height: int) -> Known:
    return features.describe(image_size=(width, height), question="how many dogs are there", prompt_ids=IDS)


@pytest.mark.parametrize(("width", "height"), [(900, 300), (300, 900), (640, 480)])
def test_a_picture_has_the_tokens_of_its_layout_whatever_was_asked_before(width: int, height: int) -> None:
    features = OnlineFeatures(MODEL, GRID, READS)
    described(features, height, width)
    known = described(features, width, height)
    geometry = CropGeometry.from_config(MODEL.config)
    layouts = [image_layout(height, width, geometry, tier=tier) for tier in GRID.tiers]
    assert known.vision_tokens_T == tuple(layout.num_vision_tokens for layout in layouts)
    free = dict(zip(NAMES, known.features["free"].tolist(), strict=True))
    assert 2 ** free["log2_aspect_ratio"] == pytest.approx(width / height)
    assert 2 ** free["log2_text_tokens"] == pytest.approx(2 + layouts[0].num_layout_tokens + len(IDS))


def test_a_size_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features = OnlineFeatures(MODEL, GRID, READS)
    first = described(features, 640, 480)
    monkeypatch.setattr(online_features, "image_layout", None)
    assert described(features, 640, 480).vision_tokens_T == first.vision_tokens_T
    with pytest.raises(TypeError):
        described(features, 480, 640)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_word_is_that_of_the_tables(dtype: torch.dtype) -> None:
    model = deepcopy(MODEL).to(dtype)
    mean_D = described(OnlineFeatures(model, GRID, READS), 640, 480).features["question"]
    assert mean_D.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(mean_D)[None], question_embedding(model, torch.tensor([IDS])))
