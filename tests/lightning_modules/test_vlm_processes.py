"""Both stages of training in two processes, which have to agree on everything but their data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import main
from tests.small_vlm import CONFIGS, NANO, small_overrides

ROOT = Path(main.__file__).parent
OBSERVER = '[{"class_path": "tests.step_notes.StepNotes"}]'


def _fit(folder: Path, *more: str, dtype: str) -> list[dict[str, Any]]:
    """Run a fit of three steps in two processes, in a new folder; return the notes of each."""
    folder.mkdir()
    command = [
        *(sys.executable, str(ROOT / "main.py"), "fit", "--config", str(NANO), *more, *small_overrides(folder)),
        *("--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"),
        *("--trainer.logger", "false", "--trainer.limit_val_batches", "0", "--trainer.limit_test_batches", "0"),
        *("--observers", OBSERVER, "--model.init_args.dtype", dtype),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True, timeout=200)
    return [json.loads((folder / f"notes_{rank}.json").read_text()) for rank in range(2)]


def _settings(notes: dict[str, Any]) -> list[tuple[int, dict[str, int]]]:
    return [(step["crops"], step["experts"]) for step in notes["steps"]]


@pytest.mark.slow
def test_two_processes_learn_other_batches_with_equal_knobs_and_end_with_equal_weights(tmp_path: Path) -> None:
    last = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    whole = _fit(tmp_path / "whole", dtype="float32")
    more = ["--config", str(CONFIGS / "elastic.yaml"), "--model.init_args.initial", str(last), "--seed_everything=7"]
    elastic = _fit(tmp_path / "elastic", *more, dtype="bfloat16")
    for first, second in (whole, elastic):
        assert len(first["steps"]) == 3
        texts = {step["texts"] for notes in (first, second) for step in notes["steps"]}
        assert len(texts) == 6
        assert _settings(first) == _settings(second)
        assert first["weights"] == second["weights"]
        for step in first["steps"]:  # a block that was skipped is left alone
            assert step["learned"] == sorted(map(int, step["experts"]))
    assert _settings(whole[0]) == [(10, {"0": 2, "1": 2, "2": 2})] * 3
    assert len({json.dumps(setting) for setting in _settings(elastic[0])}) > 1
    assert any(len(experts) < 3 for _, experts in _settings(elastic[0]))
    start, end = (
        torch.load(path, weights_only=True)["state_dict"]["network.molmo.language_model.embedding.weight"]
        for path in (last, tmp_path / "elastic" / "checkpoints" / "last.ckpt")
    )
    # Three small steps from the first run's weights are hardly elsewhere; weights of another seed would be.
    assert 0 < float((end - start).abs().max()) < 0.01
