"""What the demo prints: headings, lines, tables, a bar of progress."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

CONSOLE = Console(highlight=False, soft_wrap=True)
"""Where everything goes: colours on a terminal that has them, plain text in a pipe."""


def heading(number: int, count: int, title: str) -> None:
    CONSOLE.print(f"\n[bold]{number}/{count}  {escape(title)}[/bold]")


def say(text: str = "") -> None:
    """One line or several, as they are."""
    CONSOLE.print(escape(text))


def code(text: str) -> None:
    """Program text, indented."""
    for line in text.rstrip().splitlines():
        CONSOLE.print(f"    {escape(line)}", style="cyan")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is words and whose others are figures."""
    shown = Table(box=None, pad_edge=True, padding=(0, 1, 0, 2))
    for name in columns:
        shown.add_column(name, justify="left" if name == columns[0] else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    CONSOLE.print(shown)


def bar() -> Progress:
    """A bar for `add_task(name, total=...)`; its field `note` stands at its end."""
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=CONSOLE,
    )
