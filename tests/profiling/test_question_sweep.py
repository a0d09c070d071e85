"""Profiles of questions, from the command to the file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

import main
from models.checkpoint import load_molmo, read_hf_config
from models.generation import generate
from models.knobs import KnobGrid, own_grid
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.answers import answer_batch, score_answers
from profiling.datasets.catalogue import read_dataset
from profiling.datasets.sample import Sample
from profiling.records import read_profile
from profiling.sample_batches import FamilyBatches, SampleText
from profiling.sweep_workers import Worker
from tests.small_vlm import write_small_snapshot

PROFILE = Path("out/profile.parquet")
KNOBS = ["tier", "top_k", "num_active_blocks"]


@pytest.fixture(autouse=True)
def _snapshot() -> None:
    write_small_snapshot(Path("model"))


def measure(questions: dict[str, Any], **changes: Any) -> pd.DataFrame:
    sweep = {"model": {"name": "model", "dtype": "float32"}, "questions": questions, "repeats": 1, **changes}
    Path("sweep.yaml").write_text(yaml.safe_dump({"sweep": sweep, "output_dir": "out", "num_threads": 1}))
    main.cli_main(["profile", "--config", "sweep.yaml"])
    return read_profile(PROFILE).to_pandas()


def grid() -> KnobGrid:
    found = own_grid(read_hf_config(Path("model")))
    assert found is not None
    return found


def answers(samples: list[Sample]) -> pd.DataFrame:
    """What evaluate-vlm answers and scores: all samples at once."""
    model = load_molmo("model")
    tokenizer, special_tokens = load_tokenizer("model")
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    rows = []
    for batch in FamilyBatches(samples, SampleText(tokenizer, special_tokens), 99):
        for setting in grid().settings():
            texts = answer_batch(model, processor, batch, setting, grid())
            for sample, text, score in zip(batch.samples, texts, score_answers(texts, batch.samples), strict=True):
                knobs = (setting.tier, setting.top_k, setting.num_active_blocks)
                rows.append((sample.sample_id, *knobs, text, score.value, score.name.value))
    return pd.DataFrame(rows, columns=["sample_id", *KNOBS, "prediction", "accuracy", "metric"])


def test_answers_and_scores_are_those_of_the_evaluation() -> None:
    datasets = {"suite_counting": {"test": "test"}, "suite_choice": {"test": "test", "train": "val"}}
    records = measure({"datasets": datasets, "num_samples": {"test": 2, "train": 1}})
    assert len(records) == 5 * 18
    assert set(records["split"]) == {"test", "train"}
    samples = [s for name in datasets for s in read_dataset(name, "test", num_samples=2)]
    samples += read_dataset("suite_choice", "val", num_samples=1)
    expected = answers(samples)
    order = ["sample_id", *KNOBS]
    found = records[expected.columns].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected.sort_values(order, ignore_index=True), check_dtype=False)
    assert set(found["metric"]) == {"exact_match_number_words", "multiple_choice"}
    assert found["prediction"].nunique() > 5


def test_a_record_says_what_was_asked_and_how_long_the_answer_was() -> None:
    records = measure({"datasets": {"suite_captions": {"test": "test"}}, "num_samples": {"test": 1}})
    (sample,) = read_dataset("suite_captions", "test", num_samples=1)
    for field, value in (("question", sample.question), ("image_id", sample.image_id), ("dataset", "suite_captions")):
        assert set(records[field]) == {value}
    assert set(records["image_width"]) == set(records["image_height"]) == {192}
    assert set(records.groupby("tier")["vision_tokens"].first()) == {32, 80, 160}
    assert records["output_tokens"].between(1, 24).all()
    assert (records["preprocess_ms"] > 0).all()
    parts = records[["vision_encoder_ms", "projector_ms", "prefill_ms", "decode_ms"]].sum(axis=1)
    assert (records["total_ms"] >= parts).all()


def test_an_answer_ends_at_the_end_token_and_is_scored_by_its_own_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    (sample,) = read_dataset("suite_scenes", "test", num_samples=1)
    sample.image.open().save("scene.png")
    model = load_molmo("model")
    tokenizer, special_tokens = load_tokenizer("model")
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    inputs = processor(sample.question, sample.image.open(), tier=grid().tier("high"))
    ids = generate(model, inputs, max_new_tokens=2).token_ids[0].tolist()
    first = processor.decode(ids[:1])
    # From now on an answer ends where the full setting's second token comes.
    ending = replace(special_tokens, eos_id=ids[1])
    monkeypatch.setattr("profiling.model_source.load_tokenizer", lambda _: (tokenizer, ending))
    line = {"image": "scene.png", "question": sample.question, "answers": [first]}
    Path("mine.jsonl").write_text(json.dumps(line) + "\n")
    records = measure({"datasets": {"mine.jsonl": {"test": "all"}}, "num_samples": {"test": 1}})
    full = records.query("tier == 'high' and top_k == 2 and num_active_blocks == 3").iloc[0]
    assert (full["output_tokens"], full["prediction"], full["accuracy"]) == (2, first, 1.0)
    assert full["decode_per_token_ms"] == full["decode_ms"]
    right = records["prediction"] == first
    assert records["accuracy"].tolist() == right.astype(float).tolist()
    assert not right.all()


def test_a_finished_profile_measures_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = {"datasets": {"suite_facts": {"train": "val", "test": "test"}}, "num_samples": {"train": 1, "test": 1}}
    first = measure(questions, settings_per_request=3, repeats=2)
    assert len(first) == 2 * 3 * 2
    runs = first.groupby(["sample_id", *KNOBS])["prediction"].nunique()
    assert len(runs) == 6
    assert (runs == 1).all()
    lines = Path("out/measurements-0.jsonl").read_text().splitlines(keepends=True)
    Path("out/measurements-0.jsonl").write_text("".join(lines[:-4]))
    again = measure(questions, settings_per_request=3, repeats=2)
    assert len(again) == 12
    kept = ["sample_id", *KNOBS, "run_id", "total_ms"]
    pd.testing.assert_frame_equal(again[kept][:8], first[kept][:8])
    monkeypatch.delattr(Worker, "run")
    pd.testing.assert_frame_equal(measure(questions, settings_per_request=3, repeats=2), again)


def test_samples_of_the_same_name_are_told_apart_by_their_dataset() -> None:
    Image.new("RGB", (64, 40), "red").save("red.png")
    line = {"image": "red.png", "question": "what color is it?", "answers": ["red"]}
    for name in ("one", "two"):
        Path(f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    datasets = {"one.jsonl": {"test": "all"}, "two.jsonl": {"test": "all"}}
    questions = {"datasets": datasets, "num_samples": {"test": 1}}
    records = measure(questions, settings_per_request=2)
    assert records.groupby(["dataset", "sample_id"]).size().to_dict() == {("one", "1"): 2, ("two", "1"): 2}


def test_a_broken_picture_is_named() -> None:
    Path("bad.png").write_text("no picture")
    line = {"image": "bad.png", "question": "what is this?", "answers": ["star"]}
    Path("mine.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=r"bad.png: cannot be decoded as an image"):
        measure({"datasets": {"mine.jsonl": {"test": "all"}}, "num_samples": {"test": 1}})


def test_a_model_without_a_tokenizer_cannot_be_asked() -> None:
    Path("model/tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"model: tokenizer.json is missing"):
        measure({"datasets": {"suite_facts": {"test": "test"}}, "num_samples": {"test": 1}})
