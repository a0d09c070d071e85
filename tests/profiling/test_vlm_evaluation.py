import json
from pathlib import Path

import pytest
from lightning import Trainer

import main
from tests.small_vlm import small_data, small_module


@pytest.fixture
def snapshot() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(small_module(small_data()))
    trainer.save_checkpoint("small.ckpt")
    main.cli_main(["export-vlm", "--checkpoint", "small.ckpt", "--output_dir", "out"])


@pytest.mark.usefixtures("snapshot")
def test_every_setting_of_the_models_own_grid_and_both_baselines_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiling.vlm_evaluation._NUM_TRAINING", 300)
    main.cli_main(
        [
            *("evaluate-vlm", "--model", "out", "--output_dir", "report", "--num_samples", "6"),
            *("--datasets", '["suite_scenes", "suite_counting"]', "--dtype", "float32"),
        ]
    )
    report = json.loads(Path("report/accuracy.json").read_text())
    rows = report["rows"]
    assert len(rows) == 2 * (3 * 3 * 2 + 2)
    assert report["environment"]["model_shape"]["knob_grid"]["top_k"] == [1, 2, 3]
    own = {(r["tier"], r["top_k"], r["num_active_blocks"]) for r in rows if r["baseline"] is None}
    assert own == {(tier, k, n) for tier in ("low", "medium", "high") for k in (1, 2, 3) for n in (2, 3)}
    assert all(row["num_samples"] == 6 and 0 <= row["accuracy"] <= 1 for row in rows)
    majority = [row["accuracy"] for row in rows if row["baseline"] == "majority" and row["family"] == "suite_scenes"]
    assert majority[0] > 0
    for family in ("suite_scenes", "suite_counting"):
        kinds = [kind for kind in report["kinds"] if kind["family"] == family]
        assert sum(kind["num_samples"] for kind in kinds) == 6
        right = sum(kind["accuracy"] * kind["num_samples"] for kind in kinds)
        full = next((row["accuracy"], row["baseline"]) for row in rows if row["family"] == family)
        assert full == (pytest.approx(right / 6), None)
    text = Path("report/accuracy.md").read_text()
    assert "| family | n | full | tier_low | top_k_1 | blocks_2 | blind | majority |" in text
    assert text.count("| high |") == 3
