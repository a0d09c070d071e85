"""A controller, a model and a promise, put together to a policy that answers within budgets."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from lightning_modules.deciders import load_decider
from lightning_modules.llm_based_controller import LLMBasedControllerModule
from models.checkpoint import load_molmo, read_hf_config, snapshot_directory
from models.controllers import RequestDecider
from models.engine import Engine, EngineName, make_engine
from models.knobs import KnobGrid, Tiling, own_grid
from models.molmo import Molmo
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from models.weights_digest import weights_digest
from profiling.adaptive.chooser import Chooser
from profiling.adaptive.fixed_deciders import fixed_decider
from profiling.adaptive.online_features import OnlineFeatures
from profiling.adaptive.pace import Pace
from profiling.adaptive.server import Server
from profiling.checkpoint_file import load_estimator
from profiling.controllers.measured_grid import full_setting
from profiling.controllers.outcomes import Outcomes, read_outcomes
from profiling.environment import collect_environment
from profiling.model_source import DtypeName, GridLevels
from profiling.promises.digests import file_digest, profiles_digest
from profiling.promises.estimated_times import estimated_times
from profiling.promises.latency_table import LatencyTable, calibrated, check_calibration, fit_latency_table
from profiling.promises.promise import Promise, read_promise
from profiling.promises.validity import validity
from profiling.promises.watch import PromiseWatch
from profiling.schema import Environment

_log = logging.getLogger(__name__)

_CHECKPOINT = ".ckpt"
_PARTS = ("train", "calibration", "test")


@dataclass(frozen=True, kw_only=True)
class PolicySource:
    """A finished policy, by the files that it is made of.

    Args:
        snapshot: Folder of a model snapshot, or a hub id in the local cache.
        controller: Checkpoint of a controller; or a chooser that learns nothing: ``random``, ``cheapest``, ``full``,
            ``lut_mean``, ``lut_p95``, ``best_static``, ``best_static_per_budget``, or a setting such as ``high/4/16``.
        promise: File of ``calibrate``: its margins are kept back, its bounds rule settings out. Those of another policy
            may be borrowed, and then nothing is promised.
        profile: Profiles of the model on this device with the parts train, calibration and test. Without a promise the
            bounds are made of it; tables are looked up in it.
        stops_at_deadline: Whether answers are cut off rather than late; that takes a promise or a profile.
        checks_time: Whether bounds rule settings out; without, the controller chooses as if it had no bounds.
        tracks_pace: Whether the latest requests say how slow the machine is just now, so that a busy one is given less
            to do; that takes a promise or a profile.
        estimator: Checkpoint of a latency estimator that knows this device, whose medians are then expected instead of
            the means of the profile's training part.
        kappa_alpha: Share of requests above the bound of a setting, where bounds are made of the profile.
        dtype: Type of the weights.
        engine: How the model runs; where it cannot, eagerly, which the log says.
        tiling: How tiers are applied to images.
        seed: Of random choices.
    """

    snapshot: str
    controller: str
    promise: str | None = None
    profile: list[str] | None = None
    estimator: str | None = None
    stops_at_deadline: bool = True
    checks_time: bool = True
    tracks_pace: bool = False
    kappa_alpha: float = 0.05
    dtype: DtypeName = "float32"
    engine: EngineName = "eager"
    tiling: Tiling = "target"
    seed: int = 42

    @classmethod
    def of_promise(cls, promise: Promise, *, where: str) -> "PolicySource":
        """Return the policy that a promise was found with.

        Raises:
            ValueError: If the promise names arguments that a policy does not take, or lacks one.
        """
        known = {each.name for each in fields(cls)}
        wrong = sorted(set(promise.policy) - known) or sorted({"snapshot", "controller"} - set(promise.policy))
        if wrong:
            raise ValueError(
                f"{where}: policy: unknown or missing: {', '.join(wrong)}; `calibrate` anew with this version"
            )
        return cls(**promise.policy)

    @property
    def is_trained(self) -> bool:
        """Whether the controller learned anything; other choosers are named by what they do."""
        return self.controller.endswith(_CHECKPOINT)

    def read_parts(self) -> dict[str, Outcomes]:
        """Read the profile, part by part; nothing without one.

        Raises:
            ValueError: If a file is bad, or a part is missing.
        """
        if self.profile is None:
            return {}
        outcomes = read_outcomes(self.profile)
        part_of_sample = outcomes.samples["split"]
        missing = sorted(set(_PARTS) - set(part_of_sample))
        if missing:
            found = ", ".join(sorted(set(part_of_sample)))
            raise ValueError(f"profile: needs the parts {', '.join(_PARTS)}, got {found}")
        return {part: outcomes.take((part_of_sample == part).to_numpy()) for part in _PARTS}

    def digests(self) -> dict[str, str]:
        """Return what tells the policy's files, which have been read, from others; see ``Promise.digests``."""
        found = {"controller": self.controller, "weights": weights_digest(snapshot_directory(self.snapshot))}
        if self.is_trained:
            found["controller"] = file_digest(self.controller)
        if self.profile is not None:
            found["profile"] = profiles_digest(self.profile)
        if self.estimator is not None and self.promise is None:  # a promise has times of its own
            found["estimator"] = file_digest(self.estimator)
        return found

    def load(self) -> "FinishedPolicy":
        """Read everything; the model is on the CPU.

        Raises:
            ValueError: If a file is missing, damaged, or of another grid or model, or if answers are to be cut off with
                nothing known of how long a token takes.
        """
        # Under a Trainer new tensors are made on its device, but a controller decides on the CPU.
        with torch.device("cpu"):
            return self._load()

    def _load(self) -> "FinishedPolicy":
        folder = snapshot_directory(self.snapshot)
        hf_config = read_hf_config(folder)
        promise = None if self.promise is None else read_promise(self.promise)
        parts = self.read_parts()
        table = None if promise is None else promise.table
        if table is None and parts:
            table = self._table(parts["train"], parts["calibration"])
        if table is None and self.stops_at_deadline:
            raise ValueError(
                "stops_at_deadline: how long a token takes must be known; name a promise or a profile, or let answers "
                "be late"
            )
        molmo = load_molmo(str(folder), device="cpu", dtype=getattr(torch, self.dtype))
        grid = GridLevels().grid(molmo.config, own_grid(hf_config, source=str(folder))) if table is None else table.grid
        decider = self._decider(grid, parts.get("train"))
        for setting in decider.grid.settings():
            setting.check(num_blocks=molmo.config.num_blocks, num_experts=molmo.config.num_experts)
        return FinishedPolicy(
            source=self,
            molmo=molmo.requires_grad_(False).eval(),
            hf_config=hf_config,
            digests=self.digests(),
            decider=decider,
            table=table,
            promise=promise,
            parts=parts,
        )

    def _table(self, training: Outcomes, calibration: Outcomes) -> LatencyTable:
        if self.checks_time:
            check_calibration(calibration, alpha=self.kappa_alpha)
        if self.estimator is None:
            return fit_latency_table(training, calibration, alpha=self.kappa_alpha)
        expected = estimated_times(load_estimator(self.estimator), training)
        return calibrated(training.grid, expected, calibration, alpha=self.kappa_alpha)

    def _decider(self, grid: KnobGrid, training: Outcomes | None) -> RequestDecider:
        if self.is_trained:
            controller = load_decider(self.controller)
            if isinstance(controller, LLMBasedControllerModule):
                controller.check_model(snapshot_directory(self.snapshot))
            return controller.frozen()
        return fixed_decider(self.controller, grid, training, seed=self.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedPolicy:
    """What a ``PolicySource`` names, loaded.

    Args:
        source: Where it is from.
        molmo: The model.
        hf_config: Content of its ``config.json``.
        digests: What it is made of, see ``Promise.digests``.
        decider: The controller, on the CPU.
        table: Expected times and kappas, if known.
        promise: The promise, if there is one.
        parts: The profile's parts, if there is one.
    """

    source: PolicySource
    molmo: Molmo
    hf_config: dict[str, Any]
    digests: Mapping[str, str]
    decider: RequestDecider
    table: LatencyTable | None
    promise: Promise | None
    parts: Mapping[str, Outcomes]

    def margin(self, budget_ms: float) -> float:
        """Return the share of a budget to keep back."""
        return 0.0 if self.promise is None else self.promise.margin(budget_ms)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.molmo.language_model.head.weight.device

    def environment(self, engine: EngineName) -> Environment:
        """Describe what an engine runs on."""
        return collect_environment(
            self.device,
            engine=engine,
            dtype=self.source.dtype,
            model=self.source.snapshot,
            model_shape=self.hf_config,
        )

    def watch(self, engine: EngineName, *, online_margin: bool = False) -> PromiseWatch | None:
        """Hold the policy, now that it is on its device, against the promise, if there is one; says what differs.

        Args:
            engine: How the model really runs.
            online_margin: Whether margins follow what happens.
        """
        if self.promise is None:
            return None
        found = validity(
            self.promise,
            policy=asdict(self.source),
            digests=self.digests,
            environment=self.environment(engine),
            online_margin=online_margin,
        )
        return PromiseWatch(found)

    def _full_setting(self, engine: EngineName) -> int | None:
        """Return what a trained controller is overruled with where time is no matter; other choosers have their way."""
        if not self.source.is_trained:
            return None
        return full_setting(self.decider.grid, self.environment(engine))

    def engine(self) -> Engine:
        """Make what runs the model, once that is on its device."""
        return make_engine(self.source.engine, self.molmo)

    def server(self, engine: Engine | None = None) -> Server:
        """Make what answers requests, once the model is on its device.

        Args:
            engine: Of this model; one of its own if ``None``.
        """
        source, device = self.source, self.device
        tokenizer, special_tokens = load_tokenizer(snapshot_directory(source.snapshot))
        engine = engine or self.engine()
        if engine.name == "graph" and self.decider.first_blocks is not None:
            _log.warning("engine: graph runs the first blocks twice, since it cannot go on from those that decide")
        return Server(
            self.molmo,
            MolmoProcessor(self.molmo.config, special_tokens, tokenizer, device=device),
            grid=self.decider.grid,
            engine=engine,
            features=OnlineFeatures(self.molmo, self.decider.grid, self.decider.feature_widths, tiling=source.tiling),
            chooser=Chooser(
                self.decider,
                self.table,
                stops_at_deadline=source.stops_at_deadline,
                checks_time=source.checks_time,
                full_setting=self._full_setting(engine.name),
                pace=Pace() if source.tracks_pace else None,
            ),
            stops_at_deadline=source.stops_at_deadline,
            tiling=source.tiling,
        )
