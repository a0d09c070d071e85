import logging
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import read_hf_config
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import read_outcomes
from profiling.controllers.prompts import PromptSource
from tests.block_models import write_block_model
from tests.prompt_world import PROFILE, SNAPSHOT, write_prompt_world

SOURCE = PromptSource(snapshot=SNAPSHOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts")
    with chdir(path):
        write_prompt_world(num_each=4)
    return path


@pytest.fixture(autouse=True)
def _in_the_worlds_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_every_samples_prompt_is_kept_at_every_tier_in_half_precision(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = read_outcomes([PROFILE])
    with caplog.at_level(logging.INFO):
        prompts = SOURCE.read(outcomes)
    assert len(prompts) == len(outcomes) == 8
    lengths = [memory.num_tokens_B.max() for memory in prompts.tiers]
    assert lengths[0] < lengths[1] < lengths[2]
    for memory, length in zip(prompts.tiers, lengths, strict=True):
        assert memory.memory.dtype == torch.float16
        assert memory.memory.shape == (1, 2, 8, 2, length, 16)
    num_bytes = sum(2 * 2 * 16 * 2 * int(length) for length in lengths)  # keys and values, heads, their width, a half
    assert f"prompts: 8 samples, {num_bytes / 2**20:.3f} MiB each" in caplog.text


def test_features_take_their_samples_prompts_with_them() -> None:
    outcomes = read_outcomes([PROFILE])
    prompts = SOURCE.read(outcomes)
    features = without_embeddings(outcomes)
    assert features.take(np.asarray([1])).prompts is None
    known = type(features)(
        free_NF=features.free_NF,
        question_ND=features.question_ND,
        glance_ND=features.glance_ND,
        vision_NTD=features.vision_NTD,
        prompts=prompts,
    )
    for rows in (np.asarray([6, 2]), np.isin(np.arange(8), [2, 6])):
        taken = known.take(rows).prompts
        assert taken is not None
        expected = prompts.tiers[1].num_tokens_B[torch.from_numpy(rows)]
        assert torch.equal(taken.at_tier(1).num_tokens_B, expected)


def test_the_facts_name_the_weights_and_the_width(tmp_path: Path) -> None:
    facts = SOURCE.facts()
    assert (facts["model_dim"], facts["num_blocks"]) == (read_hf_config(Path(SNAPSHOT))["d_model"], 1)
    other = write_block_model(tmp_path / "other", 2)
    assert PromptSource(snapshot=str(other)).facts()["model_digest"] != facts["model_digest"]


def test_another_model_and_blocks_that_not_all_settings_have_are_refused(tmp_path: Path) -> None:
    outcomes = read_outcomes([PROFILE])
    other = write_block_model(tmp_path / "other", 2)
    with pytest.raises(ValueError, match="other is not the model of the profile"):
        PromptSource(snapshot=str(other)).read(outcomes)
    with pytest.raises(ValueError, match=r"blocks_by_count\[2\]: must begin with the first 2, got \(0, 2\)"):
        PromptSource(snapshot=SNAPSHOT, num_first_blocks=2).read(outcomes)
    with pytest.raises(ValueError, match="prompts: num_first_blocks: must be 1 or more, got 0"):
        PromptSource(snapshot=SNAPSHOT, num_first_blocks=0)
