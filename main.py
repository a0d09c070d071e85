"""The front door: fit, validate, test and predict through LightningCLI, and the tools that train nothing."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from inspect import getdoc
from typing import Any, Final, cast

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch.optim import Optimizer

# The packages are imported so that YAML may name their classes without a path.
import callbacks  # noqa: F401
import datamodules  # noqa: F401
import lightning_modules  # noqa: F401
from datamodules.benchmark import bench_data
from lightning_modules.calibration import calibrate_estimator
from lightning_modules.comparison import compare_controllers
from lightning_modules.export import export_vlm
from lightning_modules.latency_promise import calibrate, recalibrate
from lightning_modules.quiet import quiet_lightning
from profiling.adaptive.command import compare_runs
from profiling.answer_grid.command import answer_grid
from profiling.bench.command import bench
from profiling.bench.proof import prove_engine
from profiling.bench.tune import tune_engine
from profiling.checkpoint_file import check_maker, read_checkpoint
from profiling.controllers.extraction import controller_features
from profiling.controllers_speed import bench_grpo
from profiling.convert import convert_profile
from profiling.importance.command import importance
from profiling.knob_control import knob_control
from profiling.levels.command import levels
from profiling.pruning.command import prune
from profiling.savings.command import savings
from profiling.suite.sheet import suite_sheet
from profiling.suite.speed import bench_suite
from profiling.sweep import profile
from profiling.vlm_accuracy_figure import plot_accuracy
from profiling.vlm_evaluation import evaluate_vlm


def compare(**arguments: Any) -> None:
    """Train every controller over several seeds, and compare them with every baseline and oracle on one split."""
    compare_controllers(_built, **arguments)


TOOLS: Final[dict[str, Callable[..., None]]] = {
    "profile": profile,
    "answer-grid": answer_grid,
    "calibrate": calibrate,
    "recalibrate": recalibrate,
    "calibrate-estimator": calibrate_estimator,
    "compare-controllers": compare,
    "compare-runs": compare_runs,
    "controller-features": controller_features,
    "convert-profile": convert_profile,
    "knob-control": knob_control,
    "savings": savings,
    "importance": importance,
    "prune": prune,
    "levels": levels,
    "bench": bench,
    "bench-data": bench_data,
    "bench-grpo": bench_grpo,
    "bench-suite": bench_suite,
    "engine-proof": prove_engine,
    "tune-engine": tune_engine,
    "suite-sheet": suite_sheet,
    "export-vlm": export_vlm,
    "evaluate-vlm": evaluate_vlm,
    "plot-accuracy": plot_accuracy,
}
LINKS: Final = ("devices", "shapes", "coefficients", "tokenizer", "families", "num_labels", "profile_facts")
SHORT_OPTIONS: Final[dict[str, dict[str, tuple[Any, str, str]]]] = {
    "predict": {
        "image": (str, "data.init_args.image", "File of a picture to ask about."),
        "question": (str, "data.init_args.question", "What to ask about it."),
        "setting.tier": (str, "model.init_args.tier", "Image tier; the highest if null."),
        "setting.top_k": (int, "model.init_args.top_k", "Experts per token; as trained if null."),
        "setting.num_active_blocks": (int, "model.init_args.num_active_blocks", "How many blocks run; all if null."),
        "latency_budget": (
            float,
            "model.init_args.latency_budget_ms",
            "Milliseconds that the answer may take; then a controller chooses the setting.",
        ),
    },
    "test": {
        "latency_budget": (
            float | list[float],
            "data.init_args.latency_budget_ms",
            "Milliseconds that an answer may take: one budget, or a list that every question is asked under.",
        ),
        "num_samples": (int, "data.init_args.num_requests", "Questions of each dataset."),
    },
}
_INTERRUPTED: Final = 130  # as shells report SIGINT


class PunctualCLI(LightningCLI):
    """Link what the data knows to the module, and test the best checkpoint once a fit is over."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what our configs have beyond Lightning's own."""
        parser.add_argument(
            "--num_threads", type=PositiveInt | None, default=None, help="Threads of torch; its own choice if null."
        )
        parser.add_argument("--observers", type=list[Callback], default=[], help="Callbacks besides the Trainer's own.")
        for name in LINKS:  # ignored by modules that do not take it
            # From the whole object: to say that it lacks an attribute, a link would print it, and that opens its data.
            known = partial(_attribute, name)
            parser.link_arguments("data", f"model.init_args.{name}", known, apply_on="instantiate")

    @staticmethod
    def configure_optimizers(
        lightning_module: LightningModule, optimizer: Optimizer, lr_scheduler: LRSchedulerTypeUnion | None = None
    ) -> Any:
        """Move the schedule on after each epoch, or after each step where the module says so."""
        interval = getattr(lightning_module, "scheduler_interval", "epoch")
        if lr_scheduler is None or interval == "epoch":
            return LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": interval}}

    def before_instantiate_classes(self) -> None:
        """Set the number of threads; for small layers one is many times faster than two."""
        num_threads = self._get(self.config, "num_threads")
        if num_threads is not None:
            torch.set_num_threads(num_threads)

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Add the observers to the Trainer's callbacks; leave a config's bar out where no bar is wanted."""
        arguments = self._get(self.config_init, "trainer", default={})
        if arguments.get("enable_progress_bar") is False:  # Lightning would call that a contradiction
            given = arguments.get("callbacks") or []
            arguments["callbacks"] = [callback for callback in given if not isinstance(callback, ProgressBar)]
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.callbacks.extend(self._get(self.config_init, "observers"))
        return cast("Trainer", trainer)

    def after_fit(self) -> None:
        """Test the best checkpoint, so that a fit ends with its error table."""
        trainer: Any = self.trainer
        if not trainer.fast_dev_run and not trainer.interrupted:
            trainer.test(self.model, datamodule=self.datamodule, ckpt_path="best", verbose=False)

    def _parse_ckpt_path(self) -> None:
        """Build the module with a checkpoint's own hyper-parameters; Lightning's version cannot do it with links."""
        config = self.config[self.config["subcommand"]] if "subcommand" in self.config else {}
        path = config.get("ckpt_path")
        if path is None:
            return
        checkpoint = read_checkpoint(path)
        check_maker(checkpoint, config["model"]["class_path"].rpartition(".")[2], source=path)
        arguments = config["model"]["init_args"]
        for name, value in checkpoint["hyper_parameters"].items():
            if name in arguments:
                arguments[name] = value


class PredictCLI(PunctualCLI):
    """Give what a person asks short names; data and modules that take none of it do not mind."""

    options = SHORT_OPTIONS["predict"]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options, each linked to where it goes."""
        super().add_arguments_to_parser(parser)
        for name, (kind, target, description) in self.options.items():
            parser.add_argument(f"--{name}", type=kind | None, default=None, help=description)
            parser.link_arguments(name, target)


class InferenceTestCLI(PredictCLI):
    """Give what a test of adaptive inference asks short names."""

    options = SHORT_OPTIONS["test"]


def cli_main(args: list[str] | None = None, *, run: bool = True) -> LightningCLI | None:
    """Run a command.

    Args:
        args: The command line without the program's name; that of this process if ``None``.
        run: Whether to run Lightning's command, or only build trainer, module and data.

    Returns:
        What Lightning's commands built; nothing for a tool.

    Raises:
        ValueError: If the command is unknown, or something is wrong with what the user gave.
    """
    words = sys.argv[1:] if args is None else args
    if run and (not words or words[0] in ("-h", "--help")):
        _print_commands()
        return None
    if run and words[0] in TOOLS:
        auto_cli(TOOLS[words[0]], args=words[1:], as_positional=False, prog=f"main.py {words[0]}")
        return None
    if run and words[0] not in LightningCLI.subcommands() and not words[0].startswith("-"):
        raise ValueError(f"{words[0]}: no such command, choose one of {', '.join(_commands())}")
    command = words[0] if words else ""
    return {"predict": PredictCLI, "test": InferenceTestCLI}.get(command, PunctualCLI)(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        load_from_checkpoint_support=False,
        save_config_callback=None if command == "predict" else SaveConfigCallback,
        args=args,
        run=run,
    )


def main() -> int:
    """Run the command of this process; a user's mistake ends in one sentence, an interrupt in one word."""
    with _hushed(sys.argv[1:]):
        return _run()


def _run() -> int:
    try:
        cli_main()
    except ValueError as err:
        # jsonargparse wraps what the data says about itself while it is linked.
        said = err.__cause__ if "compute_fn of link" in str(err) else err
        sys.stderr.write(f"error: {_unwrapped(str(said))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    return 0


def _unwrapped(text: str) -> str:
    """Return what a class said of its arguments, without what jsonargparse says of all of them around it."""
    said, _, rest = text.partition("\nErrors:\n  - ")
    if not rest or "Union subtypes" not in said:
        return text
    return rest.partition("\nGiven value type: ")[0].removesuffix("\n  - Expected a <class 'NoneType'>")


@contextmanager
def _hushed(words: list[str]) -> Iterator[None]:
    """Keep from people what Lightning says to developers; and from who asks a question, what it says at all."""
    with warnings.catch_warnings(), quiet_lightning() if words[:1] == ["predict"] else nullcontext():
        warnings.filterwarnings("ignore", message=".isinstance.treespec, LeafSpec.. is deprecated")
        yield


def _built(words: list[str]) -> LightningCLI:
    """Build what a fit takes, without fitting."""
    cli = cli_main(words, run=False)
    assert cli is not None, "only tools give nothing back"
    return cli


def _attribute(name: str, data: LightningDataModule) -> object:
    """Return what the data knows under a name, if it does."""
    return getattr(data, name, None)


def _commands() -> dict[str, str]:
    functions = {name: getattr(Trainer, name) for name in LightningCLI.subcommands()} | TOOLS
    return {name: (getdoc(function) or "").partition("\n")[0] for name, function in functions.items()}


def _print_commands() -> None:
    sys.stdout.write("usage: python main.py COMMAND [--config FILE ...] [--help] [--print_config]\n\ncommands:\n")
    for name, summary in _commands().items():
        sys.stdout.write(f"  {name:20} {summary}\n")


if __name__ == "__main__":
    sys.exit(main())
