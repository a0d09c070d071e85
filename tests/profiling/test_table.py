from typing import Any

import numpy as np
import pytest

from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable, concat
from tests.profile_rows import legal_row


def table(*rows: dict[str, Any], **environment: Any) -> ProfileTable:
    """Build a table of legal rows with changes."""
    records = [ProfileRecord.model_validate(legal_row(**row)) for row in rows]
    return ProfileTable.from_records(records, Environment(**environment))


def test_numbers_are_float_columns_with_nan_for_absent_values() -> None:
    profile = table({"num_crops": 3, "total_ms": 22.0}, {"top_k": 4})
    assert len(profile) == 2
    assert profile.numbers("top_k").tolist() == [8.0, 4.0]
    assert profile.numbers("total_ms")[0] == 22.0
    np.testing.assert_array_equal(profile.numbers("num_crops"), [3.0, np.nan])


def test_codes_stand_for_texts_in_order_of_appearance() -> None:
    codes, texts = table({"split": "b"}, {"split": "a"}, {}, {"split": "b"}).codes("split")
    assert codes.tolist() == [0, 1, -1, 0]
    assert texts == ["b", "a"]


def test_every_table_has_a_device_column() -> None:
    profile = table({}, {}, device="H200")
    assert profile.codes("device")[1] == ["H200"]
    assert profile.to_pandas()["device"].tolist() == ["H200", "H200"]


def test_unknown_columns_and_wrong_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="column 'latency': unknown, choose one of dataset"):
        table({}).numbers("latency")
    with pytest.raises(ValueError, match="column 'tier': holds no numbers but string"):
        table({}).numbers("tier")
    with pytest.raises(ValueError, match="column 'top_k': holds no text but int64"):
        table({}).codes("top_k")


def test_rows_are_taken_by_index_or_mask() -> None:
    profile = table({"top_k": 4}, {"top_k": 6}, {"top_k": 8})
    assert profile.take(np.array([2, 0])).numbers("top_k").tolist() == [8.0, 4.0]
    assert profile.take(np.array([False, True, False])).numbers("top_k").tolist() == [6.0]


def test_tables_of_one_device_join_and_keep_the_first_environment() -> None:
    joined = concat([table({}, device="A", date="1"), table({"top_k": 4}, device="A", date="2")])
    assert joined.numbers("top_k").tolist() == [8.0, 4.0]
    assert joined.environment.date == "1"


def test_mixed_devices_are_refused_unless_allowed() -> None:
    both = [table({}, device="A"), table({}, device="B", model="other")]
    with pytest.raises(ValueError, match=r"device: .* got 'A' \(a.json\) and 'B' \(b.json\)"):
        concat(both, names=["a.json", "b.json"])
    joined = concat(both, allow_mixed_devices=True)
    assert joined.codes("device")[0].tolist() == [0, 1]
    assert list(joined.environments) == ["A", "B"]
    with pytest.raises(ValueError, match="environment: the table mixes devices"):
        _ = joined.environment
    assert joined.take(np.array([1])).environment.model == "other"


@pytest.mark.parametrize("changes", [{"engine": "eager"}, {"dtype": "float32"}, {"num_threads": 4}])
def test_one_device_measured_in_two_ways_is_refused_even_then(changes: dict[str, Any]) -> None:
    first = table({}, device="A", engine="graph", dtype="bfloat16", num_threads=2)
    second = table({}, **({"device": "A", "engine": "graph", "dtype": "bfloat16", "num_threads": 2} | changes))
    with pytest.raises(ValueError, match=f"table 1: environment: {next(iter(changes))}: must be .* as in table 0"):
        concat([first, second], allow_mixed_devices=True)


def test_threads_may_differ_where_a_gpu_does_the_work() -> None:
    joined = concat([table({}, device="A", cuda="13.0", num_threads=n) for n in (2, 4)])
    assert len(joined) == 2
