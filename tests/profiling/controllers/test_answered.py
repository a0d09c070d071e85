from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.knobs import spread_grid
from profiling.controllers.answered import may_train, read_answered, with_borrowed_times, without_pictures_of
from profiling.controllers.outcomes import outcomes_of
from profiling.records import write_profile
from profiling.schema import ProfileError
from tests.block_models import block_hf_config
from tests.controller_world import ENVIRONMENT, share_out, untimed, world_requests, world_rows, world_table

KNOWN = ENVIRONMENT.model_copy(update={"model_shape": block_hf_config(16), "weights_digest": "one"})
SMALLER = spread_grid(16, top_k=(4, 6), block_counts=(8, 12, 16))


def test_answers_of_another_device_are_read_without_times() -> None:
    rows = world_rows(num_images=8, runs=1)
    elsewhere = ENVIRONMENT.model_copy(update={"device": "another device"})
    write_profile(world_table(untimed(rows), environment=elsewhere), Path("answers.parquet"))
    profile = outcomes_of(world_table(rows))
    answered = read_answered(["answers.parquet"], profile, dataset_names=["signs"])
    kept = (profile.samples["dataset"] == "signs").to_numpy()
    assert 0 < kept.sum() < len(profile)
    np.testing.assert_array_equal(answered.accuracy_NS, profile.accuracy_NS[kept])
    np.testing.assert_array_equal(answered.output_tokens_NS, profile.output_tokens_NS[kept])
    np.testing.assert_array_equal(answered.text_tokens_NT, profile.text_tokens_NT[kept])
    assert answered.is_measured_NS.all()
    for name in ("latency_ms_NS", "preprocess_ms_NT", "vision_done_ms_NT", "token_ms_NS"):
        assert np.isnan(getattr(answered, name)).all(), name


@pytest.mark.parametrize(
    ("grid", "environment", "message"),
    [
        (SMALLER, KNOWN, r"answers: a.parquet: top_k: must be those of the profile, \(4, 8\), got \(4, 6\)"),
        (None, KNOWN.model_copy(update={"weights_digest": "two"}), "another model than the profile: weights_digest"),
        (
            None,
            KNOWN.model_copy(update={"model_shape": block_hf_config(17)}),
            "another model than the profile: model_shape",
        ),
    ],
)
def test_answers_of_another_model_or_grid_are_refused(grid: Any, environment: Any, message: str) -> None:
    law = {} if grid is None else {"grid": grid}
    rows = untimed(world_rows(num_images=4, runs=1, **law))
    write_profile(world_table(rows, environment=environment), Path("a.parquet"))
    profile = outcomes_of(world_table(world_rows(num_images=4), environment=KNOWN))
    with pytest.raises(ProfileError, match=message):
        read_answered(["a.parquet"], profile, dataset_names=[])


def test_files_of_several_devices_are_joined_and_datasets_chosen_among_all() -> None:
    rows = untimed(world_rows(num_images=8, runs=1))
    elsewhere = ENVIRONMENT.model_copy(update={"device": "another device"})
    for name, environment in (("signs", ENVIRONMENT), ("colors", elsewhere)):
        write_profile(world_table(rows[rows["dataset"] == name], environment=environment), Path(f"{name}.parquet"))
    profile = outcomes_of(world_table(world_rows(num_images=8, runs=1)))
    files = ["signs.parquet", "colors.parquet"]
    answered = read_answered(files, profile, dataset_names=[])
    assert sorted(answered.samples["sample_id"]) == sorted(profile.samples["sample_id"])
    assert set(read_answered(files, profile, dataset_names=["colors"]).samples["dataset"]) == {"colors"}


def test_answers_to_another_dataset_are_refused() -> None:
    write_profile(world_table(untimed(world_rows(num_images=4, runs=1)).assign(dataset="birds")), Path("a.parquet"))
    profile = outcomes_of(world_table(world_rows(num_images=4)))
    with pytest.raises(ProfileError, match="dataset: the profile has colors, signs, got 'birds'"):
        read_answered(["a.parquet"], profile, dataset_names=[])


def test_answers_about_measured_pictures_are_left_out() -> None:
    answered = outcomes_of(world_table(untimed(world_rows(num_images=30, runs=1))))
    measured = outcomes_of(world_table(world_rows(num_images=20)))
    kept = set(without_pictures_of(answered, measured).samples["image_id"])
    assert kept == set(answered.samples["image_id"]) - set(measured.samples["image_id"])
    assert len(kept) == 10


def test_images_of_other_parts_and_samples_measured_in_training_are_left_out() -> None:
    parts = share_out(world_requests(num_images=40, per_image=2))
    # The same images have a third question each, and there are ten images more.
    rows = untimed(world_rows(num_images=50, per_image=3, runs=1)).query("sample < 3 or sample >= 6")
    answered = outcomes_of(world_table(rows))
    is_training = may_train(answered, parts)
    training = set(parts["train"].image_ids)
    measured = set(parts["train"].outcomes.samples[["dataset", "image_id", "sample_id"]].itertuples(index=False))
    everywhere = {image for part in parts.values() for image in part.image_ids}
    for row, kept in zip(answered.samples.itertuples(), is_training, strict=True):
        is_new = row.image_id not in everywhere
        is_other = row.image_id in training and (row.dataset, row.image_id, row.sample_id) not in measured
        assert kept == (is_new or is_other)
    kept_images = set(answered.samples["image_id"][is_training])
    assert kept_images - everywhere
    assert kept_images & training
    assert not kept_images & (everywhere - training)


def test_times_are_lent_by_measured_samples_of_the_dataset_and_set_right_for_the_length() -> None:
    measured = outcomes_of(world_table(world_rows(num_images=20, runs=1)))
    num_settings = len(measured.settings)
    measured = replace(measured, token_ms_NS=np.tile(np.arange(num_settings) / 10 + 1, (len(measured), 1)))
    answered = outcomes_of(world_table(untimed(world_rows(num_images=200, runs=1, seed=1))))
    answered = replace(answered, output_tokens_NS=answered.output_tokens_NS + np.arange(len(answered))[:, None] % 3)
    lent = with_borrowed_times(answered, measured, seed=3)
    for name in ("accuracy_NS", "output_tokens_NS", "text_tokens_NT"):
        np.testing.assert_array_equal(getattr(lent, name), getattr(answered, name))
    for dataset in ("colors", "signs"):
        prefill_ms = lent.prefill_ms_NS[(lent.samples["dataset"] == dataset).to_numpy()][:, 0]
        lenders = measured.take((measured.samples["dataset"] == dataset).to_numpy())
        assert set(prefill_ms) == set(lenders.prefill_ms_NS[:, 0])  # all of these and no others, at random
        assert len(set(prefill_ms[:10])) > 3
    lender = int(np.flatnonzero(measured.prefill_ms_NS[:, 0] == lent.prefill_ms_NS[1, 0])[0])
    more_S = answered.output_tokens_NS[1] - measured.output_tokens_NS[lender]
    more_ms_S = more_S * measured.token_ms_NS[lender]
    np.testing.assert_allclose(lent.latency_ms_NS[1], measured.latency_ms_NS[lender] + more_ms_S)
    np.testing.assert_array_equal(with_borrowed_times(answered, measured, seed=3).latency_ms_NS, lent.latency_ms_NS)


def test_a_dataset_that_nobody_can_lend_times_of_is_named() -> None:
    rows = world_rows(num_images=8, runs=1)
    measured = outcomes_of(world_table(rows))
    strangers = outcomes_of(world_table(untimed(rows).assign(dataset="birds")))
    with pytest.raises(ValueError, match="answers: birds: no sample that trains was measured under every setting"):
        with_borrowed_times(strangers, measured, seed=0)
