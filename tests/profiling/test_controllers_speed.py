import re

import pytest
import torch

from models.controllers import Controller
from models.controllers.objectives import Grpo
from profiling import controllers_speed
from profiling.controllers_speed import GroupBatch, bench_grpo, loop_loss, whole_tensors_loss

DRAWN = [[0, 1, 2], [3, 3, 1], [2, 2, 2], [0, 3, 1]]


def _batch() -> GroupBatch:
    return GroupBatch(
        budget_ms=torch.tensor([50.0, 100.0, 150.0, 200.0]),
        features=torch.randn(4, 2),
        accuracy=torch.rand(4, 4),
        latency_ms=250 * torch.rand(4, 4),
        is_measured=torch.ones(4, 4, dtype=torch.bool),
    )


def test_the_loop_computes_what_the_whole_tensors_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = _batch()
    network = Controller((1, 2, 2), 2, fastest_ms=20.0, slowest_ms=400.0)
    drawn = iter([setting for group in DRAWN for setting in group])
    monkeypatch.setattr(controllers_speed, "draw_one", lambda _: next(drawn))
    monkeypatch.setattr(torch.Tensor, "multinomial", lambda *_, **__: torch.tensor(DRAWN))
    objective = Grpo(group_size=3, entropy_weight=0.0)
    gradients = []
    for loss in (whole_tensors_loss, loop_loss):
        network.zero_grad()
        loss(network, batch, objective).backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])
        )
    assert float(gradients[0].norm()) > 0.01
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


def test_the_command_prints_a_rate_for_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    bench_grpo(num_groups=128, num_features=3, num_repeats=2, num_threads=1)
    printed = capsys.readouterr().out
    for name, groups in (("whole tensors", 128), ("whole tensors, few", 64), ("loop over requests", 64)):
        assert re.search(rf"{name} +{groups} +[\d,]+ +[\d,]+ +[\d,]+", printed)


@pytest.mark.parametrize(
    ("field", "least"), [("num_groups", 1), ("group_size", 2), ("num_repeats", 2), ("num_threads", 1)]
)
def test_numbers_that_are_too_small_are_refused(field: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be {least} or more, got {least - 1}"):
        bench_grpo(**{field: least - 1})
