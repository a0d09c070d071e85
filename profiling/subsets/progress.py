"""A progress bar with counts, time passed and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from profiling.progress import progress_bar


@contextmanager
def counted(console: Console, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar, and give what moves it on by one. A bar that ends early is filled."""
    with progress_bar(console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)
        progress.update(task, total=progress.tasks[0].completed)
