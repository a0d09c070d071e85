from pathlib import Path

from rich.console import Console

from profiling.markup import Table

TABLE = Table(columns=("block", "drop [95 %]"), rows=(("one_shot", "0.1 +- 0.2"),), caption="A & B.")


def test_a_table_is_written_in_markdown_and_latex() -> None:
    TABLE.write(Path("table"))
    assert Path("table.md").read_text() == (
        "| block | drop [95 %] |\n| --- | --- |\n| one_shot | 0.1 +- 0.2 |\n\nA & B.\n"
    )
    latex = Path("table.tex").read_text()
    assert "block & drop [95 \\%] \\\\" in latex
    assert "one\\_shot & 0.1 $\\pm$ 0.2 \\\\" in latex
    assert "\\caption{A \\& B.}" in latex


def test_a_table_on_the_screen_keeps_its_brackets() -> None:
    console = Console(record=True, width=80)
    TABLE.show(console)
    assert "drop [95 %]" in console.export_text()


def test_a_narrowed_table_has_the_columns_asked_for_without_intervals() -> None:
    table = Table(columns=("name", "n", "drop [95 %]"), rows=(("a", "3", "0.1 [0.0, 0.2]"),), caption="C.")
    assert table.narrowed(["drop [95 %]", "name"]) == Table(
        columns=("drop", "name"), rows=(("0.1", "a"),), caption="C."
    )
