"""Tables of a report: on the screen, in Markdown and in LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape

from profiling.files import written_whole

_ESCAPES: Final = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "+-": r"$\pm$", "->": r"$\to$"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of words.

    Args:
        columns: Heads of the columns; the first one's cells are names, the others' are numbers or short words.
        rows: Cells, row by row.
        caption: What the cells are.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def markdown(self) -> str:
        """Return the table in Markdown, its caption below."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{self.caption}\n"

    def latex(self) -> str:
        """Return a LaTeX table that needs no package."""
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}",
            r"\hline",
            _latex_row(self.columns),
            r"\hline",
            *(_latex_row(cells) for cells in self.rows),
            r"\hline",
            r"\end{tabular}",
            rf"\caption{{{_escaped(self.caption)}}}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def narrowed(self, columns: Sequence[str]) -> "Table":
        """Return some of the columns without the intervals behind their numbers, narrow enough for a screen."""
        places = [self.columns.index(name) for name in columns]
        heads, *rows = [
            tuple(cells[place].partition(" [")[0] for place in places) for cells in (self.columns, *self.rows)
        ]
        return Table(columns=heads, rows=tuple(rows), caption=self.caption)

    def show(self, console: Console) -> None:
        """Print the table."""
        shown = rich.table.Table(*map(escape, self.columns), box=SIMPLE_HEAD)
        for cells in self.rows:
            shown.add_row(*map(escape, cells))
        console.print(shown)
        console.print(self.caption, markup=False)

    def write(self, path: Path) -> None:
        """Write ``<path>.md`` and ``<path>.tex``."""
        for suffix, text in ((".md", self.markdown()), (".tex", self.latex())):
            with written_whole(path.with_suffix(suffix)) as partial:
                partial.write_text(text)


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    for plain, escaped in _ESCAPES.items():
        text = text.replace(plain, escaped)
    return text
