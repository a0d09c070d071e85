"""The ``evaluate-vlm`` command: how right a snapshot's answers are, by family and knob setting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from rich.console import Console

from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.knobs import KnobGrid, KnobSetting, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.answers import answer_batch, score_answers, spot_settings
from profiling.datasets.catalogue import read_dataset
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.majority import MajorityAnswers
from profiling.model_source import DtypeName, GridLevels
from profiling.progress import progress_bar
from profiling.sample_batches import FamilyBatches, SampleText
from profiling.vlm_batch import VLMBatch

_NUM_TRAINING: Final = 20_000  # samples that the majority is counted in
_BLIND: Final = "blind"
_MAJORITY: Final = "majority"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How right the answers of one family were with one setting.

    Args:
        family: Name of the dataset.
        setting: What the model ran with; the full setting where it was not shown the pictures or not asked at all.
        baseline: ``blind`` without pictures, ``majority`` without a model, null for the model itself.
        accuracy: Mean score.
        num_samples: How many samples it is the mean of.
    """

    family: str
    setting: KnobSetting
    baseline: Literal["blind", "majority"] | None
    accuracy: float
    num_samples: int

    def to_json(self) -> dict[str, Any]:
        """Return a row of the report."""
        return {
            "family": self.family,
            "tier": self.setting.tier,
            "top_k": self.setting.top_k,
            "num_active_blocks": self.setting.num_active_blocks,
            "active_blocks": list(self.setting.active_blocks),
            "baseline": self.baseline,
            "accuracy": self.accuracy,
            "num_samples": self.num_samples,
        }


def evaluate_vlm(
    model: str,
    output_dir: Path,
    datasets: list[str],
    *,
    split: str = "test",
    num_samples: int = 1000,
    whole_grid: bool = True,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: DtypeName = "bfloat16",
    batch_size: int = 1000,
    root: str | None = None,
    seed: int = 42,
) -> None:
    """Answer test samples with each knob setting, without pictures, and by majority; write how right that is.

    Writes ``accuracy.json`` and ``accuracy.md``.

    Args:
        model: Snapshot folder, or a hub id in the local cache.
        output_dir: Where to write.
        datasets: Names of datasets whose pictures are all of one size, see docs/datasets.md.
        split: Part of each dataset.
        num_samples: How many samples of each; the first that are drawn with the seed.
        whole_grid: Whether to try every setting, or only the full one and those with one knob all the way down.
        device: Where to run.
        dtype: Type of the weights.
        batch_size: Samples that are answered at once.
        root: Folder of the datasets.
        seed: Of the samples drawn.

    Raises:
        ValueError: If the model or a dataset cannot be read.
    """
    evaluation = _Evaluation(model, device=device, dtype=dtype)
    spots = evaluation.spots
    settings = evaluation.grid.settings() if whole_grid else []
    settings = [*spots.values(), *(setting for setting in settings if setting not in spots.values())]
    rows: list[Accuracy] = []
    console = Console()
    with progress_bar(console) as progress:
        task = progress.add_task("answering", total=len(datasets) * (len(settings) + 1))
        for name in datasets:
            samples = read_dataset(name, split, root=root, num_samples=num_samples, seed=seed)
            batches = [batch.to(device) for batch in FamilyBatches(samples, evaluation.text, batch_size)]
            for setting in settings:
                rows.append(evaluation.accuracy(batches, setting))
                progress.advance(task)
            rows.append(evaluation.accuracy(batches, spots["full"], is_blind=True))
            progress.advance(task)
            training = read_dataset(name, "train", root=root, num_samples=_NUM_TRAINING, seed=seed)
            rows.append(_majority_accuracy(MajorityAnswers(training), batches, spots["full"]))
    output_dir.mkdir(parents=True, exist_ok=True)
    environment = evaluation.environment(model, device=device, dtype=dtype)
    report = {"environment": environment, "split": split, "seed": seed, "rows": [row.to_json() for row in rows]}
    write_json(output_dir / "accuracy.json", report)
    text = markdown(rows, evaluation.grid, spots["full"], title=f"{model}, {split} samples, {environment['device']}")
    with written_whole(output_dir / "accuracy.md") as partial:
        partial.write_text(text)
    console.print(text)


class _Evaluation:
    """A model with all that asking it takes."""

    def __init__(self, source: str, *, device: str, dtype: str) -> None:
        folder = snapshot_directory(source)
        self.hf_config = read_hf_config(folder)
        self.model: Molmo = load_molmo(source, device=device, dtype=getattr(torch, dtype))
        tokenizer, special_tokens = load_tokenizer(folder)
        self.processor = MolmoProcessor(self.model.config, special_tokens, tokenizer, device=device)
        self.text = SampleText(tokenizer, special_tokens)
        self.grid: KnobGrid = GridLevels().grid(self.model.config, own_grid(self.hf_config, source=source))
        self.spots = spot_settings(self.grid, self.model.full_setting)

    def accuracy(self, batches: Sequence[VLMBatch], setting: KnobSetting, *, is_blind: bool = False) -> Accuracy:
        """Ask the questions of one dataset."""
        values = [
            score.value
            for batch in batches
            for score in score_answers(
                answer_batch(self.model, self.processor, batch, setting, self.grid, is_blind=is_blind), batch.samples
            )
        ]
        return _mean(batches, setting, values, baseline=_BLIND if is_blind else None)

    def environment(self, name: str, *, device: str, dtype: str) -> dict[str, Any]:
        """Describe what ran where."""
        environment = collect_environment(
            torch.device(device), engine="eager", dtype=dtype, model=name, model_shape=self.hf_config
        )
        return environment.model_dump(mode="json")


def markdown(rows: Iterable[Accuracy], grid: KnobGrid, full: KnobSetting, *, title: str) -> str:
    """Write two tables: families by single knobs and baselines, and the mean over families for every setting."""
    spots = spot_settings(grid, full)
    by_family: dict[str, dict[str, Accuracy]] = {}
    by_setting: dict[KnobSetting, list[float]] = {}
    for row in rows:
        names = [row.baseline] if row.baseline else [name for name, spot in spots.items() if spot == row.setting]
        by_family.setdefault(row.family, {}).update(dict.fromkeys(names, row))
        if row.baseline is None:
            by_setting.setdefault(row.setting, []).append(row.accuracy)
    columns = [*spots, _BLIND, _MAJORITY]
    lines = [f"# Accuracy of {title}", "", _line(["family", "n", *columns]), _line(["---"] * (len(columns) + 2))]
    for family, cells in by_family.items():
        numbers = [f"{cells[column].accuracy:.3f}" for column in columns]
        lines.append(_line([family, str(cells["full"].num_samples), *numbers]))
    counts = list(grid.blocks_by_count)
    lines += ["", "Mean over the families, by setting:", ""]
    lines += [_line(["tier", "top_k", *(f"{count} blocks" for count in counts)]), _line(["---"] * (len(counts) + 2))]
    for tier in grid.tiers:
        for top_k in grid.top_k:
            means = [by_setting.get(grid.setting(tier=tier.name, top_k=top_k, num_active_blocks=c)) for c in counts]
            cells_ = ["" if mean is None else f"{sum(mean) / len(mean):.3f}" for mean in means]
            if any(cells_):
                lines.append(_line([tier.name, str(top_k), *cells_]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _majority_accuracy(majority: MajorityAnswers, batches: Sequence[VLMBatch], full: KnobSetting) -> Accuracy:
    values = [
        score.value
        for batch in batches
        for score in score_answers([majority.answer(sample) for sample in batch.samples], batch.samples)
    ]
    return _mean(batches, full, values, baseline=_MAJORITY)


def _mean(
    batches: Sequence[VLMBatch],
    setting: KnobSetting,
    values: Sequence[float],
    *,
    baseline: Literal["blind", "majority"] | None,
) -> Accuracy:
    return Accuracy(
        family=batches[0].samples[0].dataset,
        setting=setting,
        baseline=baseline,
        accuracy=sum(values) / len(values),
        num_samples=len(values),
    )
