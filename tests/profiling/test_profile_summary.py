import re
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from profiling.profile_summary import noise_floor_pct, print_summary
from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable
from tests.profile_rows import legal_row


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return _table(*rows).to_pandas()


def _table(*rows: dict[str, Any]) -> ProfileTable:
    records = [ProfileRecord.model_validate(legal_row(**row)) for row in rows]
    environment = Environment(device="A chip", model="tiny", dtype="float32", engine="eager", torch="2.13.0")
    return ProfileTable.from_records(records, environment)


def printed(*rows: dict[str, Any]) -> str:
    console = Console(file=StringIO(), width=120)
    print_summary(_table(*rows), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_noise_floor_of_two_runs_is_computed_by_hand() -> None:
    # 9 and 11 each lie a tenth from their mean, which two runs pull nearer by the square root of a half.
    records = frame({"prefill_ms": 9.0, "run_id": 0}, {"prefill_ms": 11.0, "run_id": 1})
    assert noise_floor_pct(records, "prefill_ms") == pytest.approx(10 * 2**0.5)


def test_only_runs_of_the_same_request_and_setting_are_compared() -> None:
    runs = [("q1", 8, 9.0), ("q1", 8, 11.0), ("q1", 6, 50.0), ("q1", 6, 50.0), ("q2", 8, 77.0)]
    records = frame(*({"sample_id": s, "top_k": k, "prefill_ms": ms, "run_id": i} for i, (s, k, ms) in enumerate(runs)))
    # Two rows at a tenth, two at nothing; the request that was measured once says nothing.
    assert noise_floor_pct(records, "prefill_ms") == pytest.approx(5 * 2**0.5)


def test_the_noise_floor_of_gaussian_runs_does_not_depend_on_how_many_there_are() -> None:
    rng = np.random.default_rng(0)
    # The mean distance of a normal variable from its mean is 0.798 standard deviations.
    for num_runs in (2, 3, 7):
        ms = rng.normal(100, 2, size=(3000, num_runs))
        request, run_id = np.indices(ms.shape)
        columns = {"sample_id": request.ravel(), "run_id": run_id.ravel(), "prefill_ms": ms.ravel()}
        records = pd.DataFrame(columns).assign(dataset=None, split=None, tier="low", top_k=8, num_active_blocks=2)
        assert noise_floor_pct(records, "prefill_ms") == pytest.approx(2 * 0.798, rel=0.04)


def test_without_repeats_there_is_no_noise_floor() -> None:
    assert noise_floor_pct(frame({"sample_id": "q1"}, {"sample_id": "q2"}), "prefill_ms") is None
    once_decoded = frame({"run_id": 0}, {"run_id": 1, "output_tokens": 1, "decode_ms": 0.0})
    assert noise_floor_pct(once_decoded, "decode_per_token_ms") is None


def test_the_table_shows_each_time_that_was_measured() -> None:
    text = printed({"prefill_ms": 9.0, "run_id": 0}, {"prefill_ms": 11.0, "run_id": 1})
    rows = {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}
    assert rows["prefill"] == ["2", "10.00", "10.80", "10.90", "10.98", "10.00", "1.41", "14.14"]
    assert rows["decode_per_token"] == ["2", "2.00", "2.00", "2.00", "2.00", "2.00", "0.00", "0.00"]
    assert not {"projector", "preprocess", "total"} & set(rows)
    assert "tiny, float32, eager engine, A chip, torch 2.13.0, n = 2" in text


def test_a_dash_stands_where_nothing_was_repeated() -> None:
    assert re.search(r"prefill +2 .* -\s*$", printed({"sample_id": "q1"}, {"sample_id": "q2"}), flags=re.MULTILINE)


def test_accuracy_is_told_over_all_rows_and_settings_if_there_is_any() -> None:
    cells = [("q1", 6, 0.0), ("q2", 6, 1.0), ("q3", 6, 0.0), ("q1", 8, 1.0)]
    rows = [{"sample_id": s, "top_k": k, "accuracy": a} for s, k, a in cells]
    assert "accuracy: 0.500, 0.333 to 1.000 over 2 settings" in printed(*rows)
    assert "accuracy" not in printed({"sample_id": "q1", "accuracy": None})
