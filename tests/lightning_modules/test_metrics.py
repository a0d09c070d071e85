import pytest
import torch

from lightning_modules.metrics import AbsoluteErrorQuantile, CollectedRows, Coverage


def test_collected_rows_come_back_in_order() -> None:
    rows = CollectedRows()
    rows.update(torch.ones(2, 3))
    rows.update(torch.zeros(1, 3))
    assert rows.compute()[:, 0].tolist() == [1, 1, 0]


def test_the_error_quantile_is_an_order_statistic() -> None:
    metric = AbsoluteErrorQuantile(0.95)
    metric.update(torch.arange(100.0), torch.zeros(100))
    assert metric.compute() == 95


def test_two_sided_coverage_counts_truths_between_the_quantiles() -> None:
    quantiles = torch.tensor([[1.0, 3.0]]).expand(4, -1)
    target = torch.tensor([0.5, 1.0, 3.0, 3.5])
    two_sided, one_sided = Coverage(1, lower=0), Coverage(1)
    two_sided.update(target, quantiles)
    one_sided.update(target, quantiles)
    assert two_sided.compute() == pytest.approx(0.5)
    assert one_sided.compute() == pytest.approx(0.75)
