"""The configs of the ``profile`` command: each lays out what its comment promises."""

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import auto_parser

import main
from profiling.suite.families import FAMILIES
from profiling.sweep import Sweep, profile
from profiling.workload import make_requests

ROOT = Path(main.__file__).parent
CONFIGS = ("cpu", "h200", "h200_graph", "h200_held_out", "h200_other_host", "h200_router_skew")
QUESTION_CONFIGS = ("nano_cpu", "nano_h200")
LAID_OVER = {"h200_other_host": "h200_held_out", "h200_graph": "h200"}  # a config that needs another one below it


def config_of(name: str) -> Any:
    parser = auto_parser(profile, as_positional=False)
    names = [LAID_OVER[name], name] if name in LAID_OVER else [name]
    files = [str(ROOT / "configs" / "profile" / f"{name}.yaml") for name in names]
    return parser.instantiate_classes(parser.parse_args([word for file in files for word in ("--config", file)]))


def test_every_config_is_built_here() -> None:
    assert {path.stem for path in (ROOT / "configs" / "profile").glob("*.yaml")} == {*CONFIGS, *QUESTION_CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_lays_out_a_plan(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(ROOT)  # where models named by a path are found
    config = config_of(name)
    assert isinstance(config.sweep, Sweep)
    plan = config.sweep.plan()
    assert plan.requests
    assert plan.settings(plan.requests[0])
    assert config.sweep.model.random_weights
    assert config.output_dir == Path("runs/profile") / name


@pytest.mark.parametrize("name", QUESTION_CONFIGS)
def test_profiles_of_the_trained_model_ask_what_it_was_not_trained_on(name: str) -> None:
    config = config_of(name)
    questions = config.sweep.questions
    assert set(questions.datasets) == {*(f"suite_{family}" for family in FAMILIES), "easy_vqa"}
    assert all(set(splits) == {"train", "calibration", "test"} for splits in questions.datasets.values())
    assert not any("train" in splits.values() for splits in questions.datasets.values())
    num_samples = {part: 8 * number for part, number in questions.num_samples.items()}
    assert num_samples["calibration"] >= 299  # enough to promise 99 % in time
    assert sum(num_samples.values()) >= 1000
    assert config.output_dir == Path("runs/profile") / name


def test_devices_are_asked_the_same_questions() -> None:
    cpu, h200 = (config_of(name).sweep for name in QUESTION_CONFIGS)
    assert cpu.questions.datasets == h200.questions.datasets
    assert (cpu.questions.seed, cpu.model.name) == (h200.questions.seed, h200.model.name)


def test_the_shipped_profile_is_as_large_and_varied_as_promised() -> None:
    the_sweep = config_of("h200").sweep
    plan = the_sweep.plan()
    assert len(plan.requests) == 72
    assert {len(plan.settings(request)) for request in plan.requests} == {75}
    assert the_sweep.repeats >= 3
    assert sum(len(plan.keys(request)) for request in plan.requests) == 72 * 75 * the_sweep.repeats >= 15_000
    sizes = set(the_sweep.workload.image_sizes)
    assert len(sizes) >= 12
    assert len({width / height for width, height in sizes}) >= 11
    for lengths, fewest, most in (
        ([request.text_tokens for request in plan.requests], 10, 600),
        ([request.max_new_tokens for request in plan.requests], 1, 64),
    ):
        assert min(lengths) == fewest
        assert 0.9 * most < max(lengths) <= most


@pytest.mark.parametrize("name", ["h200_held_out", "h200_other_host"])
def test_a_held_out_profile_shares_no_image_and_has_settings_of_its_own(name: str) -> None:
    trained, held_out = config_of("h200").sweep, config_of(name).sweep
    assert not set(trained.workload.image_sizes) & set(held_out.workload.image_sizes)
    samples = [{request.sample_id for request in make_requests(each.workload)} for each in (trained, held_out)]
    assert not samples[0] & samples[1]
    assert set(held_out.levels.top_k) - set(trained.levels.top_k) == {5, 7, 9, 11}
    assert set(held_out.levels.num_active_blocks) - set(trained.levels.num_active_blocks) == {9, 11, 13, 15}
    assert trained.model == held_out.model
    assert trained.tiling == held_out.tiling
