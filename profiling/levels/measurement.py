"""Measure the meanings of levels: what is lost block by block, how right answers are, how long requests take."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.checkpoint import snapshot_directory
from models.engine import EngineName, make_engine
from models.inputs import ModelInputs
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.levels.candidates import Candidate, Kind
from profiling.levels.losses import sensitivity_jobs, sensitivity_losses, weight_losses
from profiling.levels.timing import LevelTimer, Timing
from profiling.resampling import Interval
from profiling.subsets.change import accuracy_change, mean_accuracy
from profiling.subsets.evaluations import Evaluations, Machine, open_evaluations
from profiling.subsets.job import Job, Measure, Outcome, Part, whole
from profiling.subsets.model_evaluator import EvaluatedModel
from profiling.subsets.parts import REPORT_PART, SEARCH_PART
from profiling.subsets.progress import counted
from profiling.subsets.retry import clean_memory

Answers = tuple[Outcome, Outcome]
"""On the samples that are chosen by, and on others."""
MassChanges = Mapping[int, tuple[float, Interval]]
"""By level: accuracy with router weights scaled to the mass of the trained top_k, and its change by that."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured, and where.

    Args:
        evaluated: The model, the datasets and the way that it is asked.
        output_dir: Folder of the results.
        top_k: The levels.
        num_samples: Samples of each dataset, by part.
        timing: How times are measured.
        machine: Where.
        console: Where progress is shown.
        seed: Of random tokens and of the order of timed runs.
    """

    evaluated: EvaluatedModel
    output_dir: Path
    top_k: tuple[int, ...]
    num_samples: Mapping[Part, int]
    timing: Timing
    machine: Machine
    console: Console
    seed: int

    def vision_share(self) -> float:
        """Return the share of vision tokens among the tokens of the prompts that are chosen by."""
        num_vision = num_tokens = 0
        num_samples = self.num_samples[SEARCH_PART]
        num_prompts = num_samples * len(self.evaluated.data.dataset_names)
        with counted(self.console, "share of vision tokens", num_prompts) as advance:
            for prompt in self._prompts(SEARCH_PART, num_samples, "cpu"):
                num_vision += int(prompt.num_vision_tokens)
                num_tokens += int(prompt.num_tokens)
                advance()
        return num_vision / num_tokens

    def losses(self, counts: Sequence[int]) -> dict[Kind, NDArray[np.float64]]:
        """Measure what is lost if a block has another number of experts: ``(blocks, counts)`` of either kind."""
        model = self.evaluated.model.load(self.machine.names[0])
        by_weights = weight_losses(model, counts, seed=self.seed)
        jobs = sensitivity_jobs(
            SEARCH_PART,
            num_blocks=model.config.num_blocks,
            trained_top_k=model.config.top_k,
            counts=counts,
            num_samples=self.num_samples[SEARCH_PART],
        )
        del model
        clean_memory()  # workers load it anew on the same device
        outcomes = self._outcomes(self.evaluated, self.output_dir, jobs, "sensitivity of blocks")
        by_samples = sensitivity_losses(outcomes, num_counts=len(counts))
        return {Kind.LAYER_WEIGHTS: by_weights, Kind.LAYER_SENSITIVITY: by_samples}

    def answers(self, found: Sequence[Candidate]) -> list[Answers]:
        """Let the model answer with each candidate."""
        jobs = [self._job(each, part) for each in found for part in (SEARCH_PART, REPORT_PART)]
        outcomes = self._outcomes(self.evaluated, self.output_dir, jobs, "answers of candidates")
        return list(zip(outcomes[::2], outcomes[1::2], strict=True))

    def mass_changes(self, found: Sequence[Candidate], answers: Sequence[Answers]) -> MassChanges:
        """Let the model answer with plain numbers and router weights of the trained mass."""
        matching = replace(self.evaluated, model=replace(self.evaluated.model, match_router_mass=True))
        plain = [(each, after) for each, (_, after) in zip(found, answers, strict=True) if each.kind is Kind.UNIFORM]
        jobs = [self._job(each, REPORT_PART) for each, _ in plain]
        outcomes = self._outcomes(matching, self.output_dir / "matched_mass", jobs, "answers with matched mass")
        return {
            each.top_k: (mean_accuracy(outcome), accuracy_change(before, outcome, seed=self.seed))
            for (each, before), outcome in zip(plain, outcomes, strict=True)
        }

    def times_ms(self, found: Sequence[Candidate]) -> tuple[list[NDArray[np.float64]], EngineName]:
        """Time each candidate; name the engine that ran."""
        device = self.machine.names[0]
        model = self.evaluated.model.load(device)
        engine = make_engine(self.timing.engine, model)
        requests = list(self._prompts(REPORT_PART, self.timing.num_requests, device))
        timer = LevelTimer(model, engine, requests, self.timing)
        with counted(self.console, "timing", self.timing.repeats * len(requests)) as advance:
            times_ms = timer.times_ms([each.experts for each in found], seed=self.seed, advance=advance)
        return times_ms, engine.name

    def _outcomes(
        self, evaluated: EvaluatedModel, folder: Path, jobs: Sequence[Job], description: str
    ) -> list[Outcome]:
        with self._open(evaluated, folder) as evaluations, counted(self.console, description, len(jobs)) as advance:
            return evaluations.outcomes(jobs, advance)

    def _open(self, evaluated: EvaluatedModel, folder: Path) -> AbstractContextManager[Evaluations]:
        num_samples = {part: [number] for part, number in self.num_samples.items()}
        return open_evaluations(evaluated, folder, self.machine, num_samples=num_samples)

    def _job(self, candidate: Candidate, part: Part) -> Job:
        return Job(
            blocks=whole(self.evaluated.config().num_blocks),
            measure=Measure.ANSWERS,
            part=part,
            num_samples=self.num_samples[part],
            experts=candidate.experts,
        )

    def _prompts(self, part: Part, num_samples: int, device: str) -> Iterator[ModelInputs]:
        """Cut pictures and read questions, as requests of one."""
        evaluated = self.evaluated
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(evaluated.model.name))
        processor = MolmoProcessor(evaluated.config(), special_tokens, tokenizer, device=device)
        for members in evaluated.data.samples(part, num_samples).values():
            for sample in members:
                question, image = evaluated.data.question(sample), sample.image.open()
                yield processor(question, image, tier=evaluated.tier, tiling=evaluated.tiling)
