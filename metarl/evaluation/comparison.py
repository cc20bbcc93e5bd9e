"""Several agents on the same tasks: one table, one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.errors import InvalidValueError
from metarl.evaluation.report import Report
from metarl.evaluation.tables import number, plain_table, range_of_episodes

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
    rows = []
    for report in sorted(reports, key=lambda report: -report.returns[:, :common].sum()):
        had = [(start, stop) for start, stop in groups if stop <= report.num_episodes]
        cells = [number(value) for value in report.summary(had).center]
        cells += [""] * (len(groups) - len(had))
        rows.append((report.agent, *cells, report.trial_summary(common)))
    headings = [range_of_episodes(group) for group in groups]
    headings[0] = f"ep. {headings[0]}"
    total, totalled = "all together", "a whole trial"
    if any(report.num_episodes > common for report in reports):
        total = f"first {common}" if common > 1 else "first"
        totalled = "these episodes together" if common > 1 else "this episode"
    name = {"iqm": "IQM", "mean": "mean"}[first.statistic]
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return "\n".join(
        [
            f"{first.family}, {first.split}: {first.num_tasks} tasks ({name} return per episode)",
            plain_table(["agent", *headings, total], rows, left=1),
            f" {total}: mean return of {totalled} ± standard error over tasks",
            *(f" note: {note}" for note in notes),
        ]
    )


def _groups(reports: Sequence[Report]) -> list[tuple[int, int]]:
    """Divide episodes into ranges: those of the report with the fewest, then of the others."""
    groups: list[tuple[int, int]] = []
    for report in sorted(reports, key=lambda report: report.num_episodes):
        begun = groups[-1][1] if groups else 0
        more = [(max(start, begun), stop) for start, stop in report.groups(5) if stop > begun]
        groups += more
    return groups


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
    from metarl.evaluation.plotting import plot_curves

    check_comparable(reports)
    first = reports[0]
    title = f"{first.family}, {first.split}: {first.num_tasks} tasks"
    return plot_curves([report.curve() for report in reports], title, path)


def comparable(reports: Sequence[Report]) -> bool:
    """Tell whether reports are of the same tasks."""
    first = reports[0]
    return all(
        (other.split, other.seed) == (first.split, first.seed) and other.tasks == first.tasks
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
