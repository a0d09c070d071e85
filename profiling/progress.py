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


def progress_bar(console: Console) -> Progress:
    """Return a bar with counts, time passed and time left; where the console is no terminal, lines now and then."""
    kind = Progress if console.is_terminal else _Lines
    return kind(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
