from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import LightningModule, Trainer
from torch import Tensor, nn

import datamodules.controller as controller_data
from datamodules.controller import ControllerDataModule
from models.knobs import GRID_KEY, own_grid
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.feature_file import FeatureFile, FeatureFileError
from profiling.controllers.online_answers import AnswerSource
from profiling.controllers.outcomes import KEY
from profiling.controllers.prompts import PromptSource
from profiling.records import write_profile
from tests.block_models import block_hf_config
from tests.controller_world import ENVIRONMENT, GRID, untimed, world_rows, world_table, write_world
from tests.estimator_world import write_estimator, write_shaped_world

PARTS = ("train", "val", "calibration", "test")


@pytest.fixture
def file() -> str:
    return str(write_world(Path("world.parquet"), num_images=120))


def data_of(file: str, **changes: Any) -> ControllerDataModule:
    arguments = {"train_fraction": 0.5, "val_fraction": 0.1, "calibration_fraction": 0.1, "batch_size": 16, **changes}
    data = ControllerDataModule([file], **arguments)
    data.setup("fit")
    return data


def joined(batches: Any, name: str) -> Tensor:
    return torch.cat([getattr(batch, name) for batch in batches])


def test_parts_share_no_image_and_calibration_is_never_trained_on(file: str) -> None:
    data = data_of(file)
    images = {part: set(data.parts[part].image_ids) for part in PARTS}  # type: ignore[index]
    assert sum(map(len, images.values())) == len(set.union(*images.values())) == 120
    trained = {data.parts["train"].image_ids[row] for row in joined(data.train_dataloader(), "sample_B").tolist()}
    assert not trained & (images["calibration"] | images["val"] | images["test"])


def test_an_epoch_asks_each_sample_once_under_a_budget_of_its_own(file: str) -> None:
    data = data_of(file)
    loader = data.train_dataloader()
    batches = list(loader)
    num_samples = len(data.parts["train"])
    assert len(batches) == len(loader) == num_samples // 16
    assert all(len(batch) == 16 for batch in batches)
    samples = joined(batches, "sample_B")
    assert len(samples.unique()) == len(samples) == num_samples // 16 * 16
    budgets_ms = joined(batches, "budget_ms_B")
    assert len(budgets_ms.unique()) == len(budgets_ms)
    assert data.fastest_ms <= budgets_ms.min() < budgets_ms.max() <= data.slowest_ms
    expected = torch.from_numpy(data.parts["train"].outcomes.accuracy_NS).float()
    assert torch.equal(joined(batches, "accuracy_BS"), expected[samples])


def test_order_and_budgets_follow_seed_and_epoch(file: str) -> None:
    def drawn(seed: int, epoch: int) -> Tensor:
        loader = data_of(file, seed=seed).train_dataloader()
        loader.set_epoch(epoch)
        return joined(loader, "budget_ms_B")

    assert torch.equal(drawn(0, 0), drawn(0, 0))
    assert not torch.equal(drawn(0, 0), drawn(0, 1))
    assert not torch.equal(drawn(0, 0)[:32], drawn(1, 0)[:32])


def test_other_parts_hold_every_sample_under_every_budget(file: str) -> None:
    data = data_of(file)
    assert len(data.budgets_ms) == 15
    for part, loader in (
        ("val", data.val_dataloader()),
        ("calibration", data.calibration_dataloader()),
        ("test", data.test_dataloader()),
    ):
        batches = list(loader)
        assert len(batches) == len(loader)
        pairs = set(zip(joined(batches, "sample_B").tolist(), joined(batches, "budget_ms_B").tolist(), strict=True))
        budgets_ms = torch.tensor(data.budgets_ms).tolist()
        num_samples = len(data.parts[part])  # type: ignore[index]
        assert pairs == {(sample, budget_ms) for sample in range(num_samples) for budget_ms in budgets_ms}


def test_two_processes_together_do_what_one_does(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(file)
    whole = [sorted(batch.sample_B.tolist()) for batch in data_of(file, batch_size=32).train_dataloader()]
    parts, tested = [], []
    for rank in range(2):
        monkeypatch.setattr(controller_data, "rank_and_world", lambda rank=rank: (rank, 2))
        parts.append([batch.sample_B.tolist() for batch in data.train_dataloader()])
        tested.append(joined(data.test_dataloader(), "sample_B"))
    assert [sorted(one + two) for one, two in zip(*parts, strict=True)] == whole
    assert sum(map(len, tested)) == 15 * len(data.parts["test"])


def test_the_profiles_own_parts_may_be_kept() -> None:
    rows = world_rows(num_images=90)
    image = rows["sample"] // 2
    rows["split"] = np.select([image < 40, image < 60], ["train", "calibration"], "test")
    write_profile(world_table(rows), "parts.parquet")
    data = data_of("parts.parquet", split_by="profile")
    assert set(data.parts["calibration"].image_ids) == {f"i{number}" for number in range(40, 60)}
    assert set(data.parts["test"].image_ids) == {f"i{number}" for number in range(60, 90)}
    assert 0 < len(data.parts["val"]) < len(data.parts["train"]) < 80


def test_budgets_are_fitted_to_the_training_part_or_given(file: str) -> None:
    data = data_of(file)
    outcomes = data.parts["train"].outcomes
    full_ms = float(np.median(outcomes.latency_ms_NS[:, outcomes.full_setting]))
    assert round(full_ms / 2, 3) in data.budgets_ms
    given = data_of(file, budgets_ms=[30.0, 20.0])
    assert joined(given.val_dataloader(), "budget_ms_B").unique().tolist() == [20, 30]


def test_what_modules_are_told_is_plain_and_enough(file: str) -> None:
    data = data_of(file)
    told = {name: getattr(data, name) for name in ("knob_grid", "levels", "feature_widths", "feature_scale")}
    assert yaml.safe_load(yaml.safe_dump(told)) == told
    assert own_grid({GRID_KEY: data.knob_grid}) == GRID
    assert data.levels == [3, 2, 3]
    assert data.feature_widths == {"free": 19, "question": 0, "glance": 0, "vision": 0}
    mean, spread = data.feature_scale["free"]
    free = data.parts["train"].features.free_NF
    np.testing.assert_allclose(mean, free.mean(axis=0))
    np.testing.assert_allclose(spread, np.where(free.std(axis=0) > 0, free.std(axis=0), 1))


def test_embeddings_come_from_the_file_and_must_be_of_these_samples(file: str) -> None:
    samples = data_of(file).requests.outcomes.samples
    keys = tuple((str(d), str(s), str(i)) for d, s, i in samples[list(KEY)].itertuples(index=False))
    question = np.arange(240 * 4, dtype=np.float16).reshape(240, 4)
    features = FeatureFile(
        model_digest="d",
        model_shape={},
        tiers=("low", "medium", "high"),
        tiling="target",
        samples=keys,
        question_ND=question,
        glance_ND=-question,
        vision_NTD=np.zeros((240, 3, 4), dtype=np.float16),
    )
    features.write(Path("f.safetensors"))
    data = data_of(file, features="f.safetensors")
    assert data.feature_widths == {"free": 19, "question": 4, "glance": 4, "vision": 4}
    batch = next(iter(data.test_dataloader()))
    first = samples.index[samples["sample_id"] == data.parts["test"].outcomes.samples["sample_id"][0]][0]
    assert torch.equal(batch.question_BD[0], torch.from_numpy(question[first]).float())
    assert torch.equal(batch.glance_BD, -batch.question_BD)
    assert batch.vision_BTD.shape[1:] == (3, 4)
    replace(features, samples=tuple((d, "test", i) for d, _, i in keys)).write(Path("other.safetensors"))
    with pytest.raises(FeatureFileError, match=r"other.safetensors: lacks 240 of the profile's 240 samples"):
        data_of(file, features="other.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_by": "row"}, "split_by: must be one of image, profile, got 'row'"),
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"budgets_ms": [5.0, float("nan")]}, r"budgets_ms\[1\]: must be a positive number of milliseconds, got nan"),
        ({"budgets_ms": []}, "budgets_ms: needs at least one"),
        ({"train_fraction": 1.2}, "train_fraction: must be between 0 and 1"),
        ({"train_fraction": 0.9}, "must be at most 1"),
        ({"calibration_fraction": 0.0}, "no image is in the part 'calibration'"),
        ({"dataset_names": ["birds"]}, "dataset_names: the profile has colors, signs, got 'birds'"),
        ({"features": "gone.safetensors"}, "no such file"),
    ],
)
def test_bad_arguments_are_named(file: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_of(file, **changes)


class GoodputModule(LightningModule):
    """Regress goodput by the free features: enough to see batches arrive through Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(20, 18)
        self.seen: list[int] = []

    def training_step(self, batch: ControllerBatch, batch_idx: int) -> Tensor:
        assert isinstance(batch, ControllerBatch)
        self.seen.append(len(batch))
        return self._loss(batch)

    def validation_step(self, batch: ControllerBatch, batch_idx: int) -> None:
        self.log("val/loss", self._loss(batch), batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)

    def _loss(self, batch: ControllerBatch) -> Tensor:
        known = torch.cat([batch.free_BF, batch.budget_ms_B.log()[:, None]], dim=1)
        goodput = batch.accuracy_BS * (batch.latency_ms_BS <= batch.budget_ms_B[:, None])
        squared_BS: Tensor = (self.head(known) - goodput) ** 2
        return squared_BS[batch.is_measured_BS].mean()


def test_lightning_trains_on_the_batches(file: str) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module, data = GoodputModule(), data_of(file)
    trainer.fit(module, datamodule=data)
    assert sum(module.seen) == 3 * (len(data.parts["train"]) // 16 * 16)
    assert trainer.callback_metrics["val/loss"] < 1


def test_an_estimator_tells_training_its_latencies_and_nothing_else() -> None:
    file = str(write_shaped_world(Path("shaped.parquet"), num_images=60))
    measured = data_of(file)
    estimated = data_of(file, estimator=write_estimator(file))
    assert estimated.profile_facts == measured.profile_facts
    assert estimated.budgets_ms == measured.budgets_ms
    for loader in ("val_dataloader", "calibration_dataloader", "test_dataloader"):
        assert torch.equal(
            joined(getattr(estimated, loader)(), "latency_ms_BS"), joined(getattr(measured, loader)(), "latency_ms_BS")
        )
    known, told = (next(iter(data.train_dataloader())) for data in (measured, estimated))
    for name in ("accuracy_BS", "budget_ms_B", "is_measured_BS", "vision_done_ms_BT", "free_BF", "sample_B"):
        assert torch.equal(getattr(told, name), getattr(known, name)), name
    assert not torch.equal(told.latency_ms_BS, known.latency_ms_BS)
    ratio = (told.latency_ms_BS / known.latency_ms_BS).median()
    assert 0.5 < ratio < 2  # the world's law is another one than the estimator's


def test_an_estimator_of_another_device_is_refused_before_anything_is_trained() -> None:
    file = str(write_shaped_world(Path("shaped.parquet"), num_images=60))
    estimator = write_estimator(file, device="another")
    with pytest.raises(ValueError, match="estimator: knows another, but the profile is of a synthetic device"):
        data_of(file, estimator=estimator)


def answers_to_more(num_images: int = 90) -> str:
    """Write untimed answers to the questions of a larger world, on another device."""
    rows = untimed(world_rows(num_images=num_images, runs=1, seed=1))
    rows["output_tokens"] = 2 + rows["sample"] % 5
    environment = ENVIRONMENT.model_copy(update={"device": "another", "model_shape": block_hf_config(16)})
    write_profile(world_table(rows, environment=environment), Path("answers.parquet"))
    return "answers.parquet"


def test_answers_add_samples_to_training_and_to_nothing_else() -> None:
    file = str(write_shaped_world(Path("shaped.parquet"), num_images=60))
    alone, more = data_of(file), data_of(file, answers=[answers_to_more()])
    assert more.budgets_ms == alone.budgets_ms
    assert (more.fastest_ms, more.slowest_ms) == (alone.fastest_ms, alone.slowest_ms)
    for loader in ("val_dataloader", "calibration_dataloader", "test_dataloader"):
        for name in ("accuracy_BS", "latency_ms_BS", "sample_B"):
            assert torch.equal(joined(getattr(more, loader)(), name), joined(getattr(alone, loader)(), name))
    num_measured = len(alone.taught)
    np.testing.assert_array_equal(more.taught.outcomes.accuracy_NS[:num_measured], alone.taught.outcomes.accuracy_NS)
    elsewhere = {image for part in PARTS[1:] for image in more.parts[part].image_ids}  # type: ignore[index]
    assert not elsewhere & set(more.taught.image_ids)
    assert {f"i{number}" for number in range(60, 90)} <= set(more.taught.image_ids)
    np.testing.assert_allclose(more.feature_scale["free"][0], more.taught.features.free_NF.mean(axis=0))
    mean_S = more.taught.outcomes.accuracy_NS.mean(axis=0)
    np.testing.assert_allclose(more.profile_facts["population_accuracy"], mean_S)


def test_an_estimator_tells_each_answer_the_time_of_its_own_length() -> None:
    file = str(write_shaped_world(Path("shaped.parquet"), num_images=60))
    outcomes = data_of(file, estimator=write_estimator(file), answers=[answers_to_more()]).taught.outcomes
    assert np.isfinite(outcomes.latency_ms_NS).all()
    is_new = outcomes.samples["image_id"].isin([f"i{number}" for number in range(60, 90)]).to_numpy()
    new = outcomes.take(is_new)
    rest_ms = new.latency_ms_NS[:, 0] - new.preprocess_ms_NT[:, 0]
    tokens = new.output_tokens_NS[:, 0]
    for count in np.unique(new.vision_tokens_NT[:, 0]):
        alike = new.vision_tokens_NT[:, 0] == count
        step_ms = np.diff(rest_ms[alike][np.argsort(tokens[alike])])[np.diff(np.sort(tokens[alike])) == 1]
        assert (step_ms > 0.5).all()
        np.testing.assert_allclose(step_ms, step_ms[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"online": AnswerSource(snapshot="model"), "estimator": "e.ckpt"},
        {"prompts": PromptSource(snapshot="model")},
    ],
)
def test_answers_go_neither_with_prompts_nor_online(file: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="answers: go neither with prompts nor"):
        data_of(file, answers=["answers.parquet"], **changes)
