import pytest

from profiling.lineage import plain_rows


def test_a_plain_row_stays_as_it_is_but_for_nulls() -> None:
    assert plain_rows({"sample_id": "a", "accuracy": None}) == [{"sample_id": "a"}]


def test_a_vision_total_alone_is_the_encoder_time() -> None:
    assert plain_rows({"T_vision_total": 3.5}) == [{"vision_encoder_ms": 3.5}]


def test_a_vision_total_beside_an_encoder_time_is_dropped() -> None:
    row = {"T_vision_encoder": 3.0, "T_projector": 0.5, "T_vision_total": 3.5}
    assert plain_rows(row) == [{"T_vision_encoder": 3.0, "T_projector": 0.5}]


def test_a_vision_total_beside_a_projector_time_alone_is_an_error() -> None:
    with pytest.raises(ValueError, match="T_vision_total: needs T_vision_encoder beside T_projector"):
        plain_rows({"T_projector": 0.5, "T_vision_total": 3.5})


def test_per_run_lists_give_one_row_per_run() -> None:
    row = {"sample_id": "a", "T_LLM_prefill": [1.0, 1.1], "T_vision_total": [2.0, 2.1], "active_block_indices": [0, 1]}
    shared = {"sample_id": "a", "active_block_indices": [0, 1]}
    assert plain_rows(row) == [
        shared | {"run_id": 0, "T_LLM_prefill": 1.0, "vision_encoder_ms": 2.0},
        shared | {"run_id": 1, "T_LLM_prefill": 1.1, "vision_encoder_ms": 2.1},
    ]


def test_runs_may_be_numbered_by_a_list_of_their_own() -> None:
    rows = plain_rows({"run_id": [4, 7], "T_total": [1.0, None]})
    assert rows == [{"run_id": 4, "T_total": 1.0}, {"run_id": 7}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"T_total": [1.0, 2.0], "T_LLM_prefill": [1.0]},
            "T_LLM_prefill: .* equally long, got 1 values and 2 in T_total",
        ),
        ({"T_total": []}, "T_total: .* at least one value"),
        ({"T_total": [1.0], "run_id": 3}, "run_id: .* numbers its runs itself, got 3"),
    ],
)
def test_lists_that_do_not_fit_are_an_error(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain_rows(row)
