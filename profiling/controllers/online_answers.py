"""Accuracies of the settings that a policy draws, by really running the frozen model, each of them once."""

# Shape suffixes: B = requests, N = samples, S = settings, C = crops, T = tokens of a crop, D = width of the model.

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.generation import encode_images, generate
from models.inputs import ModelInputs, collate
from models.knobs import KnobGrid, Tiling
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from profiling.controllers.extraction import check_shape, find_samples
from profiling.controllers.outcomes import Outcomes
from profiling.datasets.catalogue import dataset_entry
from profiling.model_source import DtypeName
from profiling.questions import QuestionRequest


@dataclass(frozen=True, kw_only=True)
class AnswerSource:
    """The model that was profiled, to answer the profile's questions again.

    Args:
        snapshot: Folder of the model, or a hub id in the local cache.
        root: Folder of the datasets; null takes the environment variable ``MOLMO_DATA_DIR``.
        json_lines: Files of datasets that are none of the catalogue; a profile knows them by the file's name.
        tiling: How tiers are applied to images; as in the profile.
        device: Where to run.
        dtype: Type of the weights; as in the profile.
        batch_size: Most requests, all of one setting, that are answered at once.

    Raises:
        ValueError: If no request is to be answered at once.
    """

    snapshot: str
    root: str | None = None
    json_lines: Sequence[str] = ()
    tiling: Tiling = "target"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: DtypeName = "float32"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"online: batch_size: must be 1 or more, got {self.batch_size}")

    def load(self, outcomes: Outcomes) -> "OnlineAnswers":
        """Load the model and find the questions of a profile's samples, in their order.

        Raises:
            ValueError: If the model is not the profile's, or a sample is no longer in its dataset.
        """
        folder = snapshot_directory(self.snapshot)
        check_shape(outcomes, read_hf_config(folder), self.snapshot)
        questions = self._questions(outcomes)
        model = load_molmo(str(folder), device=self.device, dtype=getattr(torch, self.dtype))
        tokenizer, special_tokens = load_tokenizer(folder)
        return OnlineAnswers(
            model.requires_grad_(False).eval(),
            MolmoProcessor(model.config, special_tokens, tokenizer, device=self.device),
            outcomes.grid,
            questions,
            tiling=self.tiling,
            batch_size=self.batch_size,
        )

    def _questions(self, outcomes: Outcomes) -> list[QuestionRequest]:
        files = [Path(file) for file in self.json_lines]
        source_of = {file.stem: str(file) for file in files}
        questions = []
        for sample in find_samples(outcomes, root=self.root, json_lines=files):
            entry = dataset_entry(source_of.get(sample.dataset, sample.dataset))
            questions.append(
                QuestionRequest(
                    sample=sample, split=sample.split, max_new_tokens=entry.max_new_tokens, score_name=entry.score
                )
            )
        return questions


class _Encoded(NamedTuple):
    """A question at a tier: its ids, and where its vision tokens, ``(1, crops, tokens, width)``, belong among them."""

    inputs: ModelInputs
    vision_tokens: Tensor


class OnlineAnswers:
    """Run settings on samples when they are asked for, and remember what came of them.

    Answers are greedy, so that each is made once; pictures are encoded once at each tier. All of it stays in memory.

    Args:
        model: The model, on its device.
        processor: Its processor, of the same device.
        grid: The settings.
        questions: What each sample asks.
        tiling: How tiers are applied to images.
        batch_size: Most requests, all of one setting, that are answered at once.
    """

    def __init__(
        self,
        model: Molmo,
        processor: MolmoProcessor,
        grid: KnobGrid,
        questions: Sequence[QuestionRequest],
        *,
        tiling: Tiling = "target",
        batch_size: int = 32,
    ) -> None:
        self._model = model
        self._processor = processor
        self._grid = grid
        self._questions = questions
        self._tiling: Tiling = tiling
        self._batch_size = batch_size
        self._settings = grid.settings()
        self._encoded: dict[tuple[int, str], _Encoded] = {}
        self._accuracy_NS = torch.full((len(questions), len(self._settings)), torch.nan)
        self.num_remembered = 0

    @property
    def num_run(self) -> int:
        """Pairs of a sample and a setting that were run by now."""
        return int(self._accuracy_NS.isfinite().sum())

    def run(self, sample_B: Tensor, is_wanted_BS: Tensor) -> Tensor:
        """Run what is wanted and was never run before.

        Args:
            sample_B: ``(batch,)`` int64 samples.
            is_wanted_BS: ``(batch, settings)`` bool.

        Returns:
            Accuracies of all settings, ``(batch, settings)`` float32, 0 to 1; NaN where a setting was never run.

        Raises:
            ValueError: If an image is missing or broken.
        """
        sample, wanted = sample_B.cpu(), is_wanted_BS.cpu()
        is_wanted_NS = torch.zeros(self._accuracy_NS.shape).index_add(0, sample, wanted.float()) > 0
        is_new_NS = is_wanted_NS & self._accuracy_NS.isnan()
        self.num_remembered += int(is_wanted_NS.sum() - is_new_NS.sum())
        for setting in is_new_NS.any(dim=0).nonzero().flatten().tolist():
            for rows in is_new_NS[:, setting].nonzero().flatten().split(self._batch_size):
                self._accuracy_NS[rows, setting] = torch.tensor(self._answer(rows.tolist(), setting))
        return self._accuracy_NS[sample].to(sample_B.device)

    def _answer(self, samples: Sequence[int], setting: int) -> list[float]:
        """Run one setting on some samples and return their accuracies."""
        questions = [self._questions[sample] for sample in samples]
        encoded = [self._encode(sample, self._settings[setting].tier) for sample in samples]
        num_crops = max(one.vision_tokens.shape[1] for one in encoded)
        tokens = [F.pad(one.vision_tokens, [0, 0, 0, 0, 0, num_crops - one.vision_tokens.shape[1]]) for one in encoded]
        generation = generate(
            self._model,
            collate([one.inputs for one in encoded]),
            setting=self._settings[setting],
            max_new_tokens=max(question.max_new_tokens for question in questions),
            stop_token_ids=(self._processor.special_tokens.eos_id,),
            vision_tokens=torch.cat(tokens),
        )
        accuracies = []
        for question, ids in zip(questions, generation.token_ids.tolist(), strict=True):
            score = question.score(self._processor.decode(ids[: question.max_new_tokens]))
            assert score is not None, "a question of a profile with answers has one to be scored by"
            accuracies.append(score.value)
        return accuracies

    def _encode(self, sample: int, tier: str) -> _Encoded:
        if (sample, tier) not in self._encoded:
            question = self._questions[sample]
            ids = self._processor.tokenizer.encode(question.prompt(self._model.config.vocab_size))
            image = question.open_image()
            inputs = self._processor.from_token_ids(ids, image, tier=self._grid.tier(tier), tiling=self._tiling)
            vision_tokens = encode_images(self._model, inputs)
            assert vision_tokens is not None, "every sample has an image"
            # The crops are not needed any more.
            placed = ModelInputs(input_ids=inputs.input_ids, token_index=inputs.token_index)
            self._encoded[sample, tier] = _Encoded(inputs=placed, vision_tokens=vision_tokens)
        return self._encoded[sample, tier]
