import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.knobs import STANDARD_TIERS
from profiling.block_table import BlockTable, TableEntry, TableGain, TableScore, read_block_table
from profiling.model_source import GridLevels
from tests.small_models import tiny_config

SCORE = TableScore(accuracy_mean=0.5, accuracy_std=0.1, num_datasets=3, drop=0.1, drop_low=0.0, drop_high=0.2)
FILE = Path("block_table.json")


def table(**changes: Any) -> BlockTable:
    fields: dict[str, Any] = {
        "model": "tiny",
        "weights": "abc",
        "num_blocks": 4,
        "pinned": (0,),
        "dataset_names": ("suite_scenes",),
        "search_samples": 8,
        "report_samples": 16,
        "by_count": {
            4: TableEntry(active_blocks=(0, 1, 2, 3), found_by="whole model", score=SCORE),
            2: TableEntry(active_blocks=(0, 3), found_by="beam 3 (kl)", score=SCORE),
        },
    }
    return BlockTable(**{**fields, **changes})


def test_a_table_comes_back_and_gives_a_grid() -> None:
    table().write(FILE)
    found = read_block_table(FILE)
    assert found.by_count == table().by_count
    assert found.date.endswith("+00:00")
    grid = found.grid(tiny_config(num_blocks=4), tiers=STANDARD_TIERS, top_k=(0,))
    assert grid.blocks_by_count == {2: (0, 3), 4: (0, 1, 2, 3)}
    assert list(grid.blocks_by_count) == [2, 4]
    assert grid.setting(tier="low", top_k=0, num_active_blocks=2).active_blocks == (0, 3)


def test_a_gain_comes_back_and_a_table_without_one_is_read_too() -> None:
    gain = TableGain(value=0.02, low=-0.01, high=0.05)
    entries = {
        2: TableEntry(active_blocks=(0, 3), found_by="beam 3 (kl)", score=SCORE, gain=gain),
        4: TableEntry(active_blocks=(0, 1, 2, 3), found_by="whole model", score=SCORE),
    }
    table(by_count=entries).write(FILE)
    assert read_block_table(FILE).by_count == entries
    content = json.loads(FILE.read_text())
    for entry in content["by_count"].values():
        del entry["gain"]
    FILE.write_text(json.dumps(content))
    assert [entry.gain for entry in read_block_table(FILE).by_count.values()] == [None, None]


def test_another_models_table_is_refused() -> None:
    with pytest.raises(ValueError, match="made for tiny with 4 blocks, the model has 2"):
        table().grid(tiny_config(), tiers=STANDARD_TIERS, top_k=(0,))
    with pytest.raises(ValueError, match="top_k: a dense model has no experts"):
        table().grid(tiny_config(num_blocks=4), tiers=STANDARD_TIERS, top_k=(2,))


def test_a_profile_is_measured_with_a_tables_blocks() -> None:
    table().write(FILE)
    config = tiny_config(num_blocks=4)
    levels = GridLevels(top_k=(0,), block_table=str(FILE))
    assert levels.grid(config).blocks_by_count == {2: (0, 3), 4: (0, 1, 2, 3)}
    assert replace(levels, num_active_blocks=(2,)).grid(config).blocks_by_count == {2: (0, 3)}
    with pytest.raises(ValueError, match="block table: has subsets of 2, 4 blocks, got 3"):
        replace(levels, num_active_blocks=(3,)).grid(config)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([0, 4], "the model has blocks 0 to 3, got 4"),
        ([3, 0], "by_count.2.active_blocks|must be sorted, distinct and not negative"),
        ([0, 1, 2], "must name 2 blocks"),
        ([1, 2], r"must hold the pinned blocks, lacks \[0\]"),
        ("all", "block_table.json: by_count.2.active_blocks"),
    ],
)
def test_a_table_that_cannot_be_is_named(blocks: object, message: str) -> None:
    table().write(FILE)
    content = json.loads(FILE.read_text())
    content["by_count"]["2"]["active_blocks"] = blocks
    FILE.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_block_table(FILE)


def test_a_file_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"block_table.json: no such file; `main.py prune` writes block tables"):
        read_block_table(FILE)
    FILE.write_text("{")
    with pytest.raises(ValueError, match=r"block_table.json: file: Invalid JSON"):
        read_block_table(FILE)
    table().write(FILE)
    FILE.write_text(FILE.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="version: must be 1, got 2"):
        read_block_table(FILE)
