from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from profiling.controllers.feature_file import FeatureFile, FeatureFileError, read_feature_file, read_feature_files
from profiling.controllers.features import free_features_of
from profiling.controllers.outcomes import KEY, Outcomes, outcomes_of
from tests.controller_world import ENVIRONMENT, world_table

SHAPE = {"moe_top_k": 8, "knob_grid": None}


@pytest.fixture
def outcomes() -> Outcomes:
    return outcomes_of(world_table(num_images=6))


@pytest.fixture
def file(outcomes: Outcomes) -> FeatureFile:
    rng = np.random.default_rng(0)
    backwards = outcomes.samples[list(KEY)].iloc[::-1].itertuples(index=False)
    return FeatureFile(
        model_digest="abc",
        model_shape=SHAPE,
        tiers=("low", "medium", "high"),
        tiling="target",
        samples=tuple((str(d), str(s), str(i)) for d, s, i in backwards),
        question_ND=rng.normal(size=(12, 5)).astype(np.float16),
        glance_ND=rng.normal(size=(12, 5)).astype(np.float16),
        vision_NTD=rng.normal(size=(12, 3, 5)).astype(np.float16),
    )


def test_features_come_back_in_the_order_of_the_profile(file: FeatureFile, outcomes: Outcomes) -> None:
    path = Path("features.safetensors")
    file.write(path)
    features = read_feature_file(path).features_of(outcomes, source="f")
    assert np.array_equal(features.question_ND, file.question_ND[::-1])
    assert np.array_equal(features.glance_ND, file.glance_ND[::-1])
    assert np.array_equal(features.vision_NTD, file.vision_NTD[::-1])
    assert features.question_ND.dtype == np.float16
    assert np.array_equal(features.free_NF, free_features_of(outcomes))
    assert list(Path().iterdir()) == [path]


def test_a_file_of_before_the_glance_has_none(file: FeatureFile, outcomes: Outcomes) -> None:
    path = Path("features.safetensors")
    file.write(path)
    with safe_open(path, framework="numpy") as written:
        tensors = {name: written.get_tensor(name) for name in ("question", "vision")}
        save_file(tensors, path, metadata=written.metadata())
    features = read_feature_file(path).features_of(outcomes, source="f")
    assert features.glance_ND.shape == (12, 0)
    assert np.array_equal(features.question_ND, file.question_ND[::-1])


def test_a_file_knows_more_samples_than_a_profile_may_ask_for(file: FeatureFile, outcomes: Outcomes) -> None:
    some = file.features_of(outcomes.take(np.asarray([4, 0])), source="f")
    assert np.array_equal(some.question_ND, file.question_ND[[-5, -1]])


def test_several_files_of_one_model_are_as_one(file: FeatureFile, outcomes: Outcomes) -> None:
    for name, rows in (("a", slice(0, 7)), ("b", slice(5, 12))):  # two samples are in both
        _rows(file, rows).write(Path(f"{name}.safetensors"))
    features = read_feature_files(["a.safetensors", "b.safetensors"]).features_of(outcomes, source="both")
    assert np.array_equal(features.question_ND, file.question_ND[::-1])
    assert np.array_equal(features.vision_NTD, file.vision_NTD[::-1])
    assert np.array_equal(features.glance_ND, file.glance_ND[::-1])
    replace(file, model_digest="other").write(Path("c.safetensors"))
    with pytest.raises(FeatureFileError, match=r"c.safetensors: model_digest: is not that of a.safetensors"):
        read_feature_files(["a.safetensors", "c.safetensors"])
    replace(file, glance_ND=file.glance_ND[:, :0]).write(Path("d.safetensors"))
    with pytest.raises(FeatureFileError, match=r"d.safetensors: of it and a.safetensors one holds no glance"):
        read_feature_files(["a.safetensors", "d.safetensors"])


def test_features_by_other_weights_than_a_profile_names_are_refused(file: FeatureFile, outcomes: Outcomes) -> None:
    named = replace(outcomes, environment=ENVIRONMENT.model_copy(update={"weights_digest": "xyz"}))
    with pytest.raises(FeatureFileError, match="f: was made with other weights than the profile: digest abc, expected"):
        file.features_of(named, source="f")
    same = replace(outcomes, environment=ENVIRONMENT.model_copy(update={"weights_digest": "abc"}))
    assert len(file.features_of(same, source="f").question_ND) == 12


def test_a_missing_sample_is_named_with_what_to_do(file: FeatureFile, outcomes: Outcomes) -> None:
    fewer = _rows(file, slice(0, -2))
    with pytest.raises(FeatureFileError, match=r"f: lacks 2 of the profile's 12 samples, first .*val/s0; make the"):
        fewer.features_of(outcomes, source="f")


def test_features_of_another_model_or_of_other_tiers_are_refused(file: FeatureFile, outcomes: Outcomes) -> None:
    with pytest.raises(FeatureFileError, match="has the tiers low, the profile low, medium, high"):
        replace(file, tiers=("low",)).features_of(outcomes, source="f")
    environment = ENVIRONMENT.model_copy(update={"model_shape": {**SHAPE, "moe_top_k": 4}})
    other = replace(outcomes, environment=environment)
    with pytest.raises(FeatureFileError, match=r"another model than the profile: config.json: moe_top_k differs"):
        file.features_of(other, source="f")
    same = replace(outcomes, environment=ENVIRONMENT.model_copy(update={"model_shape": SHAPE}))
    assert len(file.features_of(same, source="f").free_NF) == 12


def test_what_is_no_feature_file_is_refused_by_name() -> None:
    with pytest.raises(FeatureFileError, match=r"gone.safetensors: no such file"):
        read_feature_file("gone.safetensors")
    Path("bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(FeatureFileError, match=r"bad.safetensors: is no feature file"):
        read_feature_file("bad.safetensors")


def _rows(file: FeatureFile, rows: slice) -> FeatureFile:
    return replace(
        file,
        samples=file.samples[rows],
        question_ND=file.question_ND[rows],
        glance_ND=file.glance_ND[rows],
        vision_NTD=file.vision_NTD[rows],
    )
