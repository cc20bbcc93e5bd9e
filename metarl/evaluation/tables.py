"""Numbers and tables as plain text."""

import io
from collections.abc import Sequence

_WIDTH = 80
_LEAST_WIDTH = 20


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Return a table without lines, its columns aligned.

    Args:
        headings: The heading of each column.
        rows: The cells.
        left: How many columns are aligned on the left, where long names are folded; the others are
            numbers.
    """
    from rich.console import Console  # takes its time, and importing metarl should not
    from rich.table import Table
    from rich.text import Text

    columns = list(zip(headings, *rows))
    widths = [max(map(len, column)) for column in columns]
    # Names are folded to what numbers leave of a terminal; nothing is ever cut.
    free = _WIDTH - sum(widths[left:]) - 2 * len(columns)
    table = Table(box=None, header_style="")
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
