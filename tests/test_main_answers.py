"""From a few timed questions and many answered ones to a trained controller, on the command line."""

from pathlib import Path

import numpy as np
import yaml

import main
from profiling.controllers.feature_file import read_feature_file
from profiling.records import read_profile
from tests.estimator_world import write_estimator
from tests.small_vlm import write_small_snapshot

CONFIGS = Path(main.__file__).parent / "configs"
MODEL = {"name": "model", "dtype": "float32"}
DATASETS = {"suite_facts": {"train": "val", "calibration": "calibration", "test": "test"}}


def command(name: str, **arguments: object) -> None:
    Path("arguments.yaml").write_text(yaml.safe_dump(arguments))
    main.cli_main([name, "--config", "arguments.yaml"])


def features(files: list[str], output: str) -> str:
    command("controller-features", model="model", files=files, output=output)
    return output


def test_a_controller_learns_from_answers_that_were_never_timed() -> None:
    write_small_snapshot(Path("model"))
    few, more = ({"datasets": DATASETS, "num_samples": {"train": n, "calibration": 1, "test": 1}} for n in (4, 9))
    command("profile", sweep={"model": MODEL, "questions": few, "repeats": 1}, output_dir="profile")
    command("answer-grid", inquiry={"model": MODEL, "questions": more}, output_dir="answers")
    profile, answers = "profile/profile.parquet", "answers/answers.parquet"
    arguments = {
        "files": [profile],
        "features": [features([profile], "few.safetensors"), features([answers], "more.safetensors")],
        "estimator": write_estimator(profile, device=read_profile(profile).environment.device),
        "answers": [answers],
        "train_fraction": 0.5,
        "val_fraction": 0.5,
    }
    Path("data.yaml").write_text(yaml.safe_dump({"data": {"init_args": arguments}}))
    configs = [
        CONFIGS / "supervised_controller/default.yaml",
        CONFIGS / "trainer/quiet.yaml",
        CONFIGS / "feedback/estimated_latency.yaml",
        Path("data.yaml"),
    ]
    words = [word for config in configs for word in ("--config", str(config))]
    cli = main.cli_main([*words, "--trainer.fast_dev_run=true"], run=False)
    assert cli is not None
    assert len(read_feature_file("more.safetensors").samples) == 9
    data = cli.datamodule
    num_val = len(data.parts["val"])
    assert len(data.parts["train"]) + num_val == 4
    assert len(data.taught) == 9 - num_val
    assert np.isfinite(data.taught.outcomes.latency_ms_NS).all()
    cli.trainer.fit(cli.model, datamodule=data)
    assert cli.trainer.global_step == 1
