"""Tables as data, and as text, Markdown, HTML and JSON."""

import html
import math
import textwrap
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
    """Return a table without lines, its columns aligned, in 80 columns of a terminal.

    Where it is wider, headings and names are folded, and columns that still do not fit stand in
    another table below, with the names. Nothing is ever cut.

    Args:
        headings: The heading of each column.
        rows: The cells.
        left: How many columns are names, aligned on the left; the others are numbers.
    """
    columns = [list(column) for column in zip(headings, *rows)]
    names, numbers = columns[: max(left, 1)], columns[max(left, 1) :]
    if _width(columns) > _WIDTH:
        numbers = [[_folded(head, max(_widest(cells), 10)), *cells] for head, *cells in numbers]
    shortest = [[" " * min(_widest(name), _LEAST_WIDTH)] for name in names]
    blocks: list[list[list[str]]] = [[]]
    for column in numbers:
        if blocks[-1] and _width([*shortest, *blocks[-1], column]) > _WIDTH:
            blocks.append([])
        blocks[-1].append(column)
    tables = []
    for block in blocks:
        free = _WIDTH - _width([*([""] for _ in names), *block])
        folded = [
            [_folded(cell, max(_LEAST_WIDTH, free // len(names))) for cell in name]
            for name in names
        ]
        tables.append(_aligned([*folded, *block], left))
    return "\n\n".join(tables)


def _aligned(columns: Sequence[Sequence[str]], left: int) -> str:
    """Return columns side by side; their cells may have several lines."""
    from rich.cells import cell_len  # takes its time, and importing metarl should not

    widths = list(map(_widest, columns))
    lines = []
    for index, row in enumerate(zip(*columns)):
        cells = [cell.split("\n") for cell in row]
        height = max(map(len, cells))
        for cell in cells:  # headings end at the bottom, names begin at the top
            blank = [""] * (height - len(cell))
            cell[:] = [*blank, *cell] if index == 0 else [*cell, *blank]
        for parts in zip(*cells):
            spaces = [" " * (width - cell_len(part)) for part, width in zip(parts, widths)]
            padded = [part + space for part, space in zip(parts[:left], spaces)]
            padded += [space + part for part, space in zip(parts[left:], spaces[left:])]
            lines.append(f" {'  '.join(padded)}".rstrip())
    return "\n".join(lines)


def _folded(text: str, width: int) -> str:
    """Return a text in lines of at most a width."""
    return "\n".join(textwrap.wrap(text, width)) if len(text) > width else text


def _widest(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0)


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Return how wide columns are side by side, with a space before and two between them."""
    return sum(_widest(column) + 2 for column in columns) - 1


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
