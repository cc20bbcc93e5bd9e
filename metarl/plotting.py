"""Adaptation curves as pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from metarl.checkpoint import atomic_write
from metarl.report import Report, check_comparable

# Okabe and Ito's palette, told apart by colour-blind readers too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLES = ("-", "--", ":")


def plot_reports(reports: Sequence[Report], path: str | Path | None = None) -> Figure:
    """Draw adaptation curves of agents on the same tasks: the statistic and its interval.

    From 50 episodes on, neighbouring episodes are averaged and the axis is logarithmic, so the
    early episodes, where adaptation happens, stay visible. It stays linear for an agent that
    learns from many episodes at a time.

    Args:
        reports: The reports; the first is drawn in front.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If the reports are not of the same tasks.
    """
    check_comparable(reports)
    figure = Figure(figsize=(7.2 if len(reports) == 1 else 8.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, report in enumerate(reports):
        summary = report.summary(report.groups(30 if report.num_episodes >= 50 else 50))
        # A point stands in the middle of its episodes, counted from 1.
        episodes = [0.5 * (start + 1 + stop) for start, stop in summary.groups]
        color = _COLORS[index % len(_COLORS)]
        axes.plot(
            episodes,
            summary.center,
            label=report.agent,
            color=color,
            linestyle=_STYLES[index // len(_COLORS) % len(_STYLES)],
            linewidth=2.2 if index == 0 else 1.4,
            marker="o" if len(episodes) <= 12 else None,
            markersize=4,
            zorder=len(reports) - index + 2,
        )
        axes.fill_between(episodes, summary.low, summary.high, color=color, alpha=0.15, linewidth=0)
    first = reports[0]
    longest = max(report.num_episodes for report in reports)
    if longest >= 50 and first.episodes_per_adaptation == 1:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(longest, 12)))
    statistic = {"iqm": "interquartile mean", "mean": "mean"}[first.statistic]
    axes.set_xlabel("adaptation episode")
    axes.set_ylabel(f"return ({statistic}, 95% interval)")
    axes.set_title(f"{first.family}, {first.split}: {first.num_tasks} tasks", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(reports) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130)
        atomic_write(path, buffer.getvalue())
    return figure
