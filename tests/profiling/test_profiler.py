import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import profiling
from models.generation import Generation, generate
from models.knobs import KnobGrid, Tier
from models.processor import MolmoProcessor
from models.tiling import CropGeometry, image_layout
from models.tokenizer import SpecialTokens
from profiling.profiler import KEY_FIELDS, Key, Plan, Profiler
from profiling.schema import ProfileRecord
from profiling.workload import SyntheticRequest, Workload, make_requests
from tests.helpers import golden_config
from tests.patched_clock import patch_clock
from tests.small_models import golden_model

GRID = KnobGrid(
    tiers=(Tier(name="low", min_crops=1, max_crops=2), Tier(name="high", min_crops=3, max_crops=4)),
    top_k=(2, 3),
    blocks_by_count={2: (0, 3), 4: (0, 1, 2, 3)},
)


def plan(**changes: Any) -> Plan:
    workload = Workload(image_sizes=((64, 48), (30, 90)), text_tokens=(3, 12), output_tokens=(1, 6))
    return Plan(**{"requests": make_requests(workload), "grid": GRID, "repeats": 2, **changes})


def profiler(the_plan: Plan) -> Profiler:
    model = golden_model("moe")
    return Profiler(model, MolmoProcessor(model.config, SpecialTokens.of_shape(model.config)), the_plan)


def measured(the_plan: Plan, done: Sequence[Key] = ()) -> list[ProfileRecord]:
    records: list[ProfileRecord] = []
    profiler(the_plan).run(done=frozenset(done), write=records.append)
    return records


def key(record: ProfileRecord) -> Key:
    return tuple(getattr(record, field) for field in KEY_FIELDS)


def request(**changes: Any) -> SyntheticRequest:
    fields = {"sample_id": "a", "width": 64, "height": 48, "text_tokens": 5, "max_new_tokens": 4, "seed": 0}
    return SyntheticRequest(**{**fields, **changes})


def test_every_request_setting_and_run_is_measured_once() -> None:
    the_plan = plan()
    keys = Counter(map(key, measured(the_plan)))
    assert set(keys.values()) == {1}
    assert len(keys) == 2 * 8 * 2
    assert set(keys) == set.union(*map(the_plan.keys, the_plan.requests))


def test_the_order_is_random_and_decided_by_the_seed() -> None:
    def order(seed: int) -> list[Key]:
        the_plan = plan(seed=seed)
        return [(run, req.sample_id, *settings) for run, req, settings in the_plan.blocks()]

    assert order(1) == order(1)
    assert order(1) != order(2)
    first_run, second_run = order(1)[:2], order(1)[2:]
    assert [block[0] for block in order(1)] == [0, 0, 1, 1]
    assert [block[2:] for block in first_run] != [block[2:] for block in second_run]
    in_grid_order = tuple(GRID.settings())
    assert all(block[2:] != in_grid_order and set(block[2:]) == set(in_grid_order) for block in order(1))


def test_what_is_done_is_skipped() -> None:
    the_plan = plan()
    everything = [key(record) for record in measured(the_plan)]
    rest = [key(record) for record in measured(the_plan, done=everything[:21])]
    assert rest == everything[21:]
    assert measured(the_plan, done=everything) == []


ORDER_CODE = """
from models.knobs import spread_grid
from profiling.profiler import Plan
from profiling.workload import Workload, make_requests

grid = spread_grid(16, top_k=(4, 8, 12), block_counts=(8, 12, 16))
requests = make_requests(Workload(image_sizes=((9, 9), (8, 8))))
plan = Plan(requests=requests, grid=grid, repeats=2, settings_per_request=4)
order = repr([(run_id, request.sample_id, settings) for run_id, request, settings in plan.blocks()])
"""


def test_drawn_settings_and_their_order_are_the_same_in_every_process() -> None:
    here: dict[str, str] = {}
    exec(ORDER_CODE, here)  # noqa: S102
    there = subprocess.run(
        [sys.executable, "-c", f"{ORDER_CODE}\nprint(order)"],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(profiling.__file__).parents[1])},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert there.strip() == here["order"]


def test_drawn_settings_are_the_same_in_every_run() -> None:
    records = measured(plan(settings_per_request=3))
    drawn = {key(record)[:-1] for record in records if record.run_id == 0}
    assert len(drawn) == 2 * 3
    assert {key(record)[:-1] for record in records if record.run_id == 1} == drawn


def test_more_settings_than_there_are_means_all() -> None:
    assert len(plan(settings_per_request=99).settings(request())) == 8


@pytest.mark.parametrize("tiling", ["target", "upper_bound"])
def test_token_counts_are_those_of_the_layout(tiling: Any) -> None:
    geometry = CropGeometry.from_config(golden_config("moe"))
    the_plan = plan(tiling=tiling, repeats=1)
    requests = {each.sample_id: each for each in the_plan.requests if isinstance(each, SyntheticRequest)}
    for record in measured(the_plan):
        asked = requests[record.sample_id]
        layout = image_layout(asked.height, asked.width, geometry, tier=GRID.tier(record.tier), tiling=tiling)
        assert record.num_crops == layout.num_crops
        assert record.vision_tokens == layout.num_vision_tokens
        assert record.text_tokens == 1 + layout.num_layout_tokens + asked.text_tokens
        assert record.output_tokens == asked.max_new_tokens
        assert (record.image_width, record.image_height) == (asked.width, asked.height)
        assert record.active_blocks == GRID.blocks_by_count[record.num_active_blocks]


def test_times_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    source = patch_clock(monkeypatch)
    seconds = iter([1.0, 1.5, 2.0, 2.25])
    monkeypatch.setattr("profiling.profiler.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    first, *_, last = measured(plan(requests=[request()], repeats=1))
    # Marks 1 to 10: total begins, then each of the four begins and ends, then total ends.
    assert first.vision_encoder_ms == 3**2 - 2**2
    assert first.projector_ms == 5**2 - 4**2
    assert first.prefill_ms == 7**2 - 6**2
    assert first.decode_ms == 9**2 - 8**2
    assert first.decode_per_token_ms == pytest.approx(17 / 3)
    assert first.total_ms == 10**2 - 1
    # Of eight settings the last has marks 71 to 80: warm-up runs leave none.
    assert source.num_marks == 80
    assert last.prefill_ms == 77**2 - 76**2
    assert {first.preprocess_ms, last.preprocess_ms} <= {500.0, 250.0}


def test_one_token_costs_no_decode() -> None:
    for record in measured(plan(requests=[request(max_new_tokens=1)], repeats=1)):
        assert record.decode_ms == 0
        assert record.decode_per_token_ms is None
        assert record.prefill_ms > 0


@pytest.mark.parametrize("output_tokens", [1, 2, 17])
def test_answers_are_as_long_as_asked(monkeypatch: pytest.MonkeyPatch, output_tokens: int) -> None:
    lengths: list[int] = []

    def counted(*args: Any, **options: Any) -> Generation:
        generation = generate(*args, **options)
        lengths.append(generation.token_ids.shape[1])
        return generation

    monkeypatch.setattr("profiling.profiler.generate", counted)
    measured(plan(requests=[request(max_new_tokens=output_tokens)], repeats=1))
    warm_ups = 2  # one a tier
    assert lengths == [3] * warm_ups + [output_tokens] * 8


def test_nothing_is_asked_so_nothing_is_answered() -> None:
    (record, *_) = measured(plan(requests=[request(split="held_out")], repeats=1))
    assert (record.dataset, record.split, record.image_id) == ("synthetic", "held_out", "a")
    assert (record.question, record.prediction, record.accuracy, record.metric) == (None, None, None, None)


def test_the_collector_waits_while_times_are_taken() -> None:
    def broken(_: ProfileRecord) -> None:
        assert not gc.isenabled()
        raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        profiler(plan(requests=[request()])).run(done=frozenset(), write=broken)
    assert gc.isenabled()
