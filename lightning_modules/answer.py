"""Answer questions about pictures at one knob setting, or within a latency budget, and time it."""

import logging

import torch
from lightning import LightningModule

from lightning_modules.finished_policy import PolicySource
from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.engine import Engine, EngineName, make_engine
from models.knobs import KnobGrid, KnobSetting, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import SnapshotTokenizer, SpecialTokens, load_tokenizer
from profiling.adaptive.request import BudgetedRequest, check_budget
from profiling.adaptive.server import Answer
from profiling.model_source import DtypeName, GridLevels
from profiling.profiler import Plan, Profiler
from profiling.questions import QuestionRequest
from profiling.schema import ProfileRecord
from profiling.vqa_batch import VQABatch

_log = logging.getLogger(__name__)


class AnswerModule(LightningModule):
    """Answer each question of a batch by itself, as it would be served, and measure how long each component takes.

    What is measured follows an untimed run of the same input, as in profiles; nothing is scored. Words that the model's
    vocabulary lacks are named in the log. With a budget the controller chooses the setting.

    Args:
        snapshot: Folder of a model snapshot, or a hub id in the local cache.
        tier: Image tier; the highest if null.
        top_k: Experts per token; as trained if null.
        num_active_blocks: How many blocks run; all if null.
        latency_budget_ms: Milliseconds that the answer may take; the three knobs stay null then.
        controller: Who chooses the setting under a budget, see ``PolicySource``.
        promise: File of ``calibrate`` for it.
        profile: Profiles of the model on this device, where there is no promise.
        dtype: Type of the weights.
        engine: How the model runs; where it cannot, eagerly, which the log says.
        max_new_tokens: Most tokens of an answer.

    Raises:
        ValueError: If no answer could be given, the budget is not a positive number, or there is a budget and a knob is
            set or no controller is named; when the model is loaded, if the snapshot is damaged, or the setting is none
            of its grid.
    """

    def __init__(
        self,
        snapshot: str,
        *,
        tier: str | None = None,
        top_k: int | None = None,
        num_active_blocks: int | None = None,
        latency_budget_ms: float | None = None,
        controller: str | None = None,
        promise: str | None = None,
        profile: list[str] | None = None,
        dtype: DtypeName = "float32",
        engine: EngineName = "eager",
        max_new_tokens: int = 32,
    ) -> None:
        super().__init__()
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: must be 1 or more, got {max_new_tokens}")
        self.save_hyperparameters()
        self.max_new_tokens = max_new_tokens
        self._tier, self._top_k, self._num_active_blocks = tier, top_k, num_active_blocks
        self.budget_ms = None if latency_budget_ms is None else check_budget(latency_budget_ms)
        if self.budget_ms is not None and (controller is None or {tier, top_k, num_active_blocks} != {None}):
            raise ValueError(
                "latency_budget: the controller chooses the setting; name a controller and leave tier, top_k and "
                f"num_active_blocks out, got controller {controller!r}"
            )
        self.molmo: Molmo | None = None

    def configure_model(self) -> None:
        """Load the model, once the data has been read."""
        if self.molmo is not None:
            return
        folder = snapshot_directory(self.hparams["snapshot"])
        self._text: tuple[SnapshotTokenizer, SpecialTokens] = load_tokenizer(folder)
        if self.budget_ms is not None:
            names = ("snapshot", "controller", "promise", "profile", "dtype", "engine")
            self._policy = PolicySource(**{name: self.hparams[name] for name in names}).load()
            self.molmo = self._policy.molmo
            return
        molmo = load_molmo(str(folder), device="cpu", dtype=getattr(torch, self.hparams["dtype"]))
        self._grid = GridLevels().grid(molmo.config, own_grid(read_hf_config(folder), source=str(folder)))
        self._setting = self._choose(molmo.full_setting)
        self.molmo = molmo.requires_grad_(False).eval()

    def _choose(self, full: KnobSetting) -> KnobSetting:
        return self._grid.setting(
            tier=full.tier if self._tier is None else self._tier,
            top_k=full.top_k if self._top_k is None else self._top_k,
            num_active_blocks=full.num_active_blocks if self._num_active_blocks is None else self._num_active_blocks,
        )

    def on_predict_start(self) -> None:
        """Make processor and engine, now that the model is on its device."""
        assert self.molmo is not None
        if self.budget_ms is not None:
            self._server = self._policy.server()
            self._watch = self._policy.watch(self._server.engine_name)
            return
        tokenizer, special_tokens = self._text
        self._processor = MolmoProcessor(self.molmo.config, special_tokens, tokenizer, device=self.device)
        self._engine: Engine = make_engine(self.hparams["engine"], self.molmo)

    def predict_step(self, batch: VQABatch, batch_idx: int) -> list[ProfileRecord] | list[Answer]:
        """Answer each question; a record holds the answer as ``prediction``, and the times."""
        for sample in batch.samples:
            unknown = self._text[0].unknown_words(sample.question)
            if unknown:
                _log.warning("question: the model was taught no such word as %s", ", ".join(unknown))
        requests = [
            QuestionRequest(sample=sample, split=sample.split, max_new_tokens=self.max_new_tokens, score_name=None)
            for sample in batch.samples
        ]
        return self._measured(requests) if self.budget_ms is None else self._within(self.budget_ms, requests)

    def _measured(self, requests: list[QuestionRequest]) -> list[ProfileRecord]:
        """Answer at the one setting."""
        assert self.molmo is not None
        records: list[ProfileRecord] = []
        plan = Plan(requests=requests, grid=_grid_of_one(self._grid, self._setting), repeats=1)
        Profiler(self.molmo, self._processor, plan, engine=self._engine).run(done=(), write=records.append)
        return records

    def _within(self, budget_ms: float, requests: list[QuestionRequest]) -> list[Answer]:
        """Answer within a budget."""
        asked = [BudgetedRequest(question=request, budget_ms=budget_ms) for request in requests]
        self._server.warm_up(asked[0])
        margin = self._policy.margin(budget_ms)
        answers = [self._server.answer(request, request.question.open_image(), margin=margin) for request in asked]
        if self._watch is not None:
            for served in (answer.served for answer in answers):
                self._watch.note(budget_ms, measured_ms=served.latency_ms, expected_ms=served.expected_ms)
        return answers


def _grid_of_one(grid: KnobGrid, setting: KnobSetting) -> KnobGrid:
    return KnobGrid(
        tiers=(grid.tier(setting.tier),),
        top_k=(setting.top_k,),
        blocks_by_count={setting.num_active_blocks: setting.active_blocks},
    )
