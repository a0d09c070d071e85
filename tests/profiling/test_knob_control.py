"""How much each knob saves, on profiles whose law is known."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from models.engine import EngineName
from profiling.knob_control import ALL_KNOBS, knob_control, plot_knob_control, saved_shares, summarize_shares
from profiling.records import write_profile
from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable
from tests.profile_rows import legal_row

CROPS = {"low": 1, "high": 3}


def law_row(tier: str, top_k: int, blocks: int, request: int, run: int) -> dict[str, Any]:
    """2 ms a crop, 1 ms a block of prefill, an eighth of a millisecond a block and expert of four decode steps."""
    prefill_ms, decode_ms = 1.0 * blocks, 4 * 0.125 * blocks * top_k
    vision_ms = 2.0 * CROPS[tier]
    return legal_row(
        sample_id=f"q{request}",
        tier=tier,
        num_crops=CROPS[tier],
        top_k=top_k,
        num_active_blocks=blocks,
        run_id=run,
        vision_encoder_ms=vision_ms,
        prefill_ms=prefill_ms * (1 + 0.5 * (run == 2)),  # one run of three is off; the median does not see it
        decode_ms=decode_ms,
        total_ms=vision_ms + prefill_ms * (1 + 0.5 * (run == 2)) + decode_ms,
    )


def profile(engine: EngineName = "eager") -> ProfileTable:
    rows = [
        law_row(tier, top_k, blocks, request, run)
        for tier, top_k, blocks, request, run in product(("low", "high"), (4, 8), (2, 4), range(3), range(3))
    ]

    environment = Environment(device="A chip", engine=engine, dtype="float32", torch="2.13.0", model="tiny")
    return ProfileTable.from_records([ProfileRecord.model_validate(row) for row in rows], environment)


def median_saved(table: ProfileTable) -> dict[tuple[str, str], float]:
    summary = summarize_shares(saved_shares(table.to_pandas(), source="here").assign(profile="here"))
    assert set(summary["num_requests"]) == {3}
    return dict(zip(zip(summary["part"], summary["knob"], strict=True), summary["p50"], strict=True))


def test_each_knob_saves_what_the_law_says() -> None:
    saved = median_saved(profile())
    full_ms = 6 + 4 + 16
    assert saved["total_ms", "tier"] == pytest.approx(4 / full_ms)
    assert saved["total_ms", "top_k"] == pytest.approx(8 / full_ms)
    assert saved["total_ms", "num_active_blocks"] == pytest.approx((2 + 8) / full_ms)
    assert saved["total_ms", ALL_KNOBS] == pytest.approx(1 - (2 + 2 + 4) / full_ms)
    assert saved["prefill_ms", "top_k"] == 0
    assert saved["prefill_ms", "num_active_blocks"] == pytest.approx(0.5)
    assert saved["decode_per_token_ms", "top_k"] == pytest.approx(0.5)
    assert saved["decode_per_token_ms", ALL_KNOBS] == pytest.approx(0.75)


def test_tiers_are_ordered_by_their_crops_and_not_by_their_names() -> None:
    records = profile().to_pandas().replace({"tier": {"high": "a", "low": "b"}})
    shares = saved_shares(records, source="here")
    assert (shares[(shares["part"] == "total_ms") & (shares["knob"] == "tier")]["saved"] > 0).all()


def test_a_profile_without_a_level_is_refused_by_its_name() -> None:
    records = profile().to_pandas()
    only_full = records[(records["tier"] == "high") | (records["top_k"] == 8) & (records["num_active_blocks"] == 4)]
    with pytest.raises(ValueError, match=r"there\.parquet: no request was measured with each knob"):
        saved_shares(only_full, source="there.parquet")


def test_two_profiles_are_drawn_side_by_side_and_written(tmp_path: Path) -> None:
    paths = [tmp_path / "eager.parquet", tmp_path / "graph.parquet"]
    engines: tuple[EngineName, ...] = ("eager", "graph")
    for path, engine in zip(paths, engines, strict=True):
        write_profile(profile(engine), path)
    knob_control(paths, tmp_path / "out")
    written = pd.read_csv(tmp_path / "out" / "knob_control.csv")
    assert list(written["profile"].unique()) == ["eager engine, A chip", "graph engine, A chip"]
    assert len(written) == 2 * 3 * 4
    assert (tmp_path / "out" / "knob_control.png").read_bytes()[:4] == b"\x89PNG"


def test_bars_stand_at_the_medians() -> None:
    summary = summarize_shares(saved_shares(profile().to_pandas(), source="here").assign(profile="here"))
    figure = plot_knob_control(summary, {"here": "a profile"})
    heights = [[bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)] for axes in figure.axes]
    plt.close(figure)
    np.testing.assert_allclose(heights[2], [0, 50, 50, 75], atol=1e-9)


def test_the_same_engine_twice_and_no_profile_are_errors(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        write_profile(profile(), path)
    with pytest.raises(ValueError, match=r"b\.parquet is of the eager engine, A chip, and so is one before it"):
        knob_control(paths, tmp_path / "out")
    with pytest.raises(ValueError, match="profiles: needs at least one"):
        knob_control([], tmp_path / "out")
