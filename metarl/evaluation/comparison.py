"""Several agents on the same tasks: one table, one picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl.errors import InvalidValueError
from metarl.evaluation.curves import Curve, Groups, curve_of
from metarl.evaluation.report import SHORT_NAMES, Report
from metarl.evaluation.statistics import STATISTIC_NAMES
from metarl.evaluation.tables import Cell, Table, as_text, range_of_episodes
from metarl.tasks import Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_table(reports: Sequence[Report]) -> str:
    """Return several reports on the same tasks as one table, a row for each agent.

    Raises:
        ValueError: If they are not of the same tasks.
    """
    check_comparable(reports)
    first = reports[0]
    groups = _groups(reports)
    # A total over 3 episodes and one over 40 do not compare: those count that all agents had.
    common = min(report.num_episodes for report in reports)
    rows: list[tuple[Cell, ...]] = []
    for report in sorted(reports, key=lambda report: -report.returns[:, :common].sum()):
        had = [(start, stop) for start, stop in groups if stop <= report.num_episodes]
        curve = curve_over_seeds([report], had)
        cells = [*map(float, curve.value), *[None] * (len(groups) - len(had))]
        rows.append((report.agent, *cells, report.total(common)))
    headings = [range_of_episodes(group) for group in groups]
    headings[0] = f"ep. {headings[0]}"
    total, totalled = "all together", "a whole trial"
    if any(report.num_episodes > common for report in reports):
        total = f"first {common}" if common > 1 else "first"
        totalled = "these episodes together" if common > 1 else "this episode"
    notes = dict.fromkeys(note for report in reports for note in report.all_notes())
    return "\n".join(
        [
            f"{describe_evaluation(first)} ({SHORT_NAMES[first.statistic]} return per episode)",
            as_text(Table(("agent", *headings, total), tuple(rows), left=1)),
            f" {total}: mean return of {totalled} (95% interval over tasks)",
            *(f" note: {note}" for note in notes),
        ]
    )


def describe_evaluation(report: Report) -> str:
    """Return what reports are of: the family, the split and how many tasks."""
    return f"{report.family}, {report.split}: {report.describe_tasks()}"


def _groups(reports: Sequence[Report]) -> Groups:
    """Divide episodes into ranges: those of the report with the fewest, then of the others."""
    groups: Groups = []
    for report in sorted(reports, key=lambda report: report.num_episodes):
        begun = groups[-1][1] if groups else 0
        more = [(max(start, begun), stop) for start, stop in report.groups(5) if stop > begun]
        groups += more
    return groups


def curve_over_seeds(
    reports: Sequence[Report], groups: Groups | None = None, confidence: float = 0.95
) -> Curve:
    """Return the curve of one agent: the mean over its seeds of the statistic over tasks.

    Args:
        reports: A report of each seed, on the same tasks.
        groups: Ranges (start, stop) of episode indices; None takes at most twelve.
        confidence: The level of the interval: over tasks, or over seeds and tasks if there are
            several seeds.

    Raises:
        ValueError: If the reports are not of the same tasks.
    """
    # Early records of oracles name the view in their tasks: values are what counts here.
    first, *others = reports
    renamed = [
        replace(each, tasks=Tasks(first.tasks.family, each.tasks.columns)) for each in others
    ]
    check_comparable([first, *renamed])
    return curve_of(
        [report.returns for report in reports],
        first.groups(12) if groups is None else groups,
        first.bootstrap,
        first.statistic,
        confidence,
    )


def ends_table(rows: Iterable[tuple[str, str | int, Report]], name: str = "agent") -> Table:
    """Return how agents begin and end as a table, every seed in a row.

    Args:
        rows: For each row the agent's name, the seed of its training and its report.
        name: What the first column is called.
    """
    found: list[tuple[Cell, ...]] = []
    for agent, seed, report in rows:
        first, last, gain = report.ends()
        after = report.at_round(1)
        found.append((agent, seed, first, after, last, report.num_episodes, gain))
    columns = (name, "seed", "first", "after 1", "last", "episodes", "last minus first")
    return Table(columns, tuple(found))


def describe_ends(report: Report) -> str:
    """Return what the table of ends shows, in a sentence."""
    return (
        f"Return of an episode, {STATISTIC_NAMES[report.statistic]} over tasks with its 95% "
        "interval: before any experience, after one round of it (an episode, or the K that an "
        "agent adapts by), and at the end; and the difference of last and first, whose interval "
        "is paired by task."
    )


def plot_reports(reports: Sequence[Report], path: str | Path | None = None) -> "Figure":
    """Draw adaptation curves of agents on the same tasks: the statistic and its interval.

    Args:
        reports: The reports; the first is drawn in front.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If the reports are not of the same tasks.
    """
    check_comparable(reports)
    # Reports of one name, as of two evaluations of one agent, are lines of their own.
    return _plot([(report.agent, [report]) for report in reports], path)


def plot_agents(agents: Mapping[str, Sequence[Report]], path: str | Path | None = None) -> "Figure":
    """Draw adaptation curves of agents on the same tasks: the mean over seeds and its interval.

    Args:
        agents: For each agent, by name, the reports of its seeds; the first is drawn in front.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If the reports are not of the same tasks.
    """
    check_comparable([report for found in agents.values() for report in found])
    return _plot(list(agents.items()), path)


def _plot(agents: Sequence[tuple[str, Sequence[Report]]], path: str | Path | None) -> "Figure":
    from metarl.evaluation.plotting import plot_curves

    curves = [
        (name, curve_over_seeds(found, found[0].groups(found[0].num_points)))
        for name, found in agents
    ]
    return plot_curves(curves, describe_evaluation(agents[0][1][0]), path)


def on_common_tasks(reports: Sequence[Report]) -> list[Report]:
    """Cut reports to as many tasks as the one with the fewest has.

    They are of the same tasks then where the family draws its tasks one after the other; see
    :func:`comparable`.
    """
    fewest = min(report.num_tasks for report in reports)
    return [
        report if report.num_tasks == fewest else report.select(np.arange(fewest))
        for report in reports
    ]


def comparable(reports: Sequence[Report]) -> bool:
    """Return whether reports are of the same tasks."""
    first = reports[0]
    return all(
        (other.split, other.seed, other.num_tasks) == (first.split, first.seed, first.num_tasks)
        and other.tasks == first.tasks
        for other in reports[1:]
    )


def check_comparable(reports: Sequence[Report]) -> None:
    """Raise unless reports are of the same tasks.

    Raises:
        ValueError: If there are none, or families, splits or tasks differ.
    """
    if not reports:
        raise InvalidValueError("expected at least one report, got none")
    first = reports[0]
    for other in reports[1:]:
        if not comparable([first, other]):
            raise InvalidValueError(
                f"{first.agent!r} and {other.agent!r} were not evaluated on the same tasks: "
                f"{first.family}/{first.split}, {first.num_tasks} tasks, seed {first.seed} against "
                f"{other.family}/{other.split}, {other.num_tasks} tasks, seed {other.seed}; "
                "evaluate both with the same split, num_tasks and seed"
            )
