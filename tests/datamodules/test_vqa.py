import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from lightning import LightningModule, Trainer

from datamodules.vqa import OnBadImage, VQADataModule
from main import cli_main
from models.inputs import collate
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.datasets.catalogue import dataset_entry
from profiling.datasets.image_split import Part
from profiling.datasets.prompt import prompt_text
from profiling.vqa_batch import VQABatch
from tests.dataset_files import (
    coco_path,
    write_all,
    write_coco_2014_vqa,
    write_coco_caption,
    write_easy_vqa,
    write_image,
    write_mmmu,
    write_okvqa,
    write_tally_qa,
    write_text_vqa,
)
from tests.helpers import golden_config, write_golden_tokenizer

FEW_WORKERS = pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")


@pytest.fixture
def root(tmp_path: Path) -> str:
    write_easy_vqa(tmp_path, num_images=30)
    return str(tmp_path)


def _easy(root: str, **arguments: Any) -> VQADataModule:
    return VQADataModule(["easy_vqa"], root=root, **arguments)


def _ids(batches: Sequence[VQABatch]) -> list[str]:
    return [sample.sample_id for batch in batches for sample in batch.samples]


def test_batches_hold_questions_and_their_images(root: str) -> None:
    for number in range(30):
        write_image(Path(root) / f"easy_vqa/data/test/images/{number}.png", size=(number + 1, 2))
    batches = list(_easy(root, batch_size=8).predict_dataloader())
    assert [len(batch) for batch in batches] == [8] * 7 + [4]
    assert _ids(batches) == [str(number) for number in range(60)]
    for batch in batches:
        for sample, image in zip(batch.samples, batch.images, strict=True):
            assert image.size == (int(sample.sample_id) // 2 + 1, 2)
            assert image.mode == "RGB"


def test_workers_decode_what_this_process_would(root: str) -> None:
    here, there = (list(_easy(root, batch_size=7, num_workers=n).predict_dataloader()) for n in (0, 2))
    assert [batch.samples for batch in here] == [batch.samples for batch in there]
    assert all(
        one.tobytes() == other.tobytes()
        for mine, theirs in zip(here, there, strict=True)
        for one, other in zip(mine.images, theirs.images, strict=True)
    )


def test_every_sample_is_in_one_part_and_every_image_too(root: str) -> None:
    data = _easy(root)
    parts = [data.parts[part] for part in get_args(Part)]
    assert all(parts)
    assert sorted(sample.sample_id for part in parts for sample in part) == sorted(s.sample_id for s in data.samples)
    images = [{sample.image_id for sample in part} for part in parts]
    assert len(set.union(*images)) == sum(map(len, images))


def _write_many_coco_questions(root: Path) -> None:
    """Ask twice about each of forty images of COCO, in each of four datasets that know them by different names."""
    for write in (write_coco_2014_vqa, write_okvqa, write_coco_caption, write_tally_qa):
        write(root)
    numbers = range(100, 140)
    questions = [
        {"image_id": number, "question": "What?", "question_id": 10 * number + i} for number in numbers for i in (0, 1)
    ]
    answers = [{"answer": "a", "raw_answer": "a", "answer_id": 1, "answer_confidence": "yes"}]
    annotations = {"annotations": [question | {"answers": answers} for question in questions]}
    captions = [
        {"image_id": question["image_id"], "id": question["question_id"], "caption": "A."} for question in questions
    ]
    counts = [
        {"image": image, "answer": 1, "data_source": "amt", "question": "How many?", "image_id": 0, "question_id": i}
        for i, image in enumerate(
            [f"val2014/COCO_val2014_{number:012}.jpg" for number in numbers[:20]]
            + [f"VG_100K/{number}.jpg" for number in numbers[20:]]
        )
    ]
    files = {
        "coco_2014_vqa/v2_OpenEnded_mscoco_val2014_questions.json": {"questions": questions},
        "coco_2014_vqa/v2_mscoco_val2014_annotations.json": annotations,
        "okvqa/OpenEnded_mscoco_val2014_questions.json": {"questions": questions},
        "okvqa/mscoco_val2014_annotations.json": annotations,
        "coco_caption/captions_val2014.json": {"images": [{"id": n} for n in numbers], "annotations": captions},
        "tally_qa/test.json": counts,
        # Visual Genome numbers its images in its own way; here the twin has the same number.
        "visual_genome/image_data.json": [{"image_id": number, "coco_id": number} for number in numbers],
    }
    for name, content in files.items():
        (root / name).write_text(json.dumps(content))


COCO_DATASETS = ["coco_2014_vqa", "okvqa", "coco_caption", "tally_qa"]


@pytest.mark.parametrize("seed", range(3))
def test_no_image_is_in_two_parts_over_datasets_that_share_images(tmp_path: Path, seed: int) -> None:
    _write_many_coco_questions(tmp_path)
    data = VQADataModule(COCO_DATASETS, root=str(tmp_path), seed=seed, val_fraction=0.2)
    images = {part: {sample.image_id for sample in samples} for part, samples in data.parts.items()}
    assert set.union(*images.values()) == {f"coco/{number}" for number in range(100, 140)}
    assert sum(map(len, images.values())) == 40
    assert min(map(len, images.values())) >= 1
    for samples in data.parts.values():
        assert {sample.dataset for sample in samples} == set(COCO_DATASETS)


def test_reading_another_dataset_or_fewer_samples_moves_no_image(tmp_path: Path) -> None:
    _write_many_coco_questions(tmp_path)

    def part_by_image(names: list[str], **arguments: Any) -> dict[str, str]:
        data = VQADataModule(names, root=str(tmp_path), **arguments)
        return {sample.image_id: part for part, samples in data.parts.items() for sample in samples}

    both = part_by_image(["okvqa", "coco_caption"])
    assert part_by_image(["coco_caption"]) == both
    fewer = part_by_image(["okvqa"], num_samples=9)
    assert fewer.items() <= both.items()
    assert part_by_image(["okvqa"], seed=1) != both


def test_families_of_the_suite_are_read_like_other_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLMO_DATA_DIR", raising=False)
    data = VQADataModule(
        ["suite_scenes", "suite_choice"], splits={"suite_choice": "calibration"}, num_samples=40, batch_size=30
    )
    assert [(s.dataset, s.split) for s in data.samples] == [("suite_scenes", "val")] * 40 + [
        ("suite_choice", "calibration")
    ] * 40
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 30
    for sample, image in zip(batch.samples, batch.images, strict=True):
        assert image.tobytes() == sample.image.open().tobytes()


def test_datasets_are_read_together_each_in_its_own_part(tmp_path: Path) -> None:
    write_text_vqa(tmp_path)
    write_coco_2014_vqa(tmp_path)
    data = VQADataModule(["text_vqa", "coco_2014_vqa"], root=str(tmp_path), splits={"text_vqa": "train"})
    assert [(s.dataset, s.split) for s in data.samples] == [("text_vqa", "train")] + [
        ("coco_2014_vqa", "validation")
    ] * 3


def test_training_batches_are_shuffled_anew_each_epoch_and_repeat_with_the_seed(root: str) -> None:
    loaders = [_easy(root, seed=7).train_dataloader() for _ in range(2)]
    first, again = (_ids(list(loader)) for loader in loaders)
    second = _ids(list(loaders[0]))
    assert first == again != second
    assert sorted(first) == sorted(second)
    assert first != sorted(first, key=int)


def test_reading_leaves_the_global_generator_alone(root: str) -> None:
    before = torch.random.get_rng_state()
    list(_easy(root).train_dataloader())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_samples_are_drawn_of_each_dataset_alike(tmp_path: Path) -> None:
    write_all(tmp_path)
    data = VQADataModule(["st_qa", "coco_2014_vqa"], root=str(tmp_path), num_samples=2)
    assert [sample.dataset for sample in data.samples] == ["st_qa"] * 2 + ["coco_2014_vqa"] * 2
    with pytest.raises(ValueError, match=r"coco_2014_vqa: validation: num_samples: expected 1 to 3, .* found 4"):
        VQADataModule(["st_qa", "coco_2014_vqa"], root=str(tmp_path), num_samples=4).setup("fit")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_ends_the_run_in_one_sentence(root: str, num_workers: int) -> None:
    path = Path(root) / "easy_vqa/data/test/images/3.png"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(
        ValueError, match=r"^easy_vqa: test: sample 6: .*3\.png: cannot be decoded as an image: [^\n]*$"
    ):
        list(_easy(root, num_workers=num_workers).predict_dataloader())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_images_are_left_out_and_counted_once(
    root: str, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    images = Path(root) / "easy_vqa/data/test/images"
    (images / "0.png").unlink()
    (images / "2.png").write_bytes(b"no picture")
    loader = _easy(root, on_bad_image="skip", batch_size=2, num_workers=num_workers).predict_dataloader()
    for _ in range(2):
        # Both questions of an image are a batch, so that two batches are empty and do not appear.
        assert _ids(list(loader)) == [str(number) for number in range(60) if number // 2 not in {0, 2}]
    assert caplog.text.count("left out") == 1
    assert "left out 4 samples with a bad image; first: easy_vqa: test: sample 0: " in caplog.text
    assert "0.png: no such image" in caplog.text


def test_a_missing_coco_image_is_named_in_full(tmp_path: Path) -> None:
    write_coco_2014_vqa(tmp_path)
    coco_path(tmp_path, "val2014", 74).unlink()
    with pytest.raises(ValueError, match=r"sample 74000: .*coco/val2014/COCO_val2014_000000000074\.jpg: no such image"):
        list(VQADataModule(["coco_2014_vqa"], root=str(tmp_path)).predict_dataloader())


def test_a_part_without_images_is_refused_when_it_is_asked_for(root: str) -> None:
    data = _easy(root, train_fraction=1.0, val_fraction=0.0, calibration_fraction=0.0)
    data.setup("fit")
    assert len(data.train_dataloader()) == 60
    with pytest.raises(
        ValueError, match="split: no image of easy_vqa is in the part 'calibration', got 60 samples and"
    ):
        data.calibration_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_names": []}, "dataset_names: needs at least one dataset, got none"),
        ({"dataset_names": ["mmmu", "mmmu"]}, "dataset_names: 'mmmu' is named twice"),
        ({"splits": {"mmmu": "dev"}}, "splits: expected names of dataset_names, easy_vqa, got 'mmmu'"),
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"num_workers": -1}, "num_workers: must be 0 or more, got -1"),
        ({"on_bad_image": "ignore"}, "on_bad_image: must be one of error, skip, got 'ignore'"),
        ({"train_fraction": 0.9, "val_fraction": 0.2}, "must be at most 1, got 1.2"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQADataModule(**({"dataset_names": ["easy_vqa"]} | arguments))


def test_policies_are_those_that_are_documented() -> None:
    assert get_args(OnBadImage) == ("error", "skip")


class _Reader(LightningModule):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[VQABatch] = []

    def test_step(self, batch: VQABatch, batch_idx: int) -> None:
        """Keep the batch."""
        self.seen.append(batch)


def test_a_batch_becomes_model_inputs(tmp_path: Path) -> None:
    write_mmmu(tmp_path)
    write_golden_tokenizer(tmp_path, "moe")
    tokenizer, special_tokens = load_tokenizer(tmp_path)
    processor = MolmoProcessor(golden_config("moe"), special_tokens, tokenizer)
    (batch,) = VQADataModule(["mmmu"], root=str(tmp_path), num_samples=4, batch_size=4).predict_dataloader()
    style = dataset_entry("mmmu").prompt_style
    inputs = collate(
        [
            processor(prompt_text(sample), image, style=style(sample))
            for sample, image in zip(batch.samples, batch.images, strict=True)
        ]
    )
    assert len(inputs.num_tokens) == 4
    assert (inputs.num_vision_tokens > 0).all()


@FEW_WORKERS
def test_a_trainer_hands_batches_on_as_they_are(root: str) -> None:
    reader, data = _Reader(), _easy(root, batch_size=4)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(reader, datamodule=data, verbose=False)
    assert _ids(reader.seen) == [sample.sample_id for sample in data.parts["test"]]


def test_the_command_line_builds_it_from_yaml(root: str) -> None:
    Path("data.yaml").write_text(
        "class_path: VQADataModule\n"
        "init_args:\n"
        "  dataset_names: [easy_vqa]\n"
        f"  root: {root}\n"
        "  splits: {easy_vqa: train}\n"
        "  train_fraction: 0.5\n"
        "  num_samples: 10\n"
        "  on_bad_image: skip\n"
    )
    # A module that takes nothing from the data.
    model = "--model=lightning.pytorch.demos.boring_classes.BoringModel"
    cli = cli_main([model, "--data=data.yaml", "--seed_everything=1"], run=False)
    assert cli is not None
    data = cli.datamodule
    assert isinstance(data, VQADataModule)
    assert len(data.samples) == 10
    assert data.samples[0].split == "train"
    assert data.fractions.train == 0.5
