"""Train a vision-language model of the Molmo family, elastically if wanted."""

# Shape suffixes: B = samples, S = ids of a text, V = vocabulary.

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lightning_modules.answer_metrics import MeanScore
from lightning_modules.checkpoints import check_sizes, stamp
from lightning_modules.elastic import ElasticDraw, LevelDraw
from lightning_modules.routing import balance_loss, z_loss
from models.checkpoint import load_molmo
from models.config import MolmoConfig, changed_hf_config
from models.initial_weights import initialize
from models.inputs import ModelInputs
from models.knobs import GRID_KEY, KnobSetting, spread_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import SnapshotTokenizer, SpecialTokens, load_tokenizer
from models.trainable import TrainableMolmo, TrainingLogits, converted
from models.trained_block import Routing
from profiling.answers import answer_batch, score_answers, spot_settings
from profiling.checkpoint_file import check_maker, read_checkpoint
from profiling.vlm_batch import IGNORED, VLMBatch

ComputeDtype = Literal["float32", "bfloat16"]


class VLMModule(LightningModule):
    """Teach a Molmo to answer questions about pictures.

    The loss is the cross-entropy of the answers' tokens; for mixtures the routers' balance and z-loss are added, and,
    where there are pictures, the cross-entropies of where each vision token lies and, where pictures are labelled, of
    what each patch shows, with a weight that falls to zero.

    Weights are kept in float32 and converted to ``dtype`` in each step, so the model runs as it is served. Autocast
    would keep the residual stream in float32 and hide the grouped kernels from the experts.

    Logs ``train/loss`` with its parts, ``train/rate_samples_per_s``, ``val/loss`` and, for the full setting and for
    those that turn one knob all the way down, ``val/accuracy/<setting>/<family>``; see docs/metrics.md.

    Args:
        tokenizer: Content of the ``tokenizer.json``.
        families: Names of the datasets that validate and test.
        num_labels: How many things a patch may show; 0 if pictures are not labelled.
        base: Released model whose shape is changed.
        shape: Fields of its ``config.json`` that differ.
        top_k: Levels of experts per token.
        num_active_blocks: Levels of how many blocks run.
        is_elastic: Draw tier, top_k and blocks in each step; else all steps run with everything on.
        full_fraction: Share of elastic steps with everything on.
        drawn_levels: How often elastic steps draw each level, see ``ElasticDraw``.
        own_blocks_fraction: Share of the other elastic steps that leave out the blocks that the grid leaves out.
        dtype: What the model computes in.
        balance_weight: Weight of the routers' balance.
        z_weight: Weight of the routers' z-loss.
        label_weight: Weight of what patches show, at first.
        place_weight: Weight of where vision tokens lie, at first.
        label_steps: Steps until both are zero.
        compiles: Compile parts of the blocks, vision encoder and connector; the first steps then take a minute longer.
        seed: Of the settings drawn.
        initial: A checkpoint of this module, or a snapshot folder, whose weights a fit starts from. A snapshot has no
            heads for labels and places, so these begin anew. A fit that goes on starts from its own weights, and its
            checkpoints need no others.

    Raises:
        ValueError: If the shape is not one of a Molmo, the tokenizer does not fit it, or has no such levels; when a fit
            starts, if ``initial`` is neither or of another shape.
    """

    scheduler_interval = "step"

    def __init__(
        self,
        tokenizer: str,
        families: list[str],
        num_labels: int,
        *,
        base: str,
        shape: dict[str, Any],
        top_k: Sequence[int],
        num_active_blocks: Sequence[int],
        is_elastic: bool = True,
        full_fraction: float = 0.25,
        drawn_levels: LevelDraw = "mostly_high",
        own_blocks_fraction: float = 0.5,
        dtype: ComputeDtype = "bfloat16",
        balance_weight: float = 0.01,
        z_weight: float = 0.001,
        label_weight: float = 0.5,
        place_weight: float = 0.5,
        label_steps: int = 3000,
        compiles: bool = False,
        seed: int = 42,
        initial: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="initial")
        config = MolmoConfig.from_hf(changed_hf_config(base, shape), source="shape")
        self.network = TrainableMolmo(config, num_labels)
        initialize(self.network.molmo)
        self.tokenizer_json = tokenizer
        self._tokenizer, self._special_tokens = _read_tokenizer(tokenizer, config)
        self.grid = spread_grid(config.num_blocks, top_k=tuple(top_k), block_counts=tuple(num_active_blocks))
        for setting in self.grid.settings():
            setting.check(num_blocks=config.num_blocks, num_experts=config.num_experts)
        self.hf_config = {**changed_hf_config(base, shape), GRID_KEY: self.grid.to_json()}
        self.dtype_name = dtype
        self.balance_weight = balance_weight
        self.z_weight = z_weight
        self.label_weight = label_weight
        self.place_weight = place_weight
        self.label_steps = label_steps
        full = self.network.molmo.full_setting
        self._draw = ElasticDraw(
            grid=self.grid,
            full=full,
            full_fraction=full_fraction if is_elastic else 1.0,
            levels=drawn_levels,
            own_blocks_fraction=own_blocks_fraction,
            seed=seed,
        )
        self._initial = initial
        self._rate = _Rate()
        self._processors: dict[torch.device, MolmoProcessor] = {}
        self._served: list[Molmo] = []  # in a list, so that it is no part of this module
        self.spot_settings = spot_settings(self.grid, full)
        self.val_scores = nn.ModuleDict({name: MeanScore(families) for name in self.spot_settings})
        self.test_scores = nn.ModuleDict({name: MeanScore(families) for name in self.spot_settings})
        if compiles:
            self.network.compile_parts()

    def forward(self, inputs: ModelInputs, setting: KnobSetting | None = None) -> Tensor:
        """Return the logits of every position."""
        logits: Tensor = self.network.molmo(inputs, setting=setting)
        return logits

    def on_fit_start(self) -> None:
        """Start from the weights of another run."""
        if self._initial is None:
            return
        if Path(self._initial).is_dir():
            self._start_from_snapshot(self._initial)
            return
        checkpoint = read_checkpoint(self._initial)
        check_maker(checkpoint, type(self).__name__, source=self._initial)
        check_sizes(checkpoint, self)
        self.load_state_dict(checkpoint["state_dict"])

    def training_step(self, batch: VLMBatch, batch_idx: int) -> Tensor:
        """Learn the answers of a batch with one setting."""
        setting = self._draw.setting(self.global_step)
        losses = self._losses(batch, setting, label_share=max(0.0, 1 - self.global_step / self.label_steps))
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss, batch_size=len(batch), prog_bar=True)
        self.log_dict({f"train/loss/{part}": value for part, value in losses.items()}, batch_size=len(batch))
        self._rate.count(len(batch))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: VLMBatch, batch_idx: int) -> None:
        """Say now and then how fast the training is."""
        rate_per_s = self._rate.read()
        if rate_per_s is not None:
            self.log("train/rate_samples_per_s", rate_per_s, prog_bar=True, batch_size=len(batch))

    def on_validation_start(self) -> None:
        """Make the model that is asked, in the type that it is served in."""
        self._serve()
        self._rate = _Rate()

    def validation_step(self, batch: VLMBatch, batch_idx: int) -> None:
        """Answer the questions of a batch with each of the spot settings."""
        with torch.compiler.set_stance("force_eager"):  # without gradients all would be compiled once more
            losses = self._losses(batch, self._draw.full, label_share=0.0)
        self.log("val/loss", losses["answers"], batch_size=len(batch))
        self._score(batch, self.val_scores)

    def on_validation_epoch_end(self) -> None:
        """Log how right the answers were."""
        self._log_scores("val", self.val_scores)

    def on_test_start(self) -> None:
        """Make the model that is asked, in the type that it is served in."""
        self._serve()

    def test_step(self, batch: VLMBatch, batch_idx: int) -> None:
        """Answer the questions of a batch with each of the spot settings."""
        self._score(batch, self.test_scores)

    def on_test_epoch_end(self) -> None:
        """Log how right the answers were."""
        self._log_scores("test", self.test_scores)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down whose checkpoint it is."""
        stamp(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another module's checkpoint, or one of another shape."""
        check_maker(checkpoint, type(self).__name__)
        check_sizes(checkpoint, self)
        self._initial = None

    def _start_from_snapshot(self, snapshot: str) -> None:
        start, model = load_molmo(snapshot, dtype=torch.float32), self.network.molmo
        if start.config != model.config:
            raise ValueError(f"initial: {snapshot}: is of another shape, {_difference(start.config, model.config)}")
        model.load_state_dict(start.state_dict())

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the model computes in."""
        return cast("torch.dtype", getattr(torch, self.dtype_name))

    def _losses(self, batch: VLMBatch, setting: KnobSetting, *, label_share: float) -> dict[str, Tensor]:
        """Compute the parts of the loss, weighted; of labels and places that share of the weights they had at first."""
        inputs, layout = self._processor().from_batch(batch.text_ids, batch.images, tier=self.grid.tier(setting.tier))
        num_text_ids = batch.text_ids.shape[1]
        logits: TrainingLogits = functional_call(
            self.network,
            self._weights(),
            (inputs, setting),
            {"num_text_ids": num_text_ids, "wants_labels": label_share > 0},
            tie_weights=False,
        )
        losses = {
            "answers": F.cross_entropy(logits.text.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED)
        }
        if self.network.patch_labels is not None and logits.labels is not None:
            labels = self.network.patch_labels.loss(logits.labels, batch.cells, layout)
            losses["labels"] = label_share * self.label_weight * labels
        if logits.places is not None:
            losses["places"] = label_share * self.place_weight * self.network.token_places.loss(logits.places, layout)
        return losses | self._routing_losses(logits.routing, inputs.valid.flatten().float())

    def _weights(self) -> dict[str, Tensor]:
        """Return the parameters in the type that is computed in."""
        parameters = dict(self.network.named_parameters())
        if self.compute_dtype == torch.float32:
            return dict(parameters)
        return dict(zip(parameters, converted(parameters.values(), self.compute_dtype), strict=True))

    def _routing_losses(self, routing: Sequence[Routing], is_token_T: Tensor) -> dict[str, Tensor]:
        if not routing:
            return {}
        logits_RTE = torch.stack([router.logits for router in routing])
        chosen_RTK = torch.stack([router.chosen for router in routing])
        return {
            "balance": self.balance_weight * balance_loss(logits_RTE, chosen_RTK, is_token_T),
            "z": self.z_weight * z_loss(logits_RTE, is_token_T),
        }

    def _processor(self) -> MolmoProcessor:
        """Return the processor of the device that this module is on."""
        if self.device not in self._processors:
            config = self.network.molmo.config
            processor = MolmoProcessor(config, self._special_tokens, self._tokenizer, device=self.device)
            self._processors[self.device] = processor
        return self._processors[self.device]

    def _serve(self) -> None:
        with torch.device(self.device):
            model = Molmo(self.network.molmo.config).to(self.compute_dtype)
        model.load_state_dict(self.network.molmo.state_dict())
        self._served = [model.eval()]

    def _score(self, batch: VLMBatch, scores: nn.ModuleDict) -> None:
        families = [sample.dataset for sample in batch.samples]
        for name, setting in self.spot_settings.items():
            answers = answer_batch(self._served[0], self._processor(), batch, setting, self.grid)
            cast("MeanScore", scores[name]).update(score_answers(answers, batch.samples), families)

    def _log_scores(self, stage: str, scores: nn.ModuleDict) -> None:
        for name, metric in scores.items():
            means = cast("MeanScore", metric).compute()
            self.log_dict({f"{stage}/accuracy/{name}/{family}": mean.float() for family, mean in means.items()})
            cast("MeanScore", metric).reset()
        self._served = []


class _Rate:
    """Samples a second of this process, over a number of steps each."""

    _STEPS = 50

    def __init__(self) -> None:
        self._start: float | None = None
        self._num_steps = 0
        self._num_samples = 0

    def count(self, num_samples: int) -> None:
        """Count the samples of a step; those of the first start the clock."""
        if self._start is None:
            self._start = perf_counter()
            return
        self._num_steps += 1
        self._num_samples += num_samples

    def read(self) -> float | None:
        """Return the rate when enough steps have gone by since the last one."""
        if self._start is None or self._num_steps < self._STEPS:
            return None
        now = perf_counter()
        rate_per_s = self._num_samples / (now - self._start)
        self._start, self._num_steps, self._num_samples = now, 0, 0
        return rate_per_s


def _difference(given: MolmoConfig, wanted: MolmoConfig) -> str:
    """Name the first field in which two shapes differ."""
    pairs = {field.name: (getattr(given, field.name), getattr(wanted, field.name)) for field in fields(MolmoConfig)}
    name, (has, expected) = next((name, pair) for name, pair in pairs.items() if pair[0] != pair[1])
    return f"first {name}: got {has}, expected {expected}"


def _read_tokenizer(content: str, config: MolmoConfig) -> tuple[SnapshotTokenizer, SpecialTokens]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_text(content)
        tokenizer, special_tokens = load_tokenizer(folder)
    expected = SpecialTokens.of_shape(config)
    if special_tokens != expected:
        raise ValueError(f"shape.vocab_size: the tokenizer has {special_tokens}, a model of this shape {expected}")
    return tokenizer, special_tokens
