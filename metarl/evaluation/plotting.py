"""Adaptation curves as pictures."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from metarl.evaluation.curves import Curve, shown_range
from metarl.files import atomic_write

# Okabe and Ito's palette, which colour-blind readers can distinguish too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", ":")


def styles_of(labels: Iterable[str], palette: Sequence[str] = COLORS) -> list[tuple[str, int]]:
    """Return what distinguishes the lines of agents: for each a colour, and a style.

    Agents that are the same but for what follows a comma ("RL², slopes" and "RL², flat") share a
    colour. The style counts the lines before that have the same one.
    """
    kinds: dict[str, int] = {}
    used = Counter[str]()
    styles = []
    for label in labels:
        kind = kinds.setdefault(label.partition(", ")[0], len(kinds))
        color = palette[kind % len(palette)]
        styles.append((color, used[color]))
        used[color] += 1
    return styles


def plot_curves(
    curves: Sequence[tuple[str, Curve]], title: str, path: str | Path | None = None
) -> Figure:
    """Draw adaptation curves: for each agent the statistic over tasks, and its interval.

    The axis is logarithmic where neighbouring episodes are averaged, so that the early ones, in
    which adaptation happens, stay visible.

    Args:
        curves: Names of agents and their curves; the first is drawn in front.
        title: The title.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.
    """
    figure = Figure(figsize=(7.2 if len(curves) == 1 else 8.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = styles_of(agent for agent, _ in curves)
    for index, ((agent, curve), (color, style)) in enumerate(zip(curves, styles)):
        # A point stands in the middle of its episodes, counted from 1.
        episodes = [0.5 * (start + 1 + stop) for start, stop in curve.groups]
        axes.plot(
            episodes,
            curve.value,
            label=agent,
            color=color,
            linestyle=STYLES[style % len(STYLES)],
            linewidth=2.2 if index == 0 else 1.4,
            marker="o" if len(episodes) <= 12 else None,
            markersize=4,
            zorder=len(curves) - index + 2,
        )
        if curve.has_band:
            axes.fill_between(episodes, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
        else:
            axes.plot(episodes, curve.seeds.T, color=color, alpha=0.5, linewidth=0.7)
    first = curves[0][1]
    longest = max(curve.groups[-1][1] for _, curve in curves)
    # An agent that learns from K episodes at a time has K in its first group.
    if longest >= 50 and first.groups[0] == (0, 1):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(longest, 12)))
    axes.set_ylim(shown_range([curve for _, curve in curves]))
    axes.set_xlabel("adaptation episode")
    axes.set_ylabel(f"return ({first.describe()})")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130)
        atomic_write(path, buffer.getvalue())
    return figure
