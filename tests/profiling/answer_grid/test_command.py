"""Answers of a grid, from the command to the file."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

import main
from profiling.answer_grid import command
from profiling.answer_grid.asking import ask_grid
from profiling.records import read_profile
from profiling.schema import AnswerRecord, ProfileError
from tests.dataset_files import write_easy_vqa
from tests.small_vlm import write_small_snapshot

ANSWERS = Path("out/answers.parquet")
KEY = ["dataset", "split", "sample_id", "tier", "top_k", "num_active_blocks"]
DATASETS = {"suite_captions": {"train": "val"}, "easy_vqa": {"train": "test", "test": "test"}}
QUESTIONS = {"datasets": DATASETS, "num_samples": {"train": 3, "test": 1}, "root": "data"}


@pytest.fixture(autouse=True)
def _files() -> None:
    write_small_snapshot(Path("model"))
    write_easy_vqa(Path("data"), num_images=8)


def ask(questions: dict[str, Any] = QUESTIONS, **changes: Any) -> pd.DataFrame:
    inquiry = {"model": {"name": "model", "dtype": "float32"}, "questions": questions, "batch_size": 2, **changes}
    Path("answers.yaml").write_text(yaml.safe_dump({"inquiry": inquiry, "output_dir": "out"}))
    main.cli_main(["answer-grid", "--config", "answers.yaml"])
    return read_profile(ANSWERS, record=AnswerRecord).to_pandas()


def profiled() -> pd.DataFrame:
    sweep = {"model": {"name": "model", "dtype": "float32"}, "questions": QUESTIONS, "repeats": 1}
    Path("sweep.yaml").write_text(yaml.safe_dump({"sweep": sweep, "output_dir": "profile", "num_threads": 1}))
    main.cli_main(["profile", "--config", "sweep.yaml"])
    return read_profile("profile/profile.parquet").to_pandas()


def test_rows_are_those_of_the_profile_without_its_times() -> None:
    answers, profile = ask(), profiled()
    assert len(answers) == 2 * 3 * 18
    train = profile[profile["split"] == "train"]
    timed = [name for name in profile.columns if name.endswith("_ms")]
    assert answers[timed].isna().all().all()
    same = [name for name in profile.columns if name not in (*timed, "seed", "active_blocks")]
    found, expected = (rows.sort_values(KEY, ignore_index=True) for rows in (answers, train))
    pd.testing.assert_frame_equal(found[same], expected[same], check_categorical=False)
    assert found["active_blocks"].map(list).tolist() == expected["active_blocks"].map(list).tolist()
    assert len(set(found["output_tokens"])) > 1
    assert len(set(found["prediction"])) > 5


def test_a_stopped_run_goes_on_with_the_batch_it_was_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask_two(model: Any, processor: Any, batch: Any, *rest: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(batch))
        return ask_grid(model, processor, batch, *rest)

    monkeypatch.setattr(command, "ask_grid", ask_two)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert asked == [2, 1]
    assert not ANSWERS.exists()
    monkeypatch.setattr(command, "ask_grid", ask_grid)
    resumed = ask()
    monkeypatch.delattr(command, "ask_grid")
    pd.testing.assert_frame_equal(ask(), resumed)  # nothing is left to ask
    assert resumed.groupby("dataset", observed=True).size().to_dict() == dict.fromkeys(DATASETS, 54)


def test_another_inquiry_does_not_go_on_in_the_same_folder() -> None:
    questions = {"datasets": {"suite_facts": {"train": "val"}}, "num_samples": {"train": 1}}
    ask(questions)
    with pytest.raises(ValueError, match=r"out/answers.json describes results of another batch_size"):
        ask(questions, batch_size=3)


def test_the_file_says_which_weights_answered_and_is_no_profile() -> None:
    ask({"datasets": {"suite_facts": {"train": "val"}}, "num_samples": {"train": 1}})
    environment = read_profile(ANSWERS, record=AnswerRecord).environment
    assert environment.model_shape == json.loads(Path("model/config.json").read_text())
    assert environment.weights_digest is not None
    assert (environment.engine, environment.dtype) == ("eager", "float32")
    with pytest.raises(ProfileError, match=r"records\[0\]: vision_encoder_ms: required field is missing"):
        read_profile(ANSWERS)


def test_pictures_of_several_sizes_are_refused() -> None:
    for side in (64, 80):
        Image.new("RGB", (side, 64), "red").save(f"{side}.png")
    lines = [{"image": f"{side}.png", "question": "what color is it?", "answers": ["red"]} for side in (64, 80)]
    Path("mine.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    questions = {"datasets": {"mine.jsonl": {"train": "all"}}, "num_samples": {"train": 2}}
    with pytest.raises(ValueError, match=r"mine: pictures must be of one size .* got .*\(64, 64\) and \(80, 64\)"):
        ask(questions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"part": "calibration"}, "part: no dataset of the questions has a part 'calibration'"),
    ],
)
def test_impossible_inquiries_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(**changes)
