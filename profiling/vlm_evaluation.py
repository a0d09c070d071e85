"""The ``evaluate-vlm`` command: how right a snapshot's answers are, by family and knob setting."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from rich.console import Console

from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.knobs import KnobGrid, KnobSetting, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.answers import answer_batch, score_answers, spot_settings
from profiling.datasets.catalogue import read_dataset
from profiling.datasets.sample import Sample
from profiling.environment import collect_environment
from profiling.files import write_json, written_whole
from profiling.majority import MajorityAnswers
from profiling.model_source import DtypeName, GridLevels
from profiling.progress import progress_bar
from profiling.sample_batches import FamilyBatches, SampleText
from profiling.schema import Environment
from profiling.vlm_accuracy import BLIND, MAJORITY, Accuracy, AccuracyReport, KindAccuracy
from profiling.vlm_batch import VLMBatch

_NUM_TRAINING: Final = 20_000  # samples that the majority is counted in


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

    For the full setting also by kind of question. Writes ``accuracy.json`` and ``accuracy.md``.

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
    settings = list(evaluation.spots.values())
    settings += [s for s in evaluation.grid.settings() if whole_grid and s not in settings]
    rows: list[Accuracy] = []
    kinds: list[KindAccuracy] = []
    console = Console()
    with progress_bar(console) as progress:
        task = progress.add_task("answering", total=len(datasets) * (len(settings) + 1))
        for name in datasets:
            samples = read_dataset(name, split, root=root, num_samples=num_samples, seed=seed)
            batches = [batch.to(device) for batch in FamilyBatches(samples, evaluation.text, batch_size)]
            for setting in settings:
                values = evaluation.scores(batches, setting)
                rows.append(Accuracy.of(name, setting, values))
                if setting == evaluation.full:
                    kinds += _by_kind(name, _samples(batches), values)
                progress.advance(task)
            blind = evaluation.scores(batches, evaluation.full, is_blind=True)
            rows.append(Accuracy.of(name, evaluation.full, blind, baseline=BLIND))
            progress.advance(task)
            training = read_dataset(name, "train", root=root, num_samples=_NUM_TRAINING, seed=seed)
            majority = _majority_scores(MajorityAnswers(training), _samples(batches))
            rows.append(Accuracy.of(name, evaluation.full, majority, baseline=MAJORITY))
    environment = evaluation.environment(model, device=device, dtype=dtype)
    report = AccuracyReport(environment=environment, split=split, seed=seed, rows=tuple(rows), kinds=tuple(kinds))
    text = report.markdown(evaluation.grid, evaluation.full)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / "accuracy.json", report.model_dump(mode="json"))
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
        self.full = self.model.full_setting
        self.spots = spot_settings(self.grid, self.full)

    def scores(self, batches: Sequence[VLMBatch], setting: KnobSetting, *, is_blind: bool = False) -> list[float]:
        """Ask the questions of one dataset; return the score of each answer."""
        return [
            score.value
            for batch in batches
            for score in score_answers(
                answer_batch(self.model, self.processor, batch, setting, self.grid, is_blind=is_blind), batch.samples
            )
        ]

    def environment(self, name: str, *, device: str, dtype: str) -> Environment:
        """Describe what ran where."""
        return collect_environment(
            torch.device(device), engine="eager", dtype=dtype, model=name, model_shape=self.hf_config
        )


def _samples(batches: Sequence[VLMBatch]) -> list[Sample]:
    return [sample for batch in batches for sample in batch.samples]


def _majority_scores(majority: MajorityAnswers, samples: Sequence[Sample]) -> list[float]:
    return [score.value for score in score_answers([majority.answer(sample) for sample in samples], samples)]


def _by_kind(family: str, samples: Sequence[Sample], values: Sequence[float]) -> list[KindAccuracy]:
    """Average scores by kind and difficulty of the question; nothing of datasets that do not tell them apart."""
    groups: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for sample, value in zip(samples, values, strict=True):
        if "kind" in sample.tags and "difficulty" in sample.tags:
            groups[sample.tags["kind"], sample.tags["difficulty"]].append(value)
    return [
        KindAccuracy(
            family=family,
            kind=kind,
            difficulty=difficulty,
            accuracy=sum(scores) / len(scores),
            num_samples=len(scores),
        )
        for (kind, difficulty), scores in sorted(groups.items())
    ]
