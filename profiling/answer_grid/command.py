"""The ``answer-grid`` command: every setting's answers to many questions, in batches, without their times."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import pyarrow.parquet as pq
import torch
from rich.console import Console

from models.checkpoint import snapshot_directory
from models.knobs import KnobGrid
from models.weights_digest import weights_digest
from profiling.answer_grid.asking import ask_grid
from profiling.answer_grid.rows import answer_table
from profiling.datasets.image_split import Part
from profiling.datasets.sample import Sample
from profiling.model_source import GridLevels, ModelSource
from profiling.progress import progress_bar
from profiling.questions import Questions
from profiling.records import read_profiles, write_profile
from profiling.sample_batches import FamilyBatches, SampleText
from profiling.schema import AnswerRecord, Environment
from profiling.subsets.store import claim

_NOTE_FILE: Final = "answers.json"
_BATCHES_FOLDER: Final = "batches"


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """What is asked; the same for the run that starts it and those that resume it.

    Args:
        model: The model.
        questions: The questions of a profile, in all its parts, so that the parts share no picture here either; with
            numbers of their own.
        part: The part that is answered.
        levels: The knobs.
        batch_size: Questions that are answered at once. A run that is stopped loses the batch that it is at.

    Raises:
        ValueError: If the batches are empty, or no dataset has the part.
    """

    model: ModelSource
    questions: Questions
    part: Part = "train"
    levels: GridLevels = field(default_factory=GridLevels)
    batch_size: int = 1000

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be 1 or more, got {self.batch_size}")
        if not any(self.part in splits for splits in self.questions.datasets.values()):
            raise ValueError(f"part: no dataset of the questions has a part {self.part!r}")

    def samples(self) -> list[Sample]:
        """Read the questions of the part. Pictures stay closed."""
        return [request.sample for request in self.questions.requests() if request.split == self.part]

    def knob_grid(self) -> KnobGrid:
        """Return the settings."""
        return self.levels.grid_of(self.model)


def answer_grid(
    inquiry: Inquiry,
    output_dir: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Answer questions in batches with every knob setting: what controllers learn accuracies from, but no times.

    Writes one Parquet file a batch; started again with the same arguments it goes on where it stopped. At the end it
    joins them to ``answers.parquet``: a profile's rows without their times.

    Args:
        inquiry: What to ask.
        output_dir: Folder of the results.
        device: Where to run.
        num_threads: CPU threads; PyTorch's choice if null.

    Raises:
        ValueError: If the model or a dataset cannot be read, pictures of a dataset differ in size, or the folder holds
            answers to something else.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    console = Console()
    samples, grid = inquiry.samples(), inquiry.knob_grid()
    claim(output_dir, asdict(inquiry), file_name=_NOTE_FILE)
    total = len(samples) * len(grid.settings())
    console.print(f"{total} answers to {len(samples)} questions, into {output_dir}")
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("answering", total=total)
            paths = _answer(
                inquiry, samples, grid, output_dir, device=device, advance=lambda count: progress.advance(task, count)
            )
    except KeyboardInterrupt:
        console.print("interrupted: what was answered is kept, the same command goes on with the rest")
        raise
    table = read_profiles(paths, record=AnswerRecord)
    write_profile(table, output_dir / "answers.parquet")
    console.print(f"wrote {output_dir / 'answers.parquet'}")


def _answer(
    inquiry: Inquiry,
    samples: list[Sample],
    grid: KnobGrid,
    output_dir: Path,
    *,
    device: str,
    advance: Callable[[int], None],
) -> list[Path]:
    """Answer what is not answered yet; return the file of each batch."""
    source = inquiry.model
    model = source.load(device)
    processor = source.processor(model, device, reads_words=True)
    environment = _environment(source, device, grid)
    batches = FamilyBatches(samples, SampleText(processor.tokenizer, processor.special_tokens), inquiry.batch_size)
    folder = output_dir / _BATCHES_FOLDER
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{index:05}.parquet" for index in range(len(batches))]
    for index, path in enumerate(paths):
        if path.exists():
            advance(pq.read_metadata(path).num_rows)
            continue
        batch = batches[index].to(device)
        answers = ask_grid(model, processor, batch, grid, advance)
        write_profile(answer_table(batch, answers, grid, environment, part=inquiry.part), path)
    return paths


def _environment(source: ModelSource, device: str, grid: KnobGrid) -> Environment:
    environment = source.environment(device, engine="eager", grid=grid)
    if source.random_weights:
        return environment
    digest = weights_digest(snapshot_directory(source.name))
    return environment.model_copy(update={"weights_digest": digest})
