import json
from pathlib import Path
from typing import Any

import pytest

from models.config import MolmoConfig
from models.knobs import ExpertCounts
from profiling.level_table import LevelEntry, LevelTable, LevelTableError, read_level_table
from tests.block_models import block_hf_config

PATH = Path("level_table.json")
CONFIG = MolmoConfig.from_hf(block_hf_config(3))  # of two experts


def table(**changes: Any) -> LevelTable:
    fields: dict[str, Any] = {
        "model": "m",
        "weights": "w",
        "num_blocks": 3,
        "dataset_names": ("a",),
        "search_samples": 1,
        "report_samples": 1,
        "device": "cpu",
        "engine": "eager",
        "by_top_k": {
            1: LevelEntry(text=(1, 1, 1), vision=(1, 1, 1), found_by="uniform"),
            2: LevelEntry(text=(2, 2, 2), vision=(1, 2, 1), found_by="modality"),
        },
    }
    return LevelTable(**{**fields, **changes})


def test_a_table_comes_back_from_its_file_and_names_only_what_is_not_plain() -> None:
    table().write(PATH)
    found = read_level_table(PATH)
    assert found.by_top_k == table().by_top_k
    assert found.experts_by_top_k(CONFIG, (1, 2)) == {2: ExpertCounts(text=(2, 2, 2), vision=(1, 2, 1))}
    assert found.experts_by_top_k(CONFIG, (1,)) == {}


def test_a_level_or_model_that_it_was_not_made_for_is_refused() -> None:
    with pytest.raises(LevelTableError, match="level table: has the levels 1, 2, got 3"):
        table().experts_by_top_k(CONFIG, (3,))
    with pytest.raises(ValueError, match=r"experts: must name 4 blocks \(the model's\), got 3"):
        table().experts_by_top_k(MolmoConfig.from_hf(block_hf_config(4)), (1,))
    many = {2: LevelEntry(text=(3, 2, 2), vision=(1, 2, 1), found_by="modality")}
    with pytest.raises(ValueError, match="top_k: must be 1 to 2"):
        table(by_top_k=many).experts_by_top_k(CONFIG, (2,))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 9, "file: Value error, version: must be 1, got 9"),
        ("num_blocks", 4, "by_top_k.1: must name 4 blocks, got 3"),
        ("by_top_k", {}, "by_top_k: Dictionary should have at least 1 item"),
        (
            "by_top_k",
            {"1": {"text": [1], "vision": [0], "found_by": "x"}},
            "by_top_k.1: Value error, experts: must be 1",
        ),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_table_is_named_with_its_field(field: str, value: object, message: str) -> None:
    table().write(PATH)
    PATH.write_text(json.dumps({**json.loads(PATH.read_text()), field: value}))
    with pytest.raises(LevelTableError, match=f"{PATH}: .*{message}"):
        read_level_table(PATH)


def test_a_missing_table_names_the_command() -> None:
    with pytest.raises(LevelTableError, match=r"no such file; `main\.py levels` writes level tables"):
        read_level_table(PATH)
