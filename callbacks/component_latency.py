"""Measure the components of a multimodal model while the Trainer runs it."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from lightning import Callback, LightningModule, Trainer
from torch import distributed

from models.stages import COMPONENTS, DECODE, PREFILL, PROJECTOR, VISION_ENCODER, observe
from profiling.clock import StageClock
from profiling.environment import collect_environment
from profiling.jsonl import JsonlWriter
from profiling.schema import Environment, ProfileRecord
from profiling.statistics import summarize

_BATCH: Final = "batch"
_TOTAL: Final = "total"


@runtime_checkable
class DescribesRequests(Protocol):
    """A module whose batches can become profile records."""

    def describe_model(self) -> Mapping[str, Any]:
        """Name the model, for the environment: the keyword arguments of ``collect_environment`` but the device."""
        ...

    def describe_request(self, batch: Any, outputs: Any) -> Mapping[str, Any]:
        """Say what a batch of one request was: every field of a profile record that is not a time."""
        ...


class ComponentLatency(Callback):
    """Time vision encoder, projector, prefill and decode of any module that runs a model of this project.

    Listens to the stages that the model marks (``models.stages``), so it needs no hook in the module and changes no
    result. After each batch it waits for the device once. Logs, for each stage of the Trainer and each component that
    ran, ``<stage>/latency_p50_ms/<component>`` and the same with ``p95`` and ``p99``, over the batches of an epoch in
    all processes; ``total`` is a whole batch, backward pass and optimizer step included.

    Args:
        warmup_batches: First batches of each epoch and process that are not counted.
        records_dir: Folder for profile records, one JSON Lines file for each stage and process; the module must then
            describe its requests (``DescribesRequests``) and its batches hold one request each. No records if null.

    Raises:
        ValueError: If ``warmup_batches`` is negative.
    """

    def __init__(self, warmup_batches: int = 3, records_dir: str | None = None) -> None:
        if warmup_batches < 0:
            raise ValueError(f"warmup_batches: must be 0 or more, got {warmup_batches}")
        self._warmup_batches = warmup_batches
        self._records_dir = records_dir
        self._num_batches: Counter[str] = Counter()
        self._samples_ms: dict[str, dict[str, list[float]]] = {}
        self._listening = ExitStack()
        self._clock: StageClock | None = None
        self._writer: JsonlWriter | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check, before anything runs, what cannot work.

        Raises:
            ValueError: If the module cannot describe what it is asked to record, or the Trainer has two such callbacks.
        """
        # Lightning starts and ends callbacks in one order, so two of them would leave each other's observers installed.
        if sum(isinstance(callback, ComponentLatency) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ValueError("callbacks: ComponentLatency is there more than once; one measures every component")
        if self._records_dir is not None and not isinstance(pl_module, DescribesRequests):
            raise ValueError(
                f"records_dir: {type(pl_module).__name__} has no describe_model and describe_request, "
                "so its batches cannot become profile records; leave records_dir out"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Listen to a training step."""
        self._begin(trainer, pl_module)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Listen to a validation step."""
        self._begin(trainer, pl_module)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Listen to a test step."""
        self._begin(trainer, pl_module)

    def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Listen to a prediction step."""
        self._begin(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read what a training step took."""
        self._end("train", pl_module, batch, outputs)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Read what a validation step took."""
        self._end("val", pl_module, batch, outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Read what a test step took."""
        self._end("test", pl_module, batch, outputs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Read what a prediction step took."""
        self._end("predict", pl_module, batch, outputs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the training steps' percentiles."""
        self._log("train", trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log here, not in ``on_validation_end``: only here may a checkpoint monitor the value."""
        if not trainer.sanity_checking:
            self._log("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the test steps' percentiles."""
        self._log("test", trainer, pl_module)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the prediction steps' percentiles; a module cannot log while it predicts, so the loggers are asked."""
        percentiles = self._take_percentiles("predict", trainer)
        for logger in trainer.loggers:
            logger.log_metrics(percentiles)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the records."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening, keep the records written so far, and forget the epoch that was broken off."""
        self._close()
        self._num_batches.clear()
        self._samples_ms.clear()

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        clock = StageClock(pl_module.device)
        self._clock = clock
        self._listening.enter_context(observe(clock))
        clock.begin(_BATCH)

    def _end(self, stage: str, pl_module: LightningModule, batch: Any, outputs: Any) -> None:
        if self._clock is None:
            return
        self._listening.close()
        self._clock.end(_BATCH)
        read_ms = self._clock.read_ms()
        self._clock = None
        # A batch's index would not do: it starts anew with each loader, and not at 0 where an epoch is resumed.
        self._num_batches[stage] += 1
        if self._num_batches[stage] <= self._warmup_batches:
            return
        times_ms: dict[str, float] = {name: sum(read_ms[name]) for name in COMPONENTS if name in read_ms}
        times_ms[_TOTAL] = read_ms[_BATCH][0]
        samples_ms = self._samples_ms.setdefault(stage, {})
        for name, time_ms in times_ms.items():
            samples_ms.setdefault(name, []).append(time_ms)
        if self._records_dir is not None:
            assert isinstance(pl_module, DescribesRequests)
            record = _record(times_ms, pl_module.describe_request(batch, outputs))
            self._open_writer(stage, pl_module).write(record)

    def _log(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        # The batch size weighs nothing here; without it Lightning looks for one in a batch that may not show it.
        pl_module.log_dict(self._take_percentiles(stage, trainer), batch_size=1, sync_dist=True)

    def _take_percentiles(self, stage: str, trainer: Trainer) -> dict[str, float]:
        del self._num_batches[stage]
        percentiles = {}
        for name, samples_ms in _of_all_processes(self._samples_ms.pop(stage, {}), trainer).items():
            summary = summarize(samples_ms)
            for level, value_ms in (("p50", summary.p50), ("p95", summary.p95), ("p99", summary.p99)):
                percentiles[f"{stage}/latency_{level}_ms/{name}"] = value_ms
        return percentiles

    def _open_writer(self, stage: str, pl_module: LightningModule) -> JsonlWriter:
        assert self._records_dir is not None
        path = Path(self._records_dir) / f"{stage}-{pl_module.global_rank}.jsonl"
        if self._writer is None or self._writer.path != path:
            self._close()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = JsonlWriter(path, _environment(pl_module))
        return self._writer

    def _close(self) -> None:
        self._listening.close()
        self._clock = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _of_all_processes(samples_ms: dict[str, list[float]], trainer: Trainer) -> dict[str, list[float]]:
    """Join the samples, so that every process logs the same keys and values, whichever components it ran itself."""
    if trainer.world_size == 1:
        return samples_ms
    parts: list[dict[str, list[float]]] = [{} for _ in range(trainer.world_size)]
    distributed.all_gather_object(parts, samples_ms)
    joined_ms: dict[str, list[float]] = {}
    for part in parts:
        for name, part_ms in part.items():
            joined_ms.setdefault(name, []).extend(part_ms)
    return joined_ms


def _record(times_ms: Mapping[str, float], fields: Mapping[str, Any]) -> ProfileRecord:
    if PREFILL not in times_ms:
        raise ValueError(
            "records_dir: a batch ran no prefill, so it cannot become a profile record; leave records_dir out"
        )
    return ProfileRecord(
        vision_encoder_ms=times_ms.get(VISION_ENCODER, 0.0),
        projector_ms=times_ms.get(PROJECTOR, 0.0),
        prefill_ms=times_ms[PREFILL],
        decode_ms=0.0 if fields.get("output_tokens") == 1 else times_ms.get(DECODE, 0.0),
        total_ms=times_ms[_TOTAL],
        **fields,
    )


def _environment(pl_module: LightningModule) -> Environment:
    assert isinstance(pl_module, DescribesRequests)
    return collect_environment(pl_module.device, **pl_module.describe_model())
