"""Where rewards come from, switched on the command line."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import main
from profiling.checkpoint_file import load_estimator
from tests.estimator_world import write_estimator
from tests.online_world import write_online_world

CONFIGS = Path(main.__file__).parent / "configs"


def test_both_switches_train_and_the_online_one_says_what_was_run(caplog: pytest.LogCaptureFixture) -> None:
    world = write_online_world(Path.cwd())
    estimator = write_estimator(world.profile)
    arguments = {"files": [world.profile], "features": None, "batch_size": 4}
    small = {
        "trainer": {"max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False, "callbacks": None},
        "data": {"init_args": {**arguments, "estimator": estimator, "online": asdict(world.source)}},
    }
    Path("small.yaml").write_text(yaml.safe_dump(small))
    configs = [
        CONFIGS / "two_stage_controller/original.yaml",
        CONFIGS / "feedback/online.yaml",
        CONFIGS / "feedback/estimated_latency.yaml",
        Path("small.yaml"),
    ]
    words = [word for config in configs for word in ("--config", str(config))]
    cli = main.cli_main([*words, "--observers=[]"], run=False)
    assert cli is not None
    assert cli.datamodule.online == world.source
    assert cli.datamodule.estimator == estimator
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert cli.trainer.global_step == 2
    answers = cli.datamodule.online_answers
    assert 0 < answers.num_run <= 48
    assert f"online: {answers.num_run} answers were run, {answers.num_remembered} remembered" in caplog.text


def test_what_the_shipped_switches_name_is_shipped() -> None:
    def arguments(name: str) -> dict[str, Any]:
        known: dict[str, Any] = yaml.safe_load((CONFIGS / "feedback" / name).read_text())["data"]["init_args"]
        return known

    snapshot = arguments("online.yaml")["online"]["snapshot"]
    assert (CONFIGS.parent / snapshot / "model.safetensors").is_file()
    estimator = load_estimator(str(CONFIGS.parent / arguments("estimated_latency.yaml")["estimator"]))
    assert estimator.devices == ("AMD EPYC",)
