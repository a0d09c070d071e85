import pytest
import torch

from models.config import released_config
from models.knobs import MOLMOE_1B_GRID
from models.latency_features import setting_features
from models.latency_terms import FEATURES
from models.processor import MolmoProcessor
from models.tiling import CropGeometry
from models.tokenizer import SpecialTokens
from profiling.workload import SyntheticRequest

CONFIG = released_config("molmoe-1b-0924")
GEOMETRY = CropGeometry.from_config(CONFIG)


@pytest.mark.parametrize(("width", "height"), [(500, 333), (64, 48), (300, 800)])
def test_features_are_those_of_the_inputs_that_the_processor_makes(width: int, height: int) -> None:
    request = SyntheticRequest(sample_id="a", width=width, height=height, text_tokens=17, max_new_tokens=9, seed=3)
    settings = [MOLMOE_1B_GRID.setting(tier=tier.name, top_k=6, num_active_blocks=10) for tier in MOLMOE_1B_GRID.tiers]

    features = setting_features(
        settings, MOLMOE_1B_GRID, GEOMETRY, image_size=(height, width), prompt_tokens=17, output_tokens=9
    )

    processor = MolmoProcessor(CONFIG, SpecialTokens.of_shape(CONFIG))
    for row, tier in zip(features, MOLMOE_1B_GRID.tiers, strict=True):
        inputs = processor.from_token_ids(request.prompt(1000), request.open_image(), tier=tier)
        vision_tokens = int(inputs.num_vision_tokens)
        expected = {
            "num_crops": int(inputs.num_crops),
            "vision_tokens": vision_tokens,
            "text_tokens": int(inputs.num_tokens) - vision_tokens,
            "top_k": 6,
            "num_active_blocks": 10,
            "output_tokens": 9,
        }
        assert dict(zip(FEATURES, row.tolist(), strict=True)) == expected


def test_every_setting_of_the_grid_gets_a_row() -> None:
    settings = MOLMOE_1B_GRID.settings()
    features = setting_features(
        settings, MOLMOE_1B_GRID, GEOMETRY, image_size=(480, 640), prompt_tokens=1, output_tokens=1
    )
    assert features.shape == (75, len(FEATURES))
    assert len(torch.unique(features, dim=0)) == 75


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1x1 pixels"):
        setting_features(
            MOLMOE_1B_GRID.settings(), MOLMOE_1B_GRID, GEOMETRY, image_size=(0, 5), prompt_tokens=1, output_tokens=1
        )
