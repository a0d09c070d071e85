from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.controller import ControllerDataModule
from lightning_modules.deciders import load_decider
from lightning_modules.llm_based_controller import LLMBasedControllerModule
from models.checkpoint import load_molmo, snapshot_directory
from models.controllers import Goodput
from models.controllers.objectives import ExactPolicyGradient, Grpo, QRegression
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.extraction import find_samples
from profiling.controllers.prompts import PromptSource
from profiling.sample_batches import SampleText
from tests.controller_modules import optimized, trainer_of
from tests.prompt_world import prompt_data, write_prompt_world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts")
    with chdir(path):
        write_prompt_world()
    return path


@pytest.fixture(scope="module")
def world(folder: Path) -> ControllerDataModule:
    with chdir(folder):
        data = prompt_data()
        data.setup("fit")
    return data


def module_of(data: ControllerDataModule, **changes: Any) -> LLMBasedControllerModule:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"objective": Grpo(kl_weight=0.01), "reward": Goodput(), "reads": ["free"], **changes}
    module = LLMBasedControllerModule(data.profile_facts, **arguments)
    optimized(module)
    return module


def batch_of(data: ControllerDataModule) -> ControllerBatch:
    return next(iter(data.test_dataloader()))


@pytest.fixture(autouse=True)
def _in_the_worlds_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


class OnlyBatch:
    """An epoch of one batch."""

    def __init__(self, batch: ControllerBatch) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[ControllerBatch]:
        return iter((self._batch,))


def test_training_sees_the_states_that_serving_would_see(world: ControllerDataModule) -> None:
    batch = batch_of(world)
    module = module_of(world)
    outcomes = world.parts["test"].outcomes
    model = load_molmo("model").requires_grad_(False)
    tokenizer, special_tokens = load_tokenizer(snapshot_directory("model"))
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    (sample, *_), row = find_samples(outcomes, root=None, json_lines=[]), 0
    words = SampleText(tokenizer, special_tokens).prompt_ids(sample)
    with torch.no_grad():
        states = module.shown(batch)
        for place, tier in enumerate(outcomes.grid.tiers):
            inputs = processor.from_token_ids(words, sample.image.open(), tier=tier)
            remaining_ms = batch.remaining_ms_BT[row : row + 1, place]
            expected = module.first_blocks(model, inputs, remaining_ms)
            found = module.first_blocks.decide(states[row : row + 1, place])
            torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)  # float16 is what is remembered
    assert len({tuple(state.tolist()) for state in states[row]}) == 3


def test_training_moves_every_part_of_the_policy_and_nothing_of_the_model(world: ControllerDataModule) -> None:
    module = module_of(world)
    prompts = world.requests.features.prompts
    assert prompts is not None
    model = {name: tensor.clone() for name, tensor in prompts.model.state_dict().items()}
    before = {name: parameter.clone() for name, parameter in module.network.named_parameters()}
    trainer_of(max_epochs=2).fit(module, datamodule=world)
    still = [name for name, parameter in module.network.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []
    assert all(torch.equal(tensor, model[name]) for name, tensor in prompts.model.state_dict().items())
    assert not any("model" in name for name in module.state_dict())


def test_it_learns_its_training_part_by_heart(world: ControllerDataModule) -> None:
    module = module_of(world, objective=ExactPolicyGradient(entropy_weight=0.0))
    module.configure_optimizers = lambda: torch.optim.Adam(module.parameters(), lr=0.01)  # type: ignore[method-assign]
    batch = next(iter(world.train_dataloader()))

    def goodput() -> float:
        with torch.no_grad():
            chosen = module(batch)[:, None]
        in_time = batch.latency_ms_BS.gather(1, chosen)[:, 0] <= batch.budget_ms_B
        return float((batch.accuracy_BS.gather(1, chosen)[:, 0] * in_time).mean())

    best = (batch.accuracy_BS * (batch.latency_ms_BS <= batch.budget_ms_B[:, None])).amax(dim=1).mean()
    first = goodput()
    only = OnlyBatch(batch)
    trainer_of(max_epochs=150).fit(module, only, only)
    assert first < 0.8 * float(best)
    assert goodput() >= 0.95 * float(best)


def test_a_checkpoint_decides_alone_as_it_did(world: ControllerDataModule, tmp_path: Path) -> None:
    module = module_of(world).eval()
    trainer = trainer_of(max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    decider = load_decider(str(tmp_path / "c.ckpt"))
    batch = batch_of(world)
    assert isinstance(decider, LLMBasedControllerModule)
    with torch.no_grad():
        assert torch.equal(decider(batch), module(batch))
        states = module.shown(batch)[:, 1]
    assert decider.feature_widths == {
        "free": batch.free_BF.shape[1],
        "question": 0,
        "glance": 0,
        "vision": states.shape[1],
    }
    tier = torch.ones(len(batch), dtype=torch.int64)
    logits = decider.after_image(batch.budget_ms_B, tier, batch.free_BF, batch.question_BD, states)
    assert logits.shape == (len(batch), len(decider.grid.settings()) // 3)
    frozen = decider.frozen()
    assert (frozen.feature_widths, frozen.grid) == (decider.feature_widths, decider.grid)
    for budget_ms in (5.0, 20.0, 300.0):
        asked = (torch.full((len(batch),), budget_ms), batch.free_BF, batch.question_BD, batch.glance_BD)
        for row, expected in enumerate(decider.before_image(*asked)):
            found = frozen.before_image(budget_ms, {"free": batch.free_BF[row].numpy()})
            torch.testing.assert_close(torch.from_numpy(found), expected)
    for row in range(len(batch)):
        again = frozen.after_image(float(batch.budget_ms_B[row]), 1, {}, states[row].numpy())
        torch.testing.assert_close(torch.from_numpy(again), logits[row])
    assert frozen.first_blocks is not None
    assert torch.equal(frozen.first_blocks.decide(states), logits)
    decider.check_model(Path("model"))
    assert (tmp_path / "c.ckpt").stat().st_size < 2**20


def test_another_models_checkpoint_and_snapshot_are_refused(world: ControllerDataModule) -> None:
    module = module_of(world)
    facts = world.profile_facts
    other = {**facts, "first_blocks": {**facts["first_blocks"], "model_digest": "f" * 64}}
    trainer = trainer_of(max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("c.ckpt")
    stranger = LLMBasedControllerModule(other, objective=Grpo(), reward=Goodput(), reads=["free"])  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"first 1 blocks of the model of digest .*, but the data have .* ffffffffffff"
    ):
        stranger.on_load_checkpoint(torch.load("c.ckpt", weights_only=True))
    with pytest.raises(
        ValueError, match=r"controller: decides from the first blocks of other weights than those of mod"
    ):
        stranger.check_model(Path("model"))


def test_wrong_arguments_are_refused(world: ControllerDataModule) -> None:
    with pytest.raises(ValueError, match="reads: the first stage does not know vision"):
        module_of(world, reads=["free", "vision"])
    with pytest.raises(ValueError, match="objective: must train a distribution over settings"):
        module_of(world, objective=QRegression())
    without = prompt_data(prompts=None)
    with pytest.raises(ValueError, match="name the snapshot in the data's `prompts`"):
        module_of(without)
    with pytest.raises(ValueError, match="prompts: num_first_blocks: must be 1 or more, got 0"):
        PromptSource(snapshot="model", num_first_blocks=0)
    with pytest.raises(ValueError, match=r"blocks_by_count\[2\]: must begin with the first 2, got"):
        prompt_data(prompts=PromptSource(snapshot="model", num_first_blocks=2)).setup("fit")
