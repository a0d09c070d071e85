"""The bar that long commands show."""

from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S: Final = 30.0
_DRAW_EVERY_S: Final = 0.1


class _Steps(Progress):
    """A bar that is drawn when a step is done and never while one runs."""

    _last_drawn_s = 0.0

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a task on, and draw the bar if it is time for it."""
        super().advance(task_id, advance)
        if self.get_time() - self._last_drawn_s >= _DRAW_EVERY_S:
            self._last_drawn_s = self.get_time()
            self.refresh()


class _Lines(Progress):
    """A line every half minute, for a file or a pipe, where no bar can be drawn anew."""

    _last_line_s = 0.0

    def start(self) -> None:
        """Begin to wait for the first line."""
        super().start()
        self._last_line_s = self.get_time()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a task on, and print how far it is if it is time for it."""
        super().advance(task_id, advance)
        if self.get_time() - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = self.get_time()
            self.console.print(self.make_tasks_table([task for task in self.tasks if task.id == task_id]))


def progress_bar(console: Console, *, times_steps: bool = False) -> Progress:
    """Return a bar with counts, time passed and time left; where the console is no terminal, lines now and then.

    Args:
        console: Where to draw.
        times_steps: Whether this process times the steps: a thread that draws would break into them.
    """
    kind = _Lines if not console.is_terminal else _Steps if times_steps else Progress
    return kind(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=not times_steps,
    )
