"""Split a profile by image and by knob setting, so that a test asks about images or settings never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

TEST_GROUPS: Final = ("held_out_images", "held_out_settings", "held_out_both")
"""Rows whose image, knob setting, or both were never trained on."""

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def image_folds(image_ids: Sequence[str], num_folds: int, *, seed: int) -> list[Mask]:
    """Deal images into folds as even as they come: for each a mask of the samples that show them.

    Args:
        image_ids: The image of each sample.
        num_folds: How many folds.
        seed: Of the deal.

    Raises:
        ValueError: If there are fewer images than folds.
    """
    images, image_N = np.unique(image_ids, return_inverse=True)
    if len(images) < num_folds:
        raise ValueError(f"image_id: {num_folds} folds need as many images, got {len(images)}")
    fold_of_image = np.random.default_rng(seed).permutation(len(images)) % num_folds
    return [fold_of_image[image_N] == fold for fold in range(num_folds)]


@dataclass(frozen=True, kw_only=True)
class ProfileSplit:
    """Which rows train, which calibrate and stop the training, and which test it.

    Args:
        train: Rows of training images and settings.
        val: Rows of other images at training settings.
        test_group: Index into ``TEST_GROUPS`` for each row, -1 for rows that test nothing.
    """

    train: Mask
    val: Mask
    test_group: Codes


def split_profile(
    image: Codes,
    setting: Codes,
    is_test_only: Mask,
    *,
    train_fraction: float,
    val_fraction: float,
    held_out_settings_fraction: float,
    seed: int,
) -> ProfileSplit:
    """Draw images into train, validation and test, and settings into seen and held out.

    Rows that are only for testing take no part in the draw; they are grouped by whether their image and their setting
    appear in training rows.

    Args:
        image: ``(rows,)`` code of each row's image, equal for equal images whatever the dataset or device.
        setting: ``(rows,)`` code of each row's knob setting.
        is_test_only: ``(rows,)`` rows of a held-out file.
        train_fraction: Share of images that train.
        val_fraction: Share of images that calibrate; the rest test.
        held_out_settings_fraction: Share of settings that never train.
        seed: Of the draw.

    Raises:
        ValueError: If a fraction leaves a part empty, or a held-out row repeats a trained image at a trained setting.
    """
    _check_fractions(train_fraction, val_fraction, held_out_settings_fraction)
    rng = np.random.default_rng(seed)
    images = rng.permutation(np.unique(image[~is_test_only]))
    settings = rng.permutation(np.unique(setting[~is_test_only]))
    num_train = round(train_fraction * len(images))
    num_val = round(val_fraction * len(images))
    num_held = round(held_out_settings_fraction * len(settings))
    if num_train == 0 or num_val == 0 or num_held == len(settings):
        raise ValueError(
            f"split: {len(images)} images and {len(settings)} knob settings are too few for train_split "
            f"{train_fraction}, val_split {val_fraction} and held_out_settings_fraction {held_out_settings_fraction}"
        )
    is_seen_setting = ~np.isin(setting, settings[:num_held])
    is_train_image = np.isin(image, images[:num_train])
    is_val_image = np.isin(image, images[num_train : num_train + num_val])
    train = is_train_image & is_seen_setting & ~is_test_only
    val = is_val_image & is_seen_setting & ~is_test_only
    # Calibration has seen the validation rows, so they answer for neither new images nor new settings.
    test_group = _group(np.isin(image, image[train]), np.isin(setting, setting[train]))
    test_group[train | val | (is_val_image & ~is_test_only)] = -1
    leaked = np.flatnonzero(is_test_only & np.isin(image, image[train | val]) & np.isin(setting, setting[train]))
    if len(leaked):
        raise ValueError(
            f"held_out_files: {len(leaked)} rows show a trained image at a trained knob setting; the held-out file "
            "must hold other images or other settings"
        )
    if (test_group < 0).all():
        raise ValueError("split: no row is left to test; lower train_split or val_split, or name held_out_files")
    return ProfileSplit(train=train, val=val, test_group=test_group)


def _group(has_seen_image: Mask, has_seen_setting: Mask) -> Codes:
    group = np.full(len(has_seen_image), TEST_GROUPS.index("held_out_both"), dtype=np.int64)
    group[~has_seen_image & has_seen_setting] = TEST_GROUPS.index("held_out_images")
    group[has_seen_image & ~has_seen_setting] = TEST_GROUPS.index("held_out_settings")
    group[has_seen_image & has_seen_setting] = -1
    return group


def _check_fractions(train_fraction: float, val_fraction: float, held_out_settings_fraction: float) -> None:
    for name, value in (("train_split", train_fraction), ("val_split", val_fraction)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: must be between 0 and 1, got {value}")
    if train_fraction + val_fraction > 1:
        raise ValueError(
            f"train_split + val_split: must leave a share for testing, got {train_fraction} + {val_fraction}"
        )
    if not 0 <= held_out_settings_fraction < 1:
        raise ValueError(f"held_out_settings_fraction: must be in [0, 1), got {held_out_settings_fraction}")
