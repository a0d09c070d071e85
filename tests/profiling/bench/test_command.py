import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import auto_parser

import main
from models.config import MolmoConfig
from profiling.bench.cells import Benchmark, Cell, StagePlan
from profiling.bench.command import CONTESTANTS, bench
from profiling.bench.hardware import HardwareProbe
from profiling.bench.log import BenchLog
from profiling.bench.runner import Outcome
from profiling.model_source import ModelSource
from tests.helpers import GOLDEN
from tests.patched_clock import patch_clock

ROOT = Path(main.__file__).parent
OUT = Path("out")
PROBE = HardwareProbe(copy_mib=1, matmul_size=16, warmup=0, repeats=1)
pytestmark = pytest.mark.usefixtures("tiny_model_folder")


def plan(size: int, *contestants: str, **changes: int) -> StagePlan:
    return StagePlan(sizes=(size,), contestants=contestants, **{"warmup": 1, "rounds": 2, "repeats": 1, **changes})


def benchmark(**changes: Any) -> Benchmark:
    fields: dict[str, Any] = {
        "model": ModelSource(name="tiny", random_weights=True, dtype="float32"),
        "prefill": plan(6, "ours_eager", "stock_eager", "stock_grouped_mm"),
        "decode": plan(5, "ours_eager", "stock_batched_mm", "stock_compiled"),
        "vision": plan(1, "ours_eager", "stock_eager"),
        "request": plan(1, "ours_eager", "stock_grouped_mm"),
        "text_tokens": 3,
        "output_tokens": 2,
        "top_k": (2, 3),
        "num_active_blocks": (2,),
        "hardware": PROBE,
    }
    return Benchmark(**{**fields, **changes})


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (OUT / "cells.jsonl").read_text().splitlines()]


def report() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OUT / "bench.json").read_text())
    return content


class Stop(BaseException):
    """Ends a run in the middle, as nothing in it expects."""


def run_until(num_cells: int, error: type[BaseException] = Stop) -> None:
    """Start the benchmark and let it fail once so many cells are written."""
    write, left = BenchLog.write_cell, [num_cells]

    def limited(self: BenchLog, cell: Cell, outcomes: Mapping[str, Outcome]) -> None:
        if not left[0]:
            raise error
        left[0] -= 1
        write(self, cell, outcomes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BenchLog, "write_cell", limited)
        with pytest.raises(error):
            bench(benchmark(), OUT)


def test_every_cell_has_every_contestant_with_samples_or_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    bench(benchmark(), OUT)
    assert sorted(path.name for path in OUT.iterdir()) == ["bench.json", "bench.md", "cells.jsonl"]
    content = report()
    where = [(cell["stage"], cell["top_k"], cell["num_active_blocks"]) for cell in content["cells"]]
    stages = ("prefill", "decode", "request")
    assert where == [("vision", None, None), *((stage, top_k, 2) for top_k in (2, 3) for stage in stages)]
    for cell in content["cells"]:
        assert list(cell["contestants"]) == list(content["benchmark"][cell["stage"]]["contestants"])
        for name, contestant in cell["contestants"].items():
            if name == "stock_compiled":
                assert contestant == {"left_out": "reduce-overhead is CUDA graphs, which need a CUDA device"}
                continue
            assert contestant["summary_ms"]["count"] == len(contestant["samples_ms"]) == 2
            assert contestant["difference"] is None or contestant["difference"] < 1e-4
    assert content["environment"]["torch"] == torch.__version__
    assert content["environment"]["model"] == "tiny"
    assert "engine" not in content["environment"]
    printed = capsys.readouterr().out
    assert "7 cells, 0 done before, into out" in printed
    assert "Decode, one token: left out of 2 cells: stock_compiled: reduce-overhead" in printed
    page = (OUT / "bench.md").read_text()
    for title in ("Prefill", "Decode, one token", "Vision encoder", "Whole request, 3 text tokens, 2 output tokens"):
        assert f"## {title}\n" in page
        assert f"\n{title} " in printed


def test_the_figures_follow_from_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_clock(monkeypatch)
    only = benchmark(prefill=None, vision=None, request=None, top_k=(3,))
    bench(only, OUT)
    (cell,) = report()["cells"]
    # Run number n of the patched clock takes 4 n - 1 ms: 1, 2 and 7, 8 measure the device, 3 to 6 the contestants.
    ours, stock = cell["contestants"]["ours_eager"], cell["contestants"]["stock_batched_mm"]
    assert ours["samples_ms"] == [11, 23]
    assert stock["samples_ms"] == [15, 19]
    hardware = report()["hardware"]
    assert hardware == {
        "bandwidth_bytes_per_s": pytest.approx(2 * 2**20 / 0.003),
        "flops_per_s": pytest.approx(2 * 16**3 / 0.007),
    }
    assert ours["times_floor"] == cell["ours_over_floor"] == pytest.approx(17 / cell["floor_ms"])
    assert cell["stock_over_floor"] == pytest.approx(17 / cell["floor_ms"])
    assert cell["ours_over_stock"] == 1


def test_a_stopped_run_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    run_until(3)
    before = lines()
    assert ["hardware" in line for line in before] == [False, True, False, False, False]
    with (OUT / "cells.jsonl").open("a") as file:
        file.write('{"cell": {"sta')  # as a kill in the middle of a line leaves it
    bench(benchmark(), OUT)
    after = lines()
    assert after[:5] == before
    assert "hardware" in after[5]
    assert len(after) == 6 + 4 + 1
    assert len(report()["cells"]) == 7
    assert report()["hardware"]["flops_per_s"] == max(after[i]["hardware"]["flops_per_s"] for i in (1, 5, 10))
    assert "7 cells, 3 done before" in capsys.readouterr().out


def test_an_interrupt_keeps_the_cells_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run_until(2, KeyboardInterrupt)
    assert "interrupted: finished cells are kept, the same command goes on" in capsys.readouterr().out
    assert len(lines()) == 4


def test_a_finished_run_measures_nothing_again_and_needs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bench(benchmark(), OUT)
    before, first = (OUT / "cells.jsonl").read_bytes(), report()
    monkeypatch.delattr(ModelSource, "load")
    bench(benchmark(), OUT)
    assert (OUT / "cells.jsonl").read_bytes() == before
    assert report() == first


def test_another_benchmark_or_place_in_the_folder_is_refused_and_nothing_changes() -> None:
    bench(benchmark(), OUT)
    before = {path: path.read_bytes() for path in OUT.iterdir()}
    with pytest.raises(ValueError, match=r"cells.jsonl is of another benchmark \(prefill, top_k differ\)"):
        bench(benchmark(prefill=None, top_k=(2,)), OUT)
    config = json.loads(Path("tiny/config.json").read_text())
    Path("tiny/config.json").write_text(json.dumps({**config, "moe_num_experts": 4}))
    with pytest.raises(ValueError, match=r"was measured with model_shape .* and this run has .*; give another folder"):
        bench(benchmark(), OUT)
    assert {path: path.read_bytes() for path in OUT.iterdir()} == before


def test_another_commit_is_allowed_and_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("profiling.environment.git_commit", lambda _: "old")
    run_until(1)
    monkeypatch.setattr("profiling.environment.git_commit", lambda _: "new")
    bench(benchmark(), OUT)
    assert "continuing a run of commit old with commit new" in caplog.text
    assert report()["environment"]["commit"] == "old"


def test_two_runs_do_not_write_to_one_folder() -> None:
    OUT.mkdir()
    with BenchLog(OUT / "cells.jsonl", {}, {}), pytest.raises(ValueError, match="another run is writing to out/cells"):
        bench(benchmark(), OUT)


def test_a_damaged_file_is_refused_by_its_line() -> None:
    run_until(1)
    with (OUT / "cells.jsonl").open("a") as file:
        file.write('{"something": "else"}\n')
    with pytest.raises(ValueError, match=r"out/cells.jsonl: line 4: not a line of a benchmark \(KeyError\('cell'\)\)"):
        bench(benchmark(), OUT)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"top_k": (99,)}, {}, "top_k: must be 1 to 8"),
        ({"vision": plan(1, "stock_egaer")}, {}, "vision.contestants: must be of ours_eager, .* got 'stock_egaer'"),
        ({"model": ModelSource(name="nowhere")}, {}, "'nowhere' is neither a directory nor a hub id"),
        ({}, {"num_threads": 0}, "num_threads: must be 1 or more, got 0"),
        ({}, {"device": "cuda"}, "this machine has no CUDA device"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        bench(benchmark(**changes), OUT, **options)
    assert not OUT.exists()


def test_a_dense_model_is_measured_without_stock() -> None:
    Path("tiny/config.json").write_text((GOLDEN / "dense" / "config.json").read_text())
    bench(benchmark(decode=None, vision=None, request=None, top_k=(0,)), OUT)
    (cell,) = report()["cells"]
    assert cell["ours_over_stock"] is None
    assert cell["ours_over_floor"] > 0
    assert cell["contestants"]["stock_eager"]["left_out"].endswith("this model is dense")


def test_a_single_sample_has_no_spread() -> None:
    once = plan(4, "ours_eager", rounds=1)
    bench(benchmark(prefill=once, decode=None, vision=None, request=None), OUT)
    summary = report()["cells"][0]["contestants"]["ours_eager"]["summary_ms"]
    assert summary["count"] == 1
    assert summary["std"] is None


def test_the_command_line_runs_it(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {
        "benchmark": {
            "model": {"name": "tiny", "random_weights": True, "dtype": "float32"},
            "top_k": [2],
            "num_active_blocks": [2],
            "vision": {"sizes": [1], "contestants": ["ours_eager"], "rounds": 1, "repeats": 1, "warmup": 1},
            "hardware": {"copy_mib": 1, "matmul_size": 16},
        },
        "output_dir": "out",
        "num_threads": 1,
    }
    Path("bench.yaml").write_text(yaml.safe_dump(fields))
    main.cli_main(["bench", "--config", "bench.yaml", "--benchmark.hardware.repeats", "2"])
    assert [cell["stage"] for cell in report()["cells"]] == ["vision"]
    assert report()["benchmark"]["hardware"]["repeats"] == 2
    assert "wrote out/bench.json and out/bench.md" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["engine_cpu", "engine_h200"])
def test_every_config_fits_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parser = auto_parser(bench)
    config = parser.parse_object(yaml.safe_load((ROOT / "configs" / "bench" / f"{name}.yaml").read_text()))
    arguments = parser.instantiate_classes(config)
    whole: Benchmark = arguments.benchmark
    whole.check(MolmoConfig.from_hf(whole.model.hf_config()), list(CONTESTANTS))
    assert len(whole.cells()) == {"engine_cpu": 3 + 4 * 5, "engine_h200": 4 + 9 * 8}[name]
    assert all(stage_plan.warmup >= 3 or name == "engine_cpu" for stage_plan in whole.plans().values())


def test_a_mistake_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--benchmark.model.name", "nowhere", "--output_dir", "out"]
    stage = '--benchmark.vision={"sizes": [1], "contestants": ["ours_eager"]}'
    monkeypatch.setattr("sys.argv", ["main.py", *arguments, stage])
    assert main.main() == 1
    assert re.fullmatch(r"error: model: 'nowhere' is neither .*\n", capsys.readouterr().err)


def test_a_changed_probe_is_another_benchmark() -> None:
    bench(benchmark(), OUT)
    with pytest.raises(ValueError, match=r"another benchmark \(hardware differ\)"):
        bench(replace(benchmark(), hardware=replace(PROBE, repeats=2)), OUT)
