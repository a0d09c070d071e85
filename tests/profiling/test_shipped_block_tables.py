from pathlib import Path

import pytest

import main
from models.checkpoint import read_hf_config
from models.config import MolmoConfig
from models.knobs import own_grid
from models.weights_digest import weights_digest
from profiling.block_table import read_block_table
from profiling.model_source import GridLevels, ModelSource

ROOT = Path(main.__file__).parent
TABLES = ROOT / "assets" / "block_tables"
MODELS = {"molmoe_nano": "molmoe-nano", "molmoe_nano_elastic": "molmoe-nano-elastic"}


def test_every_shipped_table_is_known_here() -> None:
    assert {path.stem for path in TABLES.glob("*.json")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_table_fits_the_shipped_model(name: str) -> None:
    file = TABLES / f"{name}.json"
    table = read_block_table(file)
    assert table.model == f"assets/models/{MODELS[name]}"
    folder = ROOT / table.model
    assert table.weights == weights_digest(folder)
    assert not table.random_weights
    shape = read_hf_config(folder)
    grid = GridLevels(block_table=str(file)).grid(MolmoConfig.from_hf(shape), own_grid(shape))
    assert list(grid.blocks_by_count) == [8, 10, 12, 14, 16]
    assert all(blocks[0] == 0 for blocks in grid.blocks_by_count.values())


def test_a_table_of_other_weights_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    full, elastic = (ModelSource(name=str(ROOT / "assets" / "models" / name)) for name in MODELS.values())
    levels = GridLevels(block_table=str(TABLES / "molmoe_nano.json"))
    assert levels.grid_of(full).blocks_by_count == levels.grid_of(elastic).blocks_by_count
    (warning,) = caplog.messages
    assert "molmoe_nano.json was made for other weights, those of assets/models/molmoe-nano:" in warning
