"""Tables as data, and as text, Markdown, HTML and JSON."""

import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from metarl.errors import printable
from metarl.evaluation.statistics import Estimate

_WIDTH = 80
_LEAST_WIDTH = 20


class Share(float):
    """A number that is shown in percent."""


@dataclass(frozen=True)
class Interval:
    """An interval by itself; NaN where there is none."""

    low: float
    high: float


Cell: TypeAlias = str | int | float | Estimate | Interval | None


@dataclass(frozen=True)
class Table:
    """Rows of typed cells: texts, numbers, shares, intervals, numbers with intervals, or nothing.

    Attributes:
        columns: The columns' names.
        rows: The rows, a cell for each column.
        left: How many columns, the first ones, are names and aligned on the left as text.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 0


def as_text(table: Table) -> str:
    """Return a table as plain text, its columns aligned."""
    return plain_table(table.columns, [list(map(shown, row)) for row in table.rows], table.left)


def as_markdown(table: Table) -> str:
    """Return a table as Markdown; texts are Markdown already."""
    lines = [table.columns, ["---"] * len(table.columns), *(map(shown, row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_html(table: Table, caption: str) -> str:
    """Return a table as HTML that shows any text as it is.

    Args:
        table: The table.
        caption: What it shows.
    """

    def text(cell: Cell) -> str:
        return html.escape(printable(shown(cell)), quote=True)

    head = "".join(f"<th scope=col>{text(name)}</th>" for name in table.columns)
    body = "".join(
        f"<tr><th scope=row>{text(row[0])}</th>"
        f"{''.join(f'<td>{text(cell)}</td>' for cell in row[1:])}</tr>"
        for row in table.rows
    )
    return (
        f"<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def as_json(table: Table) -> dict[str, Any]:
    """Return a table as a dictionary for ``json.dump``, numbers in full."""

    def plain(cell: Cell) -> Any:
        if isinstance(cell, (Estimate, Interval)):
            return {name: plain(value) for name, value in vars(cell).items()}
        if isinstance(cell, float):
            return None if math.isnan(cell) else float(cell)
        return cell

    return {
        "columns": list(table.columns),
        "rows": [[plain(cell) for cell in row] for row in table.rows],
    }


def shown(cell: Cell) -> str:
    """Return a cell as text."""
    match cell:
        case None:
            return ""
        case Estimate(value, low, high):
            return f"{number(value)} ({interval(low, high)})" if low == low else number(value)
        case Interval(low, high):
            return interval(low, high) if low == low else "none"
        case Share():
            return f"{cell:.0%}"
        case float():
            return number(cell)
        case _:
            return str(cell)


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Return a table without lines, its columns aligned.

    Args:
        headings: The heading of each column.
        rows: The cells.
        left: How many columns are aligned on the left, where long names are folded; the others are
            numbers.
    """
    from rich.console import Console  # takes its time, and importing metarl should not
    from rich.table import Table as RichTable
    from rich.text import Text

    columns = list(zip(headings, *rows))
    widths = [max(map(len, column)) for column in columns]
    # Names are folded to the width that numbers leave; nothing is ever cut.
    free = _WIDTH - sum(widths[left:]) - 2 * len(columns)
    table = RichTable(box=None, header_style="")
    for index, (heading, width) in enumerate(zip(headings, widths)):
        if index < left:
            width = min(width, max(_LEAST_WIDTH, free // left))
            table.add_column(heading, width=width, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # a name in brackets is no markup
    width = sum(widths) + 2 * len(columns)  # whatever the terminal, a file or a log has
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def range_of_episodes(group: tuple[int, int]) -> str:
    """Return a range of episode indices as numbers counted from 1."""
    start, stop = group
    return str(stop) if stop == start + 1 else f"{start + 1}-{stop}"


def number(value: float) -> str:
    """Return a number with three digits, or one decimal."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def interval(low: float, high: float) -> str:
    """Return an interval."""
    return f"{number(low)} to {number(high)}"
