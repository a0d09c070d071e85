"""The ``compare-controllers`` command: train every controller over several seeds, and compare all on one split."""

# Shape suffixes: G = budgets, N = samples.

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from rich.console import Console
from torch import Tensor

from lightning_modules.quiet import quiet_lightning
from profiling.controllers.baselines import choices_of, fit_baselines
from profiling.controllers.evaluation import evaluate
from profiling.controllers.fits import PARTS, Fit, averaged, knob_table, read_fit, seed_table
from profiling.controllers.learning_curves import plot_learning_curves
from profiling.controllers.report import report_on
from profiling.controllers.requests import Requests
from profiling.datasets.image_split import Part
from profiling.files import write_json, written_whole
from profiling.progress import progress_bar

Build = Callable[[list[str]], LightningCLI]
"""Builds trainer, module and data from a command line, as ``fit`` would."""

_MONITOR: Final = "val/goodput"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A controller to train.

    Args:
        name: What the tables call it.
        configs: What ``fit`` would be given: config files, later ones winning.
    """

    name: str
    configs: list[str]


class ComparisonData(Protocol):
    """What the comparison needs of a data module."""

    @property
    def parts(self) -> Mapping[Part, Requests]:
        """The samples of each part."""
        ...

    @property
    def trained(self) -> Requests:
        """All samples that train."""
        ...

    @property
    def budgets_ms(self) -> list[float]:
        """The budgets that test."""
        ...


def compare_controllers(
    build: Build,
    recipes: list[Recipe],
    output_dir: Path,
    *,
    fits_dir: Path,
    shared: list[str],
    seeds: list[int],
    curves: list[str],
    processes: int = 1,
    seed: int = 42,
) -> None:
    """Train every controller over several seeds, and compare them with every baseline and oracle on one split.

    Seeds change weights, the order of requests, their budgets and what is drawn; the split stays. The default is the
    recipe of the best mean goodput accuracy in validation, and the reference that the others are compared with on the
    test part, each by its mean over seeds. Writes ``controllers``, ``seeds`` and ``knobs`` as Markdown and LaTeX, the
    first two as JSON too, ``goodput.png`` and ``learning_curves.png``.

    Each fit has a file of its own in ``fits_dir``: started again, the command goes on where it stopped. A fit whose
    configs have changed since is refused; for a profile or a Trainer's file that has changed, choose another folder.

    Args:
        build: Builds what a fit takes from its command line.
        recipes: The controllers.
        output_dir: Folder of the tables and figures.
        fits_dir: Folder of what each fit reached, and of its checkpoint.
        shared: Config files that every recipe ends with.
        seeds: One fit of each.
        curves: Recipes whose learning curves are drawn.
        processes: How many fits are trained at once; as many as there are cores is sensible.
        seed: Of random baselines, oracles and resamplings.

    Raises:
        ValueError: If a config or a result is bad, recipes differ in their data, or a curve is of none.
    """
    _check([recipe.name for recipe in recipes], seeds, curves)
    if processes < 1:
        raise ValueError(f"processes: must be 1 or more, got {processes}")
    console = Console()
    wanted = [  # each recipe once before any twice: what is wrong with one is known early
        _Wanted(recipe.name, (*recipe.configs, *shared), number, fits_dir / recipe.name / f"seed_{number}.json")
        for number in seeds
        for recipe in recipes
    ]
    with _quiet(), progress_bar(console) as progress:
        task = progress.add_task("fitting", total=len(wanted))
        found = _trained(build, wanted, processes=processes, advance=lambda: progress.advance(task))
        data = cast("ComparisonData", build(_words(wanted[0].configs, seeds[0])).datamodule)
    fits = {recipe.name: [fit for fit in found if fit.row == recipe.name] for recipe in recipes}
    _write(fits, data, output_dir, curves=curves, seed=seed, console=console)


@dataclass(frozen=True)
class _Wanted:
    """A fit that the comparison needs: what it is of, and where it is kept."""

    row: str
    configs: tuple[str, ...]
    seed: int
    path: Path


def _trained(build: Build, wanted: Sequence[_Wanted], *, processes: int, advance: Callable[[], None]) -> list[Fit]:
    """Return all fits, those that are there and those that are not, which are trained in turn or side by side."""
    found: list[Fit] = []
    train = partial(_fit, build)
    if processes == 1:
        for each in map(train, wanted):
            found.append(each)
            advance()
        return found
    # A fresh interpreter for each process: a fork would share what torch's threads hold.
    with get_context("spawn").Pool(processes) as pool:
        for each in pool.imap(train, wanted):
            found.append(each)
            advance()
    return found


def _check(names: Sequence[str], seeds: Sequence[int], curves: Sequence[str]) -> None:
    for field, given in (("recipes", names), ("seeds", seeds)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{field}: needs one or more, none twice, got {list(given)}")
    strangers = sorted(set(curves) - set(names))
    if strangers:
        raise ValueError(f"curves: must be of the recipes {', '.join(names)}, got {strangers[0]!r}")


def _words(configs: Sequence[str], seed: int) -> list[str]:
    named = [word for config in configs for word in ("--config", config)]
    seeded = ("seed_everything", "model.init_args.seed", "data.init_args.seed")
    return [*named, *(f"--{name}={seed}" for name in seeded)]


def _fit(build: Build, wanted: _Wanted) -> Fit:
    """Return a fit that is there, or train it."""
    recipe = _digest(wanted.configs)
    if wanted.path.exists():
        return read_fit(wanted.path, recipe=recipe)
    with _quiet():
        fit = _train(build, wanted, recipe)
    fit.write(wanted.path)
    return fit


def _train(build: Build, wanted: _Wanted, recipe: str) -> Fit:
    root = wanted.path.with_suffix("")
    cli = build([*_words(wanted.configs, wanted.seed), f"--trainer.default_root_dir={root}"])
    trainer, module = cli.trainer, cli.model
    curve = _Curve()
    cast("list[Callback]", trainer.callbacks).append(curve)  # type: ignore[attr-defined]
    start = perf_counter()
    trainer.fit(module, datamodule=cli.datamodule)
    seconds = perf_counter() - start
    (reached,) = trainer.test(module, datamodule=cli.datamodule, ckpt_path="best", verbose=False)
    batches = cast("list[Tensor]", trainer.predict(module, datamodule=cli.datamodule, ckpt_path="best"))
    budgets_ms = cast("ComparisonData", cli.datamodule).budgets_ms
    return Fit(
        row=wanted.row,
        seed=wanted.seed,
        recipe=recipe,
        budgets_ms=budgets_ms,
        chosen=torch.cat(batches).reshape(len(budgets_ms), -1).tolist(),
        val_goodput=curve.values,
        label_accuracy={part: reached[f"test/label_accuracy/{part}"] for part in PARTS},
        best_accuracy={part: reached[f"test/best_accuracy/{part}"] for part in PARTS},
        seconds=seconds,
    )


def _digest(configs: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for config in configs:
        if not Path(config).is_file():
            raise ValueError(f"recipes: {config}: no such config file")
        digest.update(Path(config).read_bytes())
    return digest.hexdigest()


def _write(
    fits: Mapping[str, Sequence[Fit]],
    data: ComparisonData,
    output_dir: Path,
    *,
    curves: Sequence[str],
    seed: int,
    console: Console,
) -> None:
    budgets_ms, test = data.budgets_ms, data.parts["test"]
    for members in fits.values():
        for fit in members:
            if fit.budgets_ms != budgets_ms:
                raise ValueError(f"recipes: {fit.row}: was tested under other budgets; all need the same data")
    with console.status("fitting baselines and oracles"):
        policies = fit_baselines(data.trained, data.parts["val"], budgets_ms, seed=seed)
        choices = choices_of(policies, test, budgets_ms)
    evaluations = [evaluate(name, chosen_GN, test.outcomes, budgets_ms) for name, chosen_GN in choices.items()]
    evaluations += [averaged(row, [fit.evaluation(test.outcomes) for fit in members]) for row, members in fits.items()]
    default = max(fits, key=lambda row: float(np.mean([fit.best_val_goodput for fit in fits[row]])))
    environment = test.outcomes.environment
    subject = f"{environment.model} on {environment.device}, {environment.engine} engine"
    report = report_on(evaluations, test.outcomes, reference=default, subject=subject, seed=seed)
    report.write(output_dir)
    seed_rows, by_seed = seed_table(fits, test.outcomes, default=default, subject=subject)
    knobs = knob_table(fits, test.outcomes, subject=subject)
    seed_rows.write(output_dir / "seeds")
    write_json(output_dir / "seeds.json", {"default": default, "rows": by_seed})
    knobs.write(output_dir / "knobs")
    if curves:
        figure = plot_learning_curves({row: fits[row] for row in curves}, caption=subject)
        with written_whole(output_dir / "learning_curves.png") as partial:
            figure.savefig(partial)
        plt.close(figure)
    for table in (report.summary(), seed_rows):
        table.show(console)
    console.print(f"wrote {output_dir}; the default is {default}")


class _Curve(Callback):
    """Keep the monitored value of every epoch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep it."""
        self.values.append(float(trainer.callback_metrics[_MONITOR]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from announcing every fit, and from wondering at a command line within a command."""
    with quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
        yield
