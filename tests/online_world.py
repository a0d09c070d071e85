"""A small model, questions that it answers differently at different settings, and a profile with what it is worth."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.generation import generate
from models.knobs import KnobSetting, spread_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.controllers.online_answers import AnswerSource
from profiling.datasets.catalogue import dataset_entry, read_dataset
from profiling.datasets.sample import Sample
from profiling.records import write_profile
from tests.block_models import write_block_model
from tests.controller_world import ENVIRONMENT, world_rows, world_table

GRID = spread_grid(2, top_k=(1,), block_counts=(1, 2))
NUM_SAMPLES = 14
_PARTS = ["train"] * 8 + ["val", "calibration", "test"] * 2
_SIZES = ((80, 40), (60, 100))
_ASKED = ("what is it", "what color is the thing", "how many things are there")


@dataclass(frozen=True, kw_only=True)
class OnlineWorld:
    """Where the world is: the profile, and what answers its questions again."""

    profile: str
    source: AnswerSource


def write_online_world(folder: Path) -> OnlineWorld:
    """Write the world, in parts. Right answers are what the model says at two settings; latencies follow a law."""
    model = write_block_model(folder / "model", 2)
    questions = folder / "mine.jsonl"
    _write_questions(questions, [[]] * NUM_SAMPLES)
    said_NS = _said(str(model), read_dataset(str(questions)), dataset_entry(str(questions)).max_new_tokens)
    _write_questions(questions, [[said_S[n % 6], said_S[(n + 3) % 6]] for n, said_S in enumerate(said_NS)])
    rows = world_rows(num_images=NUM_SAMPLES, per_image=1, runs=1, grid=GRID)
    samples = read_dataset(str(questions))
    of_row = [samples[n] for n in rows["sample"]]
    said = [said_NS[n][s] for n, s in zip(rows["sample"], rows["setting"], strict=True)]
    rows = rows.assign(
        dataset=questions.stem,
        split=[_PARTS[n] for n in rows["sample"]],
        sample_id=[sample.sample_id for sample in of_row],
        image_id=[sample.image_id for sample in of_row],
        question=[sample.question for sample in of_row],
        accuracy=[float(answer in sample.answers) for answer, sample in zip(said, of_row, strict=True)],
    )
    environment = ENVIRONMENT.model_copy(update={"model_shape": read_hf_config(model)})
    write_profile(world_table(rows, environment=environment), folder / "online.parquet")
    source = AnswerSource(snapshot=str(model), json_lines=[str(questions)], batch_size=4)
    return OnlineWorld(profile=str(folder / "online.parquet"), source=source)


def _write_questions(path: Path, answers_N: list[list[str]]) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for n, answers in enumerate(answers_N):
        width, height = _SIZES[n % 2]
        pixels = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path.with_name(f"{n}.png"))
        lines.append({"id": f"q{n}", "image": f"{n}.png", "question": _ASKED[n % 3], "answers": answers})
    path.write_text("\n".join(map(json.dumps, lines)))


def _said(snapshot: str, samples: list[Sample], max_new_tokens: int) -> list[list[str]]:
    """Answer each question alone, as a profile is measured, at every setting."""
    model = load_molmo(snapshot)
    tokenizer, special_tokens = load_tokenizer(snapshot_directory(snapshot))
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    return [
        [_answer(model, processor, sample, setting, max_new_tokens) for setting in GRID.settings()]
        for sample in samples
    ]


def _answer(model: Molmo, processor: MolmoProcessor, sample: Sample, setting: KnobSetting, max_new_tokens: int) -> str:
    inputs = processor(sample.question, sample.image.open(), tier=GRID.tier(setting.tier))
    stop = (processor.special_tokens.eos_id,)
    generation = generate(model, inputs, setting=setting, max_new_tokens=max_new_tokens, stop_token_ids=stop)
    return processor.decode(generation.token_ids[0].tolist())
