import json
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.controller_report import CONTROLLER, ControllerReport, codes_of
from lightning_modules.supervised_controller import SupervisedControllerModule
from models.controllers import Goodput
from models.controllers.objectives import ExactPolicyGradient
from profiling.controllers.evaluation import evaluate
from tests.controller_modules import trainer_of, world_data

MEASURES = ("goodput", "accuracy", "adherence", "regret")


def test_choices_are_sorted_by_budget_and_sample_whatever_their_order() -> None:
    first = (torch.tensor([20.0, 10.0]), torch.tensor([1, 0]), torch.tensor([7, 3]))
    second = (torch.tensor([10.0, 20.0]), torch.tensor([1, 0]), torch.tensor([4, 6]))
    assert codes_of([second, first], [10.0, 20.0]).tolist() == [[3, 4], [6, 7]]


def test_what_a_test_chose_is_what_is_reported() -> None:
    data = world_data(num_images=60, budgets_ms=[18.0, 30.0])
    module = SupervisedControllerModule(data.profile_facts, objective=ExactPolicyGradient(), reward=Goodput())
    trainer = trainer_of(max_epochs=1, callbacks=[ControllerReport()], logger=CSVLogger("."))
    trainer.test(module, datamodule=data, verbose=False)
    content = json.loads((Path(trainer.log_dir or "") / "report" / "controllers.json").read_text())
    own = next(policy for policy in content["policies"] if policy["name"] == CONTROLLER)
    with torch.no_grad():
        chosen = torch.cat([module(batch) for batch in data.test_dataloader()]).reshape(2, -1).numpy()
    expected = evaluate(CONTROLLER, chosen, data.parts["test"].outcomes, data.budgets_ms)
    assert own["goodput"]["value"] == pytest.approx(expected.goodput)
    assert content["reference"] == CONTROLLER


def test_a_test_ends_with_a_table_by_budget_and_figures_in_tensorboard(capsys: pytest.CaptureFixture[str]) -> None:
    data = world_data(num_images=60, budgets_ms=[18.0, 30.0])
    module = SupervisedControllerModule(data.profile_facts, objective=ExactPolicyGradient(), reward=Goodput())
    trainer = trainer_of(max_epochs=1, callbacks=[ControllerReport()], logger=TensorBoardLogger("."))
    (logged,) = trainer.test(module, datamodule=data, verbose=False)
    folder = Path(trainer.log_dir or "")
    text = (folder / "report" / "by_budget.md").read_text()
    first = [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]]
    assert first[:5] == ["18.0", *(f"{logged[f'test/{name}/at_18_ms']:.3f}" for name in MEASURES)]
    label, best = (100 * logged[f"test/{name}_accuracy/tier/at_18_ms"] for name in ("label", "best"))
    assert first[5] == f"{label:.0f}/{best:.0f}"
    assert "of 1 steps from a budget to the next" in text
    assert re.search(r"ms +goodput +accuracy +in time +regret +tier +top_k +blocks +all", capsys.readouterr().out)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()["images"]) == {"test/tier_confusion", "test/tier_confusion_by_budget", "test/levels"}
