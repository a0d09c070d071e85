from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from datamodules.profile import ProfileDataModule, RowBatches
from models.latency_estimator import LatencyRows
from profiling.records import write_profile
from profiling.schema import ProfileError
from tests.profile_law import profile_table


@pytest.fixture
def files() -> list[str]:
    write_profile(profile_table(num_images=30, settings_per_image=10), Path("profile.parquet"))
    return ["profile.parquet"]


def _rows(count: int) -> LatencyRows:
    number = torch.arange(count)
    return LatencyRows(number[:, None].float().expand(-1, 6), number % 3, number[:, None].float().expand(-1, 5), number)


def _seen(batches: Iterable[LatencyRows]) -> list[int]:
    return torch.cat([batch.group for batch in batches]).tolist()


def _as_process(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr("datamodules.profile.rank_and_world", lambda: (rank, world))


def test_a_batch_holds_whole_rows() -> None:
    (batch,) = RowBatches(_rows(10), batch_size=16, shuffle_seed=0)
    assert (batch.features[:, 0] == batch.group).all()
    assert (batch.target_ms[:, 4] == batch.group).all()
    assert (batch.device == batch.group % 3).all()


def test_training_batches_are_shuffled_anew_each_epoch_and_repeat_with_the_seed() -> None:
    batches = RowBatches(_rows(64), batch_size=16, shuffle_seed=0)
    first = _seen(batches)
    assert sorted(first) == list(range(64))
    assert first != list(range(64))
    assert first == _seen(RowBatches(_rows(64), batch_size=16, shuffle_seed=0))
    batches.set_epoch(1)
    assert _seen(batches) != first


def test_an_incomplete_training_batch_is_left_out_unless_it_is_the_only_one() -> None:
    assert len(_seen(RowBatches(_rows(70), batch_size=16, shuffle_seed=0))) == 64
    assert len(_seen(RowBatches(_rows(10), batch_size=16, shuffle_seed=0))) == 10


def test_two_processes_together_train_on_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [sorted(batch.group.tolist()) for batch in RowBatches(_rows(100), batch_size=32, shuffle_seed=5)]
    halves = []
    for rank in range(2):
        _as_process(monkeypatch, rank, 2)
        batches = RowBatches(_rows(100), batch_size=16, shuffle_seed=5)
        assert len(batches) == 3
        halves.append([batch.group.tolist() for batch in batches])
    assert [sorted(one + two) for one, two in zip(*halves, strict=True)] == whole


def test_processes_share_the_rows_of_an_evaluation_without_repeating_any(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in range(3):
        _as_process(monkeypatch, rank, 3)
        batches = RowBatches(_rows(31), batch_size=4, shuffle_seed=None)
        assert len(batches) == len(list(batches))
        seen += _seen(batches)
    assert seen == list(range(31))


def test_every_part_gets_its_rows(files: list[str]) -> None:
    data = ProfileDataModule(files, held_out_settings_fraction=0.2)
    data.setup("fit")
    parts = data.training_rows, data.validation_rows, data.test_rows
    assert all(len(part.features) for part in parts)
    assert set(data.test_rows.group.tolist()) == {0, 1, 2}
    assert sum(len(batch.features) for batch in data.predict_dataloader()) == 300
    assert data.devices == ["synthetic"]
    assert len(data.coefficients[0]) == 4


def test_the_split_belongs_to_its_own_seed_not_to_the_global_one(files: list[str]) -> None:
    first = ProfileDataModule(files).training_rows.features
    torch.manual_seed(123)
    torch.testing.assert_close(ProfileDataModule(files).training_rows.features, first)
    other = ProfileDataModule(files, split_seed=7).training_rows.features
    assert other.shape != first.shape or not torch.equal(other, first)


def test_devices_are_numbered_and_share_the_split_of_images(files: list[str]) -> None:
    table = profile_table("slow", num_images=30, settings_per_image=10, slowdown=9)
    write_profile(table, Path("slow.parquet"))
    data = ProfileDataModule([*files, "slow.parquet"], allow_mixed_devices=True)
    assert data.devices == ["synthetic", "slow"]
    per_device = [data.training_rows.features[data.training_rows.device == d] for d in range(2)]
    # The same images and settings were measured on both, so the same rows train.
    torch.testing.assert_close(per_device[0], per_device[1])


def test_mixed_devices_need_leave(files: list[str]) -> None:
    write_profile(profile_table("slow", num_images=3), Path("slow.parquet"))
    with pytest.raises(ProfileError, match="profiles of different devices cannot be joined unless you allow it"):
        ProfileDataModule([*files, "slow.parquet"]).setup("fit")


def test_a_held_out_file_only_tests(files: list[str]) -> None:
    rows = profile_table(num_images=35, settings_per_image=10)
    held_out = rows.take(rows.codes("image_id")[0] >= 30)
    write_profile(held_out, Path("held_out.parquet"))
    alone = ProfileDataModule(files)
    both = ProfileDataModule(files, held_out_files=["held_out.parquet"])
    torch.testing.assert_close(both.training_rows.features, alone.training_rows.features)
    assert len(both.test_rows.features) == len(alone.test_rows.features) + len(held_out)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size: must be 1 or more, got 0"):
        ProfileDataModule(["x.parquet"], batch_size=0)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ProfileError, match=r"nowhere.parquet: no such file"):
        ProfileDataModule(["nowhere.parquet"]).setup("fit")


def test_it_is_named_by_its_files() -> None:
    assert str(ProfileDataModule(files=["a.parquet", "b.parquet"])) == "ProfileDataModule(a.parquet, b.parquet)"
