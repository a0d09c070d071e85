"""The ``controller-features`` command: embed the samples of a profile once, so that training needs no images."""

# Shape suffixes: B = samples of a batch, N = samples, T = tiers, D = width of the language model.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.inputs import PAD, collate
from models.knobs import Tier, Tiling
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from models.weights_digest import weights_digest
from profiling.controllers.embeddings import glance_embedding, question_embedding, vision_embedding
from profiling.controllers.feature_file import FeatureFile, SampleKey
from profiling.controllers.outcomes import KEY, Outcomes, read_outcomes
from profiling.datasets.catalogue import dataset_entry, read_dataset
from profiling.datasets.official import DatasetError
from profiling.datasets.sample import Sample
from profiling.model_source import DtypeName
from profiling.progress import progress_bar
from profiling.sample_batches import SampleText
from profiling.schema import AnswerRecord

_SUFFIX: Final = ".safetensors"
_MOST_THINNED: Final = 20  # times as many samples of a split are looked through as are wanted


def controller_features(
    model: str,
    files: list[Path],
    output: Path,
    *,
    root: str | None = None,
    json_lines: list[Path] | None = None,
    tiling: Tiling = "target",
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: DtypeName = "float32",
    batch_size: int = 32,
) -> None:
    """Embed the questions and images of a profile's samples with the model that was profiled.

    The file names the model's weights and the samples; data that do not match it are refused.

    Args:
        model: Snapshot folder, or a hub id in the local cache.
        files: Profiles, or answers of ``answer-grid``, whose samples to embed: files, folders or glob patterns.
        output: A ``.safetensors`` file; replaced if it exists.
        root: Folder of the datasets; null takes the environment variable ``MOLMO_DATA_DIR``.
        json_lines: Files of datasets that are none of the catalogue; a profile knows them by the file's name.
        tiling: How tiers are applied to images; as in the profile.
        device: Where to run.
        dtype: Type of the weights while running; the file is float16.
        batch_size: Samples that are embedded at once.

    Raises:
        ValueError: If the model is not the profile's, a sample is no longer in its dataset, or a file is bad.
    """
    if output.suffix != _SUFFIX:
        raise ValueError(f"output: file name must end in {_SUFFIX}, got {output.name!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size: must be 1 or more, got {batch_size}")
    outcomes = read_outcomes(files, record=AnswerRecord)
    directory = snapshot_directory(model)
    hf_config = read_hf_config(directory)
    check_shape(outcomes, hf_config, model)
    samples = find_samples(outcomes, root=root, json_lines=json_lines or [])
    embedder = Embedder.load(model, outcomes.grid.tiers, tiling=tiling, device=device, dtype=dtype)
    console = Console()
    with progress_bar(console) as progress:
        task = progress.add_task("embedding", total=len(samples))
        question_ND, glance_ND, vision_NTD = embedder.embed(
            samples, batch_size=batch_size, advance=lambda count: progress.advance(task, count)
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    FeatureFile(
        model_digest=weights_digest(directory),
        model_shape=hf_config,
        tiers=tuple(tier.name for tier in outcomes.grid.tiers),
        tiling=tiling,
        samples=tuple(_keys(outcomes)),
        question_ND=question_ND.half().numpy(),
        glance_ND=glance_ND.half().numpy(),
        vision_NTD=vision_NTD.half().numpy(),
    ).write(output)
    console.print(f"wrote {output}: {len(samples)} samples, {vision_NTD.shape[2]} numbers a vector")


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedder:
    """A model with all that embedding samples takes.

    Args:
        model: The model, on its device.
        processor: Its processor, of the same device.
        text: Makes ids of questions.
        tiers: The tiers to embed images at.
        tiling: How they are applied.
    """

    model: Molmo
    processor: MolmoProcessor
    text: SampleText
    tiers: tuple[Tier, ...]
    tiling: Tiling

    @classmethod
    def load(cls, source: str, tiers: tuple[Tier, ...], *, tiling: Tiling, device: str, dtype: DtypeName) -> "Embedder":
        """Load a model.

        Raises:
            ValueError: If it cannot be read.
        """
        model = load_molmo(source, device=device, dtype=getattr(torch, dtype))
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(source))
        processor = MolmoProcessor(model.config, special_tokens, tokenizer, device=device)
        return cls(
            model=model, processor=processor, text=SampleText(tokenizer, special_tokens), tiers=tiers, tiling=tiling
        )

    @torch.no_grad()
    def embed(
        self, samples: Sequence[Sample], *, batch_size: int, advance: Callable[[int], None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed samples.

        Args:
            samples: At least one.
            batch_size: Most samples at once.
            advance: Told how many more are done.

        Returns:
            Questions and overviews ``(samples, width)``, and pictures ``(samples, tiers, width)``, float32, on the CPU.

        Raises:
            ValueError: If an image is missing or broken.
        """
        embedded = []
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            embedded.append([vectors.cpu() for vectors in self._embed_batch(part)])
            advance(len(part))
        question_ND, glance_ND, vision_NTD = (torch.cat(parts) for parts in zip(*embedded, strict=True))
        return question_ND, glance_ND, vision_NTD

    def _embed_batch(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
        images = [sample.image.open() for sample in samples]
        prompts = [torch.tensor(self.text.prompt_ids(sample)) for sample in samples]
        ids_BS = pad_sequence(prompts, batch_first=True, padding_value=PAD).to(self.processor.image_processor.device)
        overviews = [self.processor.image_processor.overview(image) for image in images]
        glance = self.model.glance(
            torch.stack([overview.crop for overview in overviews]),
            torch.stack([overview.patch_mask for overview in overviews]),
        )
        by_tier = []
        for tier in self.tiers:
            inputs = collate(
                [self.processor.from_token_ids([], overview, tier=tier, tiling=self.tiling) for overview in overviews]
            )
            vision_tokens = self.model.encode_images(inputs, glance=glance)
            assert vision_tokens is not None, "every sample has an image"
            by_tier.append(vision_embedding(inputs, vision_tokens))
        return question_embedding(self.model, ids_BS), glance_embedding(glance), torch.stack(by_tier, dim=1)


def find_samples(outcomes: Outcomes, *, root: str | None, json_lines: Sequence[Path]) -> list[Sample]:
    """Find a profile's samples in their datasets, in the profile's order.

    A profile says its own part of each sample, not the split that it was drawn from, so splits are searched until all
    samples of a dataset are found: by id, image and question.

    Raises:
        ValueError: If a dataset is unknown, or a sample is in none of its splits that can be read.
    """
    source_of = {path.stem: str(path) for path in json_lines}
    wanted = [_Wanted(*row) for row in outcomes.samples[list(_Wanted._fields)].itertuples(index=False)]
    found: dict[_Wanted, Sample] = {}
    for dataset in dict.fromkeys(sample.dataset for sample in wanted):
        members = {sample for sample in wanted if sample.dataset == dataset}
        found |= _search(members, source_of.get(dataset, dataset), root=root)
    return [found[sample] for sample in wanted]


class _Wanted(NamedTuple):
    """What tells a sample apart from all others of all splits."""

    dataset: str
    sample_id: str
    image_id: str
    question: str


def _search(wanted: set[_Wanted], source: str, *, root: str | None) -> dict[_Wanted, Sample]:
    entry = dataset_entry(source)
    found: dict[_Wanted, Sample] = {}
    unreadable: list[str] = []
    # A profile of a generated dataset asks the first samples of a split, one that was cut or thinned out some of them.
    for num_samples in (None,) if entry.make is None else (len(wanted), _MOST_THINNED * len(wanted)):
        for split in entry.splits:
            try:
                samples = read_dataset(source, split, root=root, num_samples=num_samples)
            except DatasetError as err:  # people have some splits of a dataset and not others
                unreadable.append(str(err))
                continue
            by_name = {_Wanted(s.dataset, s.sample_id, s.image_id, s.question): s for s in samples}
            found |= {name: by_name[name] for name in wanted & by_name.keys()}
            if len(found) == len(wanted):
                return found
    missing = min(wanted - found.keys())
    also = f"; splits that cannot be read: {'; '.join(dict.fromkeys(unreadable))}" if unreadable else ""
    raise ValueError(
        f"files: {len(wanted) - len(found)} of {len(wanted)} samples of {source} are in none of its splits "
        f"{', '.join(entry.splits)}, first {missing.sample_id} ({missing.question!r}){also}"
    )


def _keys(outcomes: Outcomes) -> list[SampleKey]:
    return [
        (str(dataset), str(split), str(sample_id))
        for dataset, split, sample_id in outcomes.samples[list(KEY)].itertuples(index=False)
    ]


def check_shape(outcomes: Outcomes, hf_config: Mapping[str, object], model: str) -> None:
    """Check that a model, by its ``config.json``, is of the profiled one's shape.

    Raises:
        ValueError: If it is not.
    """
    shape = outcomes.environment.model_shape
    if shape is not None and shape != hf_config:
        raise ValueError(f"model: {model} is not the model of the profile, {outcomes.environment.model}: other shape")
