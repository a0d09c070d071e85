import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks.controller_report import CONTROLLER, ControllerReport, codes_of
from lightning_modules.supervised_controller import SupervisedControllerModule
from models.controllers import Goodput
from models.controllers.objectives import ExactPolicyGradient
from profiling.controllers.evaluation import evaluate
from tests.controller_modules import trainer_of, world_data


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
