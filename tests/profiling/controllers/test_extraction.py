from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import main
from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.inputs import PAD
from models.knobs import STANDARD_TIERS
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.controllers.embeddings import question_embedding
from profiling.controllers.extraction import find_samples
from profiling.controllers.feature_file import FeatureFileError, read_feature_file
from profiling.controllers.outcomes import outcomes_of, read_outcomes
from profiling.datasets.catalogue import read_dataset
from profiling.records import write_profile
from profiling.sample_batches import SampleText
from tests.block_models import write_block_model
from tests.controller_world import ENVIRONMENT, world_rows, world_table

DATASETS = ("suite_scenes", "suite_text")
NUM_EACH = 3


def suite_rows() -> pd.DataFrame:
    """Profile the first samples of two splits of two families, in parts of other names, as a profile does."""
    samples = [
        sample
        for name in DATASETS
        for split in ("val", "test")
        for sample in read_dataset(name, split, num_samples=NUM_EACH)
    ]
    rows = world_rows(num_images=len(samples), per_image=1, runs=1)
    of_row = [samples[place] for place in rows["sample"]]
    return rows.assign(
        split=["train" if sample.split == "val" else "test" for sample in of_row],
        dataset=[sample.dataset for sample in of_row],
        sample_id=[sample.sample_id for sample in of_row],
        image_id=[sample.image_id for sample in of_row],
        question=[sample.question for sample in of_row],
    )


@pytest.fixture
def arguments() -> list[str]:
    model = write_block_model(Path("model"), 2)
    environment = ENVIRONMENT.model_copy(update={"model_shape": read_hf_config(model)})
    write_profile(world_table(suite_rows(), environment=environment), "profile.parquet")
    return ["controller-features", "--model", "model", "--files", '["profile.parquet"]', "--output", "f.safetensors"]


def test_the_file_holds_the_mean_of_what_the_model_makes_of_words_and_pictures(arguments: list[str]) -> None:
    main.cli_main([*arguments, "--batch_size", "4"])
    file = read_feature_file("f.safetensors")
    outcomes = read_outcomes(["profile.parquet"])
    model = load_molmo("model")
    tokenizer, special_tokens = load_tokenizer(snapshot_directory("model"))
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    sample = read_dataset("suite_text", "test", num_samples=NUM_EACH)[1]
    features = file.features_of(outcomes, source="f")
    with torch.no_grad():
        ids = torch.tensor(SampleText(tokenizer, special_tokens).prompt_ids(sample))
        question = model.language_model.embedding(ids).mean(dim=0)
        inputs = processor.from_token_ids([], sample.image.open(), tier=STANDARD_TIERS[1])
        tokens = model.encode_images(inputs)
        overview = processor.image_processor.overview(sample.image.open())
        shown = model.connector(model.vision_encoder(overview.crop[None]), overview.patch_mask[None])
    assert tokens is not None
    assert inputs.token_index is not None
    kept = tokens[inputs.token_index >= 0].mean(dim=0)
    row = 3 * NUM_EACH + 1
    np.testing.assert_allclose(features.question_ND[row], question.numpy(), atol=2e-3)
    np.testing.assert_allclose(features.glance_ND[row], shown.mean(dim=(0, 1)).numpy(), atol=2e-3)
    np.testing.assert_allclose(features.vision_NTD[row, 1], kept.numpy(), atol=2e-3)
    assert len({features.vision_NTD[row, tier].tobytes() for tier in range(3)}) == 3
    file.check_model("model", source="f")


def test_the_weights_are_recognised(arguments: list[str]) -> None:
    main.cli_main(arguments)
    write_block_model(Path("other"), 3)
    with pytest.raises(FeatureFileError, match="f: was made with other weights than those of other: digest"):
        read_feature_file("f.safetensors").check_model("other", source="f")
    with pytest.raises(ValueError, match="model: other is not the model of the profile"):
        main.cli_main([*arguments, "--model", "other"])


def test_a_wrong_output_or_batch_size_is_refused_before_any_work(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"output: file name must end in .safetensors, got 'f.npz'"):
        main.cli_main([*arguments, "--output", "f.npz"])
    with pytest.raises(ValueError, match="batch_size: must be 1 or more, got 0"):
        main.cli_main([*arguments, "--batch_size", "0"])


def test_a_sample_that_its_dataset_does_not_have_is_named() -> None:
    rows = suite_rows()
    rows.loc[rows["sample"] == 4, "sample_id"] = "no such sample"
    outcomes = outcomes_of(world_table(rows))
    with pytest.raises(ValueError, match=r"1 of 6 samples of suite_scenes are in none of its splits .*no such sample"):
        find_samples(outcomes, root=None, json_lines=[])


def test_samples_are_found_when_those_before_them_are_not_in_the_profile() -> None:
    rows = suite_rows()
    last = rows[rows["sample"] % NUM_EACH == NUM_EACH - 1]
    samples = find_samples(outcomes_of(world_table(last)), root=None, json_lines=[])
    assert [sample.sample_id for sample in samples] == list(dict.fromkeys(last["sample_id"]))


def test_a_split_that_is_not_on_disk_is_told_when_samples_are_missing() -> None:
    outcomes = outcomes_of(world_table(world_rows(num_images=2).assign(dataset="text_vqa")))
    Path("root").mkdir()
    with pytest.raises(ValueError, match=r"4 of 4 samples of text_vqa .*splits that cannot be read: .*TextVQA.*json"):
        find_samples(outcomes, root="root", json_lines=[])
    with pytest.raises(ValueError, match=r"splits that cannot be read: root: expected .* found no folder nowhere$"):
        find_samples(outcomes, root="nowhere", json_lines=[])


def test_a_dataset_of_ones_own_is_found_by_its_files_name() -> None:
    Image.new("RGB", (8, 8)).save("a.png")
    Path("mine.jsonl").write_text('{"id": "s0", "image": "a.png", "question": "what is it", "answers": ["a"]}\n')
    (sample,) = read_dataset("mine.jsonl")
    rows = world_rows(num_images=1, per_image=1).assign(dataset="mine", image_id=sample.image_id, question="what is it")
    outcomes = outcomes_of(world_table(rows.assign(sample_id=sample.sample_id)))
    assert find_samples(outcomes, root=None, json_lines=[Path("mine.jsonl")]) == [sample]


def test_padding_of_a_prompt_changes_nothing() -> None:
    write_block_model(Path("model"), 2)
    model = load_molmo("model")
    ids = torch.tensor([[3, 5, 9]])
    padded = torch.tensor([[3, 5, 9, PAD, PAD]])
    torch.testing.assert_close(question_embedding(model, ids), question_embedding(model, padded))
