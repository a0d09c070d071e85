import numpy as np
import pytest

from profiling.splits import TEST_GROUPS, ProfileSplit, image_folds, split_profile

IMAGE = np.repeat(np.arange(40), 20)
SETTING = np.tile(np.arange(20), 40)


def _split(is_test_only: np.ndarray | None = None, *, seed: int = 0, **options: float) -> ProfileSplit:
    nothing = np.zeros(len(IMAGE), dtype=bool)
    arguments = {"train_fraction": 0.8, "val_fraction": 0.1, "held_out_settings_fraction": 0.2, **options}
    test_only = nothing if is_test_only is None else is_test_only
    return split_profile(IMAGE, SETTING, test_only, seed=seed, **arguments)


def test_no_image_is_in_two_parts() -> None:
    split = _split()
    new_images = np.isin(split.test_group, [0, 2])
    parts = [set(IMAGE[rows]) for rows in (split.train, split.val, new_images)]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert len(set.union(*parts)) == 40


def test_held_out_settings_neither_train_nor_calibrate() -> None:
    split = _split()
    held_out = set(SETTING[np.isin(split.test_group, [1, 2])])
    assert len(held_out) == 4
    assert not held_out & set(SETTING[split.train | split.val])


def test_groups_say_what_is_new() -> None:
    split = _split()
    trained_images, trained_settings = set(IMAGE[split.train]), set(SETTING[split.train])
    for group, name in enumerate(TEST_GROUPS):
        rows = split.test_group == group
        assert rows.any()
        assert all((image not in trained_images) == (name != "held_out_settings") for image in IMAGE[rows])
        assert all((setting not in trained_settings) == (name != "held_out_images") for setting in SETTING[rows])


def test_the_seed_decides() -> None:
    assert (_split(seed=1).train == _split(seed=1).train).all()
    assert (_split(seed=1).train != _split(seed=2).train).any()


def test_rows_of_a_held_out_file_only_test() -> None:
    is_test_only = IMAGE >= 36
    split = _split(is_test_only)
    assert not (split.train | split.val)[is_test_only].any()
    assert set(split.test_group[is_test_only]) == {0, 2}


def test_a_held_out_file_that_repeats_trained_rows_is_refused() -> None:
    is_test_only = np.arange(len(IMAGE)) % 7 == 0
    with pytest.raises(ValueError, match="rows show a trained image at a trained knob setting"):
        _split(is_test_only, held_out_settings_fraction=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_fraction": 1.0}, "train_split: must be between 0 and 1, got 1.0"),
        ({"val_fraction": 0.0}, "val_split: must be between 0 and 1, got 0.0"),
        ({"val_fraction": 0.3}, r"train_split \+ val_split: must leave a share for testing, got 0.8 \+ 0.3"),
        ({"held_out_settings_fraction": 1.0}, r"held_out_settings_fraction: must be in \[0, 1\), got 1.0"),
        (
            {"train_fraction": 0.9, "held_out_settings_fraction": 0.0},
            "no row is left to test; lower train_split or val_split, or name held_out_files",
        ),
        ({"val_fraction": 0.01}, "40 images and 20 knob settings are too few"),
    ],
)
def test_impossible_fractions_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _split(None, seed=0, **options)


def test_folds_share_out_the_images_evenly_and_keep_the_samples_of_one_together() -> None:
    images = [f"i{number // 3}" for number in range(33)]
    folds = image_folds(images, 2, seed=0)
    assert np.array_equal(folds[0], ~folds[1])
    shown = [{images[sample] for sample in np.flatnonzero(fold)} for fold in folds]
    assert not shown[0] & shown[1]
    assert sorted(map(len, shown)) == [5, 6]
    with pytest.raises(ValueError, match="2 folds need as many images, got 1"):
        image_folds(["i0", "i0"], 2, seed=0)
