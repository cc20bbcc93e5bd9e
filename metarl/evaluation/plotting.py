"""Adaptation curves as pictures."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metarl.evaluation.curves import EXPERIENCE, Curve, episode_ticks, shown_range
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


def draw_curve(axes: Axes, label: str, curve: Curve, *, faint: float, **style: Any) -> None:
    """Draw an adaptation curve, with its band or the thin lines of its seeds.

    Args:
        axes: Where.
        label: The agent's name.
        curve: The curve.
        faint: The opacity of the band.
        style: Of the line, as ``Axes.plot`` takes it; it has a colour.
    """
    parts = [curve.value, curve.low, curve.high, *curve.seeds]
    if curve.by_rounds:  # the gain from a round shows after its last episode
        style["drawstyle"] = "steps-post"
        parts = [np.append(part, part[-1]) for part in parts]
    step: Literal["post"] | None = "post" if curve.by_rounds else None
    center, low, high, *seeds = parts
    before = _places(curve.experience)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3, "markevery": range(len(curve.groups))}
    axes.plot(before, center, label=label, **dots, **style)
    if curve.has_band:
        color = style["color"]
        axes.fill_between(before, low, high, step=step, color=color, alpha=faint, linewidth=0)
    else:
        axes.plot(before, np.transpose(seeds), **{**style, "linewidth": 0.6, "alpha": 0.6})


def show_experience(axes: Axes, curves: Sequence[Curve]) -> None:
    """Make the axis of curves that are drawn logarithmic: early episodes, which count, are wide."""
    axes.set_xscale("log")
    limits = axes.get_xlim()  # ticks would widen them
    ticks = episode_ticks(max(curve.experience[-1] for curve in curves))
    axes.set_xticks(_places(ticks), list(map(str, ticks)), minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlim(limits)


def _places(episodes: Sequence[int]) -> list[float]:
    """Return where numbers of episodes stand on a logarithmic axis that has 0, too."""
    return [max(number, 0.5) for number in episodes]


def plot_curves(
    curves: Sequence[tuple[str, Curve]], title: str, path: str | Path | None = None
) -> Figure:
    """Draw adaptation curves: for each agent the statistic over tasks, and its interval.

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
        draw_curve(
            axes,
            agent,
            curve,
            faint=0.15,
            color=color,
            linestyle=STYLES[style % len(STYLES)],
            linewidth=2.2 if index == 0 else 1.4,
            zorder=len(curves) - index + 2,
        )
    drawn = [curve for _, curve in curves]
    show_experience(axes, drawn)
    axes.set_ylim(shown_range(drawn))
    axes.set_xlabel(EXPERIENCE)
    axes.set_ylabel(f"return of the next episode\n({drawn[0].describe()})")
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
