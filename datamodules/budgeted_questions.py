"""Questions of datasets, each with the time that its answer may take."""

from collections.abc import Iterator, Sequence

from lightning import LightningDataModule

from profiling.adaptive.request import BudgetedRequest, check_budget, in_random_order
from profiling.datasets.image_split import Part
from profiling.questions import QuestionRequest, Questions


class RequestLoader:
    """Requests one by one: Lightning would take a list for several loaders, and look for workers in a DataLoader.

    Args:
        requests: The requests; their pictures are opened when they are answered.
    """

    def __init__(self, requests: Sequence[BudgetedRequest]) -> None:
        self._requests = requests

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[BudgetedRequest]:
        return iter(self._requests)


class BudgetedQuestionsDataModule(LightningDataModule):
    """Ask questions under latency budgets, one request at a time, in random order.

    Args:
        datasets: For each dataset which of its splits to draw from; nothing that a model or controller learned from.
        latency_budget_ms: One budget for all, or several that every question is asked under; ``null`` takes each
            question's own, the field ``budget_ms`` of a ``.jsonl`` file.
        num_requests: Questions of each dataset.
        root: Folder of the datasets; ``null`` takes the environment variable ``MOLMO_DATA_DIR``.
        seed: Of the draw and the order.

    Raises:
        ValueError: If a budget is not a positive number of milliseconds, a number is below 1, or a dataset is unknown;
            when reading, if a question is to bring its budget and has none.
    """

    def __init__(
        self,
        datasets: dict[str, str],
        *,
        latency_budget_ms: float | list[float] | None = None,
        num_requests: int = 100,
        root: str | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        budgets = latency_budget_ms if isinstance(latency_budget_ms, list) else [latency_budget_ms]
        if not budgets:
            raise ValueError("latency_budget: needs at least one budget, got none")
        self.budgets_ms = [check_budget(budget) for budget in budgets if budget is not None]
        part: Part = "test"
        self._questions = Questions(
            datasets={name: {part: split} for name, split in datasets.items()},
            num_samples={part: num_requests},
            root=root,
            seed=seed,
        )
        self.seed = seed
        self.requests: list[BudgetedRequest] = []

    def setup(self, stage: str) -> None:
        """Read the questions, once."""
        if not self.requests:
            questions = self._questions.requests()
            budgets_ms = self.budgets_ms
            self.requests = in_random_order(
                [
                    BudgetedRequest(question=question, budget_ms=budget_ms)
                    for question in questions
                    for budget_ms in budgets_ms or [_own_budget(question)]
                ],
                seed=self.seed,
            )

    def test_dataloader(self) -> RequestLoader:
        """Return every question under every budget."""
        return RequestLoader(self.requests)


def _own_budget(question: QuestionRequest) -> float:
    sample = question.sample
    where = f"{sample.dataset}: sample {sample.sample_id}: budget_ms"
    if sample.budget_ms is None:
        raise ValueError(f"{where}: has none; give one to all by latency_budget")
    return check_budget(sample.budget_ms, where=where)
