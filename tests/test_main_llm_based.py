"""The command line of the controller that decides from the model's first blocks."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import main
from lightning_modules.finished_policy import PolicySource
from lightning_modules.llm_based_controller import LLMBasedControllerModule
from profiling.adaptive.request import BudgetedRequest
from profiling.controllers.prompts import PromptSource
from tests.prompt_world import PROFILE, SNAPSHOT, write_prompt_world
from tests.served_rows import questions

CONFIGS = Path(main.__file__).parent / "configs"
CHECKPOINT = "runs/version_0/checkpoints/best.ckpt"


@pytest.fixture
def words() -> list[str]:
    write_prompt_world()
    best = {"class_path": "ModelCheckpoint", "init_args": {"filename": "best", "monitor": "val/goodput", "mode": "max"}}
    content = {
        "data": {
            "init_args": {
                "files": [PROFILE],
                "features": None,
                "prompts": {"snapshot": SNAPSHOT},
                "train_fraction": 0.7,
                "val_fraction": 0.3,
                "budgets_ms": [18.0, 30.0],
                "batch_size": 4,
            }
        },
        "trainer": {
            "max_epochs": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [best],
        },
    }
    Path("small.yaml").write_text(yaml.safe_dump(content))
    configs = [*(str(CONFIGS / "grpo_controller" / name) for name in ("default.yaml", "llm_based.yaml")), "small.yaml"]
    return [word for config in configs for word in ("--config", config)]


def test_it_is_fitted_tested_again_and_answers_within_a_budget(words: list[str]) -> None:
    fit = main.cli_main(["fit", *words, "--observers=[]"])
    test = main.cli_main(["test", *words, "--observers=[]", f"--ckpt_path={CHECKPOINT}", "--verbose=false"])
    assert fit is not None
    assert test is not None
    assert isinstance(test.model, LLMBasedControllerModule)
    reached = test.trainer.callback_metrics
    assert 0 < reached["test/goodput"] <= reached["test/accuracy"] <= 1
    assert {name: fit.trainer.callback_metrics[name] for name in reached} == reached
    kept = torch.load(CHECKPOINT, weights_only=True)
    assert {name.split(".")[0] for name in kept["state_dict"]} == {"network", "reference"}
    policy = PolicySource(snapshot=SNAPSHOT, controller=CHECKPOINT, stops_at_deadline=False).load()
    (question,) = questions(1, "test")
    request = BudgetedRequest(question=question, budget_ms=1e4)
    served = policy.server().answer(request, question.open_image(), margin=0.0).served
    assert served.key == request.key
    assert served.is_in_time
    assert (served.tier, served.top_k) in {(s.tier, s.top_k) for s in policy.decider.grid.settings()}


def test_a_policy_of_another_model_is_refused(words: list[str]) -> None:
    main.cli_main(["fit", *words, "--observers=[]", "--trainer.max_epochs=1"])
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    checkpoint["hyper_parameters"]["profile_facts"]["first_blocks"]["model_digest"] = "0" * 64
    torch.save(checkpoint, "other.ckpt")
    source = PolicySource(snapshot=SNAPSHOT, controller="other.ckpt", stops_at_deadline=False)
    with pytest.raises(ValueError, match="controller: decides from the first blocks of other weights than those of"):
        source.load()


def test_the_shipped_config_begins_with_blocks_that_all_sets_have() -> None:
    data = yaml.safe_load((CONFIGS / "grpo_controller" / "llm_based.yaml").read_text())["data"]["init_args"]
    source = PromptSource(**data["prompts"])
    shape = json.loads((CONFIGS.parent / source.snapshot / "config.json").read_text())
    first = list(range(source.num_first_blocks))
    assert all(blocks[: len(first)] == first for blocks in shape["knob_grid"]["blocks_by_count"].values())
    assert shape["d_model"] == 128
