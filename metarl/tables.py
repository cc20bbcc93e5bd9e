"""Reports as text tables."""

import io
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from metarl.report import Report, check_comparable


def _render(table: Table) -> str:
    # A fixed width keeps tables whole when output goes to a file or a log.
    console = Console(file=io.StringIO(), width=110, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _range(group: tuple[int, int]) -> str:
    start, stop = group
    return str(stop) if stop == start + 1 else f"{start + 1}-{stop}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _trial(report: Report) -> str:
    totals = report.trial_returns
    error = totals.std(ddof=1) / np.sqrt(len(totals)) if len(totals) > 1 else 0.0
    return f"{totals.mean():.2f} ± {error:.2f}"


def _interval(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}"


def _by_task(report: Report) -> list[str]:
    """Return a line for each task of a family of few: what tasks differ in widens no interval."""
    kinds = report.tasks.kinds()
    count = int(kinds.max()) + 1
    if not 1 < count <= min(4, report.num_tasks // 2):
        return []
    groups = report.groups(report.num_episodes)
    lines = []
    for kind in range(count):
        part = report.select(kinds == kind)
        summary = part.summary([groups[0], groups[-1]])
        ends = [
            f"{_number(center)} ({_interval(low, high)})"
            for center, low, high in zip(summary.center, summary.low, summary.high)
        ]
        lines.append(f"   {part.tasks[0].describe()}: {' -> '.join(ends)}")
    return [" first and last in each task by itself:", *lines]


def report_table(report: Report) -> str:
    """Return one report as a table: episode, mean, interquartile mean, interval."""
    summary = report.summary(report.groups(12))
    name = {"iqm": "IQM", "mean": "mean"}[report.statistic]
    table = Table(box=None, header_style="")
    for heading in ("episode", "mean", "IQM", f"{summary.confidence:.0%} interval of the {name}"):
        table.add_column(heading, justify="right")
    for group, mean, iqm, low, high in zip(
        summary.groups, summary.mean, summary.iqm, summary.low, summary.high
    ):
        table.add_row(_range(group), _number(mean), _number(iqm), _interval(low, high))
    lines = [
        f"{report.agent} on {report.family}, {report.split}: {report.num_tasks} tasks",
        _render(table),
        f" all {report.num_episodes} episodes together: {_trial(report)} "
        "(mean over tasks ± standard error)",
    ]
    if len(summary.groups) > 1:
        gain, low, high = report.improvement()
        lines.append(
            f" last minus first, task by task: {_number(gain)} "
            f"({summary.confidence:.0%} interval {_interval(low, high)})"
        )
        lines += _by_task(report)
    lines += [f" note: {note}" for note in report.notes]
    return "\n".join(lines)


def comparison_table(reports: Sequence[Report]) -> str:
    """Return several reports on the same tasks as one table, a row for each agent.

    Raises:
        ValueError: If they are not of the same tasks.
    """
    check_comparable(reports)
    first = reports[0]
    name = {"iqm": "IQM", "mean": "mean"}[first.statistic]
    table = Table(box=None, header_style="")
    longest = max(reports, key=lambda report: report.num_episodes)
    groups = longest.groups(5)
    table.add_column("agent")
    for group in groups:
        table.add_column(f"ep. {_range(group)}", justify="right")
    table.add_column("all together", justify="right")
    for report in sorted(reports, key=lambda report: -report.trial_returns.mean()):
        had = [(start, stop) for start, stop in groups if stop <= report.num_episodes]
        cells = [_number(value) for value in report.summary(had).center]
        cells += [""] * (len(groups) - len(had))
        table.add_row(report.agent, *cells, _trial(report))
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    legend = " all together: mean return of a whole trial ± standard error over tasks"
    title = f"{first.family}, {first.split}: {first.num_tasks} tasks ({name} return per episode)"
    return "\n".join([title, _render(table), legend, *(f" note: {note}" for note in notes)])
