"""The ``bench-suite`` command: how fast the suite is drawn."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from time import perf_counter

from rich.console import Console
from rich.table import Table

from profiling.suite.bulk import draw_batch
from profiling.suite.families import FAMILIES
from profiling.suite.suite import PuzzleKey

_BATCH_SIZE = 256


def bench_suite(num_samples: int = 2000, *, canvas_pixels: int = 192, num_workers: int = 1) -> None:
    """Print how many samples of the generated suite are made, drawn and labeled in a second.

    Every worker draws as many samples before its clock starts: letters and shapes that it meets again are kept.

    Args:
        num_samples: Of each family, for each worker.
        canvas_pixels: Width and height of each picture.
        num_workers: Processes that draw at the same time.

    Raises:
        ValueError: If a number is below 1.
    """
    for field, number in (
        ("num_samples", num_samples),
        ("canvas_pixels", canvas_pixels),
        ("num_workers", num_workers),
    ):
        if number < 1:
            raise ValueError(f"{field}: must be 1 or more, got {number}")
    table = Table(title=f"{canvas_pixels}x{canvas_pixels} pixels, {num_workers} worker(s)")
    table.add_column("family")
    table.add_column("samples/s", justify="right")
    table.add_column("samples/s per worker", justify="right")
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for family in FAMILIES:
            measure = partial(_rate_per_s, family=family, num_samples=num_samples, canvas_pixels=canvas_pixels)
            rate_per_s = sum(pool.map(measure, range(num_workers)))
            table.add_row(family, f"{rate_per_s:,.0f}", f"{rate_per_s / num_workers:,.0f}")
    Console().print(table)


def _rate_per_s(worker: int, *, family: str, num_samples: int, canvas_pixels: int) -> float:
    first = 2 * worker * num_samples
    _draw(family, range(first, first + num_samples), canvas_pixels)
    start = perf_counter()
    _draw(family, range(first + num_samples, first + 2 * num_samples), canvas_pixels)
    return num_samples / (perf_counter() - start)


def _draw(family: str, indices: range, canvas_pixels: int) -> None:
    keys = [PuzzleKey(family=family, split="train", index=index) for index in indices]
    for start in range(0, len(keys), _BATCH_SIZE):
        draw_batch(keys[start : start + _BATCH_SIZE], canvas_pixels=canvas_pixels)
