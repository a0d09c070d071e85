from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from models.latency_estimator import TARGETS
from models.latency_terms import FEATURES, ModelShape
from models.released import RELEASED
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.schema import Environment, ProfileError
from profiling.table import ProfileTable
from tests.profile_law import profile_table


def _with_column(table: ProfileTable, name: str, values: np.ndarray) -> ProfileTable:
    index = table.columns.column_names.index(name)
    field = table.columns.schema.field(index)
    return replace(
        table, columns=table.columns.set_column(index, field, pa.array(values, field.type, from_pandas=True))
    )


def test_rows_hold_features_and_targets_in_their_documented_order() -> None:
    table = profile_table(num_images=3)
    rows = latency_rows(table)
    for i, name in enumerate(FEATURES):
        np.testing.assert_allclose(rows.features[:, i], table.numbers(name))
    for i, name in enumerate(TARGETS):
        np.testing.assert_allclose(rows.target_ms[:, i], table.numbers(f"{name}_ms"), rtol=1e-6)
    assert set(rows.group.tolist()) == {-1}


def test_zero_milliseconds_count_as_not_measured() -> None:
    table = profile_table(num_images=2)
    rows = latency_rows(_with_column(table, "projector_ms", np.zeros(len(table))))
    assert rows.target_ms[:, TARGETS.index("projector")].isnan().all()


def test_absent_crop_counts_come_from_the_vision_tokens() -> None:
    table = profile_table(num_images=2)
    absent = _with_column(table, "num_crops", np.full(len(table), np.nan))
    crops = latency_rows(absent).features[:, 0]
    np.testing.assert_allclose(crops, np.ceil(table.numbers("vision_tokens") / 144))


def test_crop_counts_that_only_some_rows_have_are_refused() -> None:
    table = profile_table(num_images=2)
    crops = table.numbers("num_crops").copy()
    crops[3] = np.nan
    with pytest.raises(ProfileError, match="device synthetic: num_crops is missing in 1 of 40 rows"):
        latency_rows(_with_column(table, "num_crops", crops))


def test_the_shape_is_the_profiles_own() -> None:
    dense = model_shape(Environment(model_shape=RELEASED["molmo-7b-d-0924"]))
    assert dense.num_experts == 0
    assert dense.kv_dim == 4 * 128
    assert model_shape(Environment()) == ModelShape()


def test_a_shape_of_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"device a: environment.model_shape: .*is missing"):
        model_shape(Environment(device="a", model_shape={"layers": 3}))


def test_a_component_never_measured_costs_nothing() -> None:
    table = profile_table(num_images=4)
    rows = latency_rows(_with_column(table, "projector_ms", np.full(len(table), np.nan)))
    coefficients = np.array(base_coefficients(rows, [ModelShape().to_mapping()]))
    assert (coefficients[0, TARGETS.index("projector")] == 0).all()
    assert (coefficients[0, TARGETS.index("prefill")] > 0).any()
