import json

import pytest

from models.config import MolmoConfig, released_config
from models.released import RELEASED


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_config_is_json_and_describes_a_model(name: str) -> None:
    hf = json.loads(json.dumps(RELEASED[name]))
    assert MolmoConfig.from_hf(hf) == released_config(name)


def test_only_one_released_model_normalises_after_its_layers() -> None:
    assert [name for name in RELEASED if released_config(name).norm_after] == ["molmo-7b-o-0924"]


def test_all_released_models_see_images_alike() -> None:
    configs = [released_config(name) for name in RELEASED]
    assert len({config.vision for config in configs}) == 1
    assert {(config.max_crops, config.vit_layers) for config in configs} == {(12, (-2, -9))}
