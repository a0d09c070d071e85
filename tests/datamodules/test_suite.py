from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.suite import SuiteDataModule
from models.config import MolmoConfig, changed_hf_config
from models.knobs import STANDARD_TIERS
from models.patch_labels import UNKNOWN
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.suite.suite import suite_sample
from profiling.vlm_batch import IGNORED
from tests.dataset_files import write_easy_vqa, write_image
from tests.small_vlm import small_data, small_shape


@pytest.fixture
def processor() -> MolmoProcessor:
    config = MolmoConfig.from_hf(changed_hf_config("molmoe-1b-0924", small_shape()))
    Path("tokenizer.json").write_text(SuiteDataModule({"scenes": 1}).tokenizer)
    tokenizer, special_tokens = load_tokenizer(".")
    return MolmoProcessor(config, special_tokens, tokenizer)


def _fit(**changes: object) -> SuiteDataModule:
    data = small_data(**changes)
    data.setup("fit")
    return data


def test_training_sees_what_the_processor_makes_of_question_picture_and_answer(processor: MolmoProcessor) -> None:
    data = _fit(weights=dict.fromkeys(["scenes", "text", "tables", "choice", "facts"], 1.0), batch_size=12)
    batch = next(iter(data.train_dataloader()))
    samples = [suite_sample(key) for key in data.mixture.keys("train", range(12))]
    for tier in STANDARD_TIERS:
        inputs, _ = processor.from_batch(batch.text_ids, batch.images, tier=tier)
        for i, sample in enumerate(samples):
            image = np.asarray(sample.image.open())
            example = processor.training_example([(sample.question, sample.answers[0])], image, tier=tier)
            length = example.labels.shape[1]
            assert torch.equal(inputs.input_ids[i, :length], example.inputs.input_ids[0])
            assert (inputs.input_ids[i, length:] == -1).all()
            learned = example.labels[0][example.loss_mask[0] == 1]
            assert torch.equal(batch.labels[i][batch.labels[i] != IGNORED], learned)
            assert inputs.crops is not None
            assert example.inputs.crops is not None
            assert inputs.patch_mask is not None
            assert example.inputs.patch_mask is not None
            torch.testing.assert_close(inputs.crops[i], example.inputs.crops[0], rtol=0, atol=1e-5)
            assert torch.equal(inputs.patch_mask[i], example.inputs.patch_mask[0])


def test_a_prompt_ends_where_the_answer_begins(processor: MolmoProcessor) -> None:
    data = small_data()
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    for sample, prompt in zip(batch.samples, batch.prompt_ids, strict=True):
        ids = processor(sample.question).input_ids[0, 1:]
        assert torch.equal(prompt[prompt != -1], ids)


def test_batches_are_the_same_however_many_workers_draw_them() -> None:
    alone, shared = (_fit(num_workers=num_workers, batches_per_epoch=3) for num_workers in (0, 2))
    for one, other in zip(alone.train_dataloader(), shared.train_dataloader(), strict=True):
        assert torch.equal(one.text_ids, other.text_ids)
        assert torch.equal(one.pixels[0], other.pixels[0])


def test_an_epoch_goes_on_where_the_last_one_ended_and_so_does_a_new_run() -> None:
    loader = _fit().train_dataloader()
    epochs = [[batch.text_ids for batch in loader] for _ in range(2)]
    assert not torch.equal(epochs[0][0], epochs[1][0])
    assert loader.state_dict() == {"num_given": 4}
    resumed = _fit().train_dataloader()
    resumed.load_state_dict({"num_given": 2})
    assert all(torch.equal(a.text_ids, b) for a, b in zip(resumed, epochs[1], strict=True))


def test_validation_and_test_are_fixed_and_apart_and_each_batch_is_of_one_family() -> None:
    data = small_data()
    data.setup("validate")
    data.setup("test")
    for loader, num_samples in ((data.val_dataloader(), 3), (data.test_dataloader(), 4)):
        batches = list(loader)
        assert [len(batch) for batch in batches] == [num_samples, num_samples]
        assert [{sample.dataset for sample in batch.samples} for batch in batches] == [{"suite_scenes"}, {"suite_text"}]
    ids = {part: {sample.image_id for sample in samples} for part, samples in data.samples.items()}
    assert ids["val"].isdisjoint(ids["test"])


def test_easy_vqa_is_one_more_family(processor: MolmoProcessor) -> None:
    write_easy_vqa(Path("data"), num_images=30)
    for picture in Path("data").rglob("*.png"):
        write_image(picture, size=(64, 64))
    data = _fit(weights={"scenes": 0.75, "easy_vqa": 0.25}, root="data")
    assert data.families == ["suite_scenes", "easy_vqa"]
    batch = next(iter(data.train_dataloader()))
    assert [len(pixels) for pixels in batch.pixels] == [6, 2]
    assert (batch.cells[6:] == UNKNOWN).all()
    assert (batch.cells[:6] != UNKNOWN).all()
    inputs, _ = processor.from_batch(batch.text_ids, batch.images, tier=STANDARD_TIERS[0])
    assert len(inputs.input_ids) == 8
    trained = {s.image_id for s in data._easy_vqa("train")}
    assert trained
    assert trained.isdisjoint(s.image_id for s in data._easy_vqa("val"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"num_workers": -1}, "num_workers: must be 0 or more, got -1"),
        ({"weights": {"text": 1, "easy_vqa": -1}}, r"weights\[easy_vqa\]: must be 0 or more, got -1"),
        ({"weights": {"poems": 1}}, "weights: families are scenes, .*, got 'poems'"),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_data(**change)
