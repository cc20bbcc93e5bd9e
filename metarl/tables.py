"""Numbers and tables as plain text."""

import io
from collections.abc import Sequence


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Return a table without lines, its columns aligned.

    Args:
        headings: The heading of each column.
        rows: The cells.
        left: How many columns are aligned on the left; the others are numbers.
    """
    from rich.console import Console  # takes its time, and importing metarl should not
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*map(Text, row))  # a name in brackets is no markup
    # A fixed width keeps tables whole when output goes to a file or a log.
    console = Console(file=io.StringIO(), width=110, color_system=None)
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
