from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.knobs import ExpertCounts, KnobGrid, spread_grid
from models.released import RELEASED
from profiling.controllers.outcomes import Outcomes, join_outcomes, outcomes_of, read_outcomes
from profiling.records import write_profile
from profiling.schema import Environment, ProfileError, ProfileRecord
from profiling.table import ProfileTable, concat
from tests.controller_world import ENVIRONMENT, GRID, world, world_rows, world_table, write_world
from tests.profile_rows import legal_row


def table_of(*rows: dict[str, Any], environment: Environment = ENVIRONMENT) -> ProfileTable:
    answered = [{"accuracy": 1.0, "num_active_blocks": 8, **row} for row in rows]
    return ProfileTable.from_records([ProfileRecord.model_validate(legal_row(**row)) for row in answered], environment)


def test_runs_of_a_cell_are_averaged_in_their_order_and_the_last_one_is_what_was_realised() -> None:
    outcomes = outcomes_of(
        table_of(
            {"run_id": 7, "preprocess_ms": 4.0, "decode_ms": 8.0, "accuracy": 0.5},  # 3 + 10 + 8 + 4
            {"run_id": 2, "preprocess_ms": 1.0, "decode_ms": 9.0, "accuracy": 0.7},
            {"run_id": 5, "total_ms": 31.0, "accuracy": 0.6},
        )
    )
    assert outcomes.latency_runs_NSR.tolist() == [[[23.0, 31.0, 25.0]]]
    assert outcomes.accuracy_NS.item() == pytest.approx(0.6)
    assert outcomes.latency_ms_NS.item() == pytest.approx(79 / 3)
    assert outcomes.realised_ms_NS.item() == 25.0
    assert outcomes.repeated_ms_NS.item() == 27.0
    assert outcomes.before_decode_ms_NS.item() == pytest.approx(13 + 5 / 3)
    assert outcomes.vision_done_ms_NT.item() == pytest.approx(3 + 5 / 3)
    assert outcomes.token_ms_NS.item() == pytest.approx((2 + 9 / 4 + 2) / 3)
    assert outcomes.output_tokens_NS.item() == 5


def test_goodput_counts_the_runs_in_time_and_realised_goodput_the_last_one() -> None:
    outcomes = outcomes_of(table_of({"run_id": 0, "accuracy": 0.8}, {"run_id": 1, "prefill_ms": 30.0, "accuracy": 0.8}))
    assert outcomes.goodput_NS(21.0).item() == pytest.approx(0.4)
    assert outcomes.goodput_NS(20.9).item() == 0
    assert outcomes.realised_goodput_NS(40.9).item() == 0
    assert outcomes.realised_goodput_NS(41.0).item() == pytest.approx(0.8)


def test_preprocessing_counts_beside_the_total_or_where_there_is_none_the_parts() -> None:
    with_total, without = table_of({"preprocess_ms": 4.0, "total_ms": 21.2}), table_of({"preprocess_ms": 4.0})
    assert outcomes_of(with_total).realised_ms_NS.item() == 25.2
    assert outcomes_of(without).realised_ms_NS.item() == 25.0


def test_columns_follow_the_grid_whatever_the_order_of_rows() -> None:
    rows = world_rows(num_images=6)
    shuffled = rows.sample(frac=1, random_state=0)
    outcomes = outcomes_of(world_table(shuffled))
    assert outcomes.settings == tuple(GRID.settings())
    expected = rows.pivot_table(index="sample_id", columns="setting", values="accuracy")
    assert (outcomes.accuracy_NS == expected.loc[outcomes.samples["sample_id"]].to_numpy()).all()
    assert outcomes.samples["sample_id"].tolist() == list(dict.fromkeys(shuffled["sample_id"]))
    first = outcomes.samples.merge(rows.drop_duplicates("sample_id"), on="sample_id", suffixes=("", "_given"))
    assert (first["question"] == first["question_given"]).all()
    assert (first["image_id"] == first["image_id_given"]).all()


def test_nothing_assumes_one_size_of_grid() -> None:
    grid = spread_grid(16, top_k=(2, 4, 6, 8), block_counts=(16,), tiers=GRID.tiers[1:])
    outcomes = world(num_images=4, grid=grid)
    assert outcomes.grid == grid
    assert outcomes.accuracy_NS.shape == (8, 8)
    assert outcomes.vision_tokens_NT.shape == (8, 2)


def test_a_missing_cell_stays_missing_and_touches_no_other() -> None:
    rows = world_rows(num_images=5, runs=2)
    is_gone = (rows["sample"] == 3) & (rows["setting"] == 4)
    is_halved = (rows["sample"] == 2) & (rows["setting"] == 1) & (rows["run_id"] == 1)
    whole, holed = outcomes_of(world_table(rows)), outcomes_of(world_table(rows[~is_gone & ~is_halved]))
    assert np.argwhere(~holed.is_measured_NS).tolist() == [[3, 4]]
    for name in ("accuracy_NS", "latency_ms_NS", "realised_ms_NS", "before_decode_ms_NS"):
        before, after = getattr(whole, name).copy(), getattr(holed, name)
        assert np.isnan(after[3, 4])
        before[3, 4] = before[2, 1] = np.nan
        assert np.array_equal(before[2], np.where(np.arange(18) == 1, np.nan, after[2]), equal_nan=True)
        assert np.array_equal(before[3:], after[3:], equal_nan=True)
    assert holed.realised_ms_NS[2, 1] == whole.latency_runs_NSR[2, 1, 0]
    assert np.isnan(holed.realised_goodput_NS(1e9)[3, 4])


def test_rows_without_an_answer_are_left_out() -> None:
    rows = world_rows(num_images=4)
    rows.loc[(rows["sample"] == 0) & (rows["setting"] == 0), "accuracy"] = np.nan
    assert np.argwhere(~outcomes_of(world_table(rows)).is_measured_NS).tolist() == [[0, 0]]


def test_samples_of_two_datasets_may_have_one_id() -> None:
    outcomes = outcomes_of(table_of({"dataset": "a"}, {"dataset": "b", "accuracy": 0.0}, {"split": "val"}))
    assert len(outcomes) == 3
    assert outcomes.accuracy_NS[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert outcomes.samples["dataset"].tolist() == ["a", "b", ""]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"accuracy": None}], "accuracy: no row"),
        ([{"accuracy": 4.2}], "accuracy: row 0: must be a share of 1.*got 4.2"),
        ([{"run_id": 3}, {"run_id": 3}], "run_id: sample 'q1' has run 3 twice at tier low, top_k 8, 8 active blocks"),
        ([{"tier": "huge"}], "tier: the model's grid has low, medium, high, the profile has 'huge'"),
        ([{"num_active_blocks": 3}], "active_blocks: no row says which 3 blocks ran"),
        (
            [
                {"num_active_blocks": 1, "active_blocks": [0]},
                {"num_active_blocks": 1, "active_blocks": [1], "run_id": 1},
            ],
            r"active_blocks: 1 blocks must be one set in a profile, got \[\[0\], \[1\]\]",
        ),
        (
            [{"tier": "low"}, {"tier": "high", "top_k": 4}],
            "lacks 2 of the 4 settings.*first tier low, top_k 4, 8 active",
        ),
    ],
)
def test_a_profile_that_cannot_be_learned_from_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        outcomes_of(table_of(*rows))


def test_a_profile_that_lacks_a_setting_of_the_grid_asked_for_is_refused() -> None:
    grid = KnobGrid(tiers=GRID.tiers, top_k=GRID.top_k, blocks_by_count={**GRID.blocks_by_count, 14: tuple(range(14))})
    with pytest.raises(
        ProfileError, match="lacks 6 of the 24 settings of its grid, first tier low, top_k 4, 14 active"
    ):
        outcomes_of(world_table(num_images=3), grid)
    fewer = KnobGrid(tiers=GRID.tiers, top_k=(8,), blocks_by_count=GRID.blocks_by_count)
    with pytest.raises(ProfileError, match="top_k: the grid has 8, the profile has 4"):
        outcomes_of(world_table(num_images=3), fewer)


def test_two_devices_are_never_joined(tmp_path: Path) -> None:
    other = ENVIRONMENT.model_copy(update={"device": "another device"})
    mixed = concat([world_table(num_images=2), world_table(num_images=2, environment=other)], allow_mixed_devices=True)
    with pytest.raises(ProfileError, match="mixes devices"):
        outcomes_of(mixed)
    another_model = ENVIRONMENT.model_copy(update={"model": "another model"})
    write_world(tmp_path / "a.parquet", num_images=2)
    write_profile(world_table(num_images=2, seed=1, environment=another_model), tmp_path / "b.parquet")
    with pytest.raises(ProfileError, match="model"):
        read_outcomes([tmp_path])


def test_files_are_read_and_datasets_chosen(tmp_path: Path) -> None:
    path = write_world(tmp_path / "world.parquet", num_images=10)
    whole = read_outcomes([path])
    assert set(whole.samples["dataset"]) == {"colors", "signs"}
    assert set(read_outcomes([path], dataset_names=["signs"]).samples["dataset"]) == {"signs"}
    with pytest.raises(ProfileError, match=r"dataset_names: the profile has .*got 'sings'"):
        read_outcomes([path], dataset_names=["sings"])


def test_the_full_setting_has_the_trained_top_k() -> None:
    environment = ENVIRONMENT.model_copy(update={"model_shape": RELEASED["molmoe-1b-0924"]})
    grid = spread_grid(16, top_k=(4, 8, 12), block_counts=(8, 16))
    trained = outcomes_of(world_table(num_images=2, grid=grid, environment=environment))
    unknown = outcomes_of(world_table(num_images=2, grid=grid))
    for outcomes, top_k in ((trained, 8), (unknown, 12)):
        full = outcomes.settings[outcomes.full_setting]
        assert (full.tier, full.top_k, full.num_active_blocks) == ("high", top_k, 16)


def test_the_models_own_grid_gives_tiers_and_blocks() -> None:
    own = spread_grid(16, top_k=(4, 8), block_counts=(16, 8), tiers=GRID.tiers[::-1])
    shape = {**RELEASED["molmoe-1b-0924"], "knob_grid": own.to_json()}
    rows = world_rows(num_images=2, grid=own).drop(columns="active_blocks")
    environment = ENVIRONMENT.model_copy(update={"model_shape": shape})
    outcomes = outcomes_of(world_table(rows, environment=environment))
    assert outcomes.settings == tuple(own.settings())


def test_what_a_level_of_top_k_meant_is_in_the_settings() -> None:
    meaning = ExpertCounts(text=(3, 1), vision=(1, 1))
    told = {"experts_by_top_k": {"2": {"text": [3, 1], "vision": [1, 1]}}}
    grid = KnobGrid(tiers=GRID.tiers, top_k=(1, 2), blocks_by_count={2: (0, 1)})
    table = world_table(num_images=2, grid=grid, environment=ENVIRONMENT.model_copy(update=told))
    assert {setting.top_k: setting.experts for setting in outcomes_of(table).settings} == {1: None, 2: meaning}


def test_taking_and_joining_keep_rows_together() -> None:
    outcomes = world(num_images=6)
    picked = outcomes.take(np.asarray([7, 2]))
    masked = outcomes.take(np.isin(np.arange(12), [2, 7]))
    joined = join_outcomes([masked.take(np.asarray([1])), masked.take(np.asarray([0]))])
    for one in (picked, joined):
        assert one.samples["sample_id"].tolist() == ["s7", "s2"]
        assert np.array_equal(one.latency_runs_NSR, outcomes.latency_runs_NSR[[7, 2]])
        assert np.array_equal(one.vision_tokens_NT, outcomes.vision_tokens_NT[[7, 2]])
    assert isinstance(picked, Outcomes)
    assert list(picked.samples.index) == [0, 1]
    pd.testing.assert_frame_equal(picked.samples, joined.samples)
