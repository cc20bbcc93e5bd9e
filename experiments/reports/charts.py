"""The charts of a report's page, as Vega-Lite specifications: plain data, drawn by a library.

Each has a parameter ``shown``, the names of the agents that are drawn, for the page's controls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import Report
from metarl.errors import printable
from metarl.evaluation.comparison import curve_over_seeds
from metarl.evaluation.curves import EXPERIENCE, Curve, episode_ticks, shown_range
from metarl.evaluation.plotting import COLORS, styles_of
from metarl.evaluation.statistics import STATISTIC_NAMES
from metarl.parameters import Parameter

Spec = dict[str, Any]
Row = dict[str, Any]

# Black is no colour on a dark page.
PALETTE = [*(color for color in COLORS if color != "#000000"), "#8172B2", "#937860", "#4C9A8A"]
DASHES = [[1, 0], [6, 3], [2, 3]]
NUM_BINS = 12
_FEW = 3  # values of a parameter are choices, with nothing between them
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched
_WIDTH, _HEIGHT = 780, 340


@dataclass(frozen=True)
class Result:
    """One evaluation on a page.

    Attributes:
        label: What the agent is called; results of one label are seeds of one agent.
        seed: The seed of its training.
        report: What it achieved.
        config: The run's configuration, or whatever is known of how it came to be.
        learning: What the evaluations during training gave: env steps so far, and the mean return
            of the last adaptation episode on validation tasks.
    """

    label: str
    seed: int
    report: Report
    config: Mapping[str, Any]
    learning: Sequence[tuple[int, float]] = ()


def by_label(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Gather the seeds of each agent, agents in the order of their first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.label, []).append(result)
    return groups


def over_episodes(results: Sequence[Result]) -> Spec:
    """Return the chart of return against episodes of experience, for each agent.

    A line is the mean over seeds, thin lines are seeds, the band is the interval: over tasks, or
    over seeds and tasks. Two seeds have no band (``Curve.has_band``).
    """
    curves: dict[bool, list[Row]] = {False: [], True: []}
    seeds: dict[bool, list[Row]] = {False: [], True: []}
    found_curves: list[Curve] = []
    for label, found in by_label(results).items():
        curve = curve_over_seeds([each.report for each in found])
        found_curves.append(curve)
        lines = [
            {
                "agent": label,
                "episodes": start,
                "return": _round(curve.value[index]),
                "low": _round((curve.low if curve.has_band else curve.value)[index]),
                "high": _round((curve.high if curve.has_band else curve.value)[index]),
            }
            for index, (start, _) in enumerate(curve.groups)
        ]
        by_seed = [
            [
                {**row, "seed": each.seed, "return": _round(values[index])}
                for index, row in enumerate(lines)
            ]
            for each, values in zip(found, curve.seeds)
        ]
        # What an agent learns from a round of episodes shows after the last of them, in a step.
        rounds = curve.by_rounds
        for rows, among in [(lines, curves[rounds]), *((rows, seeds[rounds]) for rows in by_seed)]:
            among += rows
            if rounds:
                among.append({**rows[-1], "episodes": curve.experience[-1]})
    statistic = STATISTIC_NAMES[results[0].report.statistic]
    last = max(curve.experience[-1] for curve in found_curves)
    x = {
        "field": "episodes",
        "type": "quantitative",
        "title": EXPERIENCE,
        "scale": {"type": "symlog", "constant": 1},
        "axis": {"values": episode_ticks(last), "format": "d"},
    }
    domain = [_round(end) for end in shown_range(found_curves)]
    title = f"return of the next episode ({statistic})"
    y = _y("return", title, domain)
    several = len(results) > len(by_label(results))
    faint = min(0.15, 1.0 / len(by_label(results)))  # bands lie on each other
    layers: list[Spec] = []
    for rounds, shape in ((False, "linear"), (True, "step-after")):
        if not curves[rounds]:
            continue
        data = {"data": {"values": curves[rounds]}, "transform": [_SHOWN]}
        layers += [
            {
                **data,
                "mark": {"type": "area", "opacity": faint, "clip": True, "interpolate": shape},
                "encoding": {
                    "y": _y("low", title, domain),
                    "y2": {"field": "high", "title": title},
                    "strokeDash": None,
                },
            },
            {
                **data,
                "mark": {
                    "type": "line",
                    "strokeWidth": 2.5,
                    "point": {"size": 35},
                    "interpolate": shape,
                },
                "encoding": {
                    "y": y,
                    "tooltip": _tooltip("agent", "episodes", "return", "low", "high"),
                },
            },
        ]
        if several:
            layers.append(
                {
                    "data": {"values": seeds[rounds]},
                    "transform": [_SHOWN],
                    "mark": {
                        "type": "line",
                        "strokeWidth": 0.8,
                        "opacity": 0.7,
                        "interpolate": shape,
                    },
                    "encoding": {"y": y, "detail": {"field": "seed"}},
                }
            )
    return _chart(results, [], x, layers)


def trained_ranges(distribution: Parameter, low: float, high: float) -> list[tuple[float, float]]:
    """Return the parts of an axis that a parameter's values come from in training.

    Args:
        distribution: The parameter, of the split ``train``.
        low: The axis' least value.
        high: Its greatest.
    """
    if distribution.shape != ():
        return []
    places = np.linspace(low, high, 2001)
    inside = np.concatenate([[False], distribution.contains(places), [False]])
    starts, stops = np.flatnonzero(inside[1:] != inside[:-1]).reshape(-1, 2).T
    return [(float(places[a]), float(places[b - 1])) for a, b in zip(starts, stops) if b - a > 1]


def over_parameter(
    results: Sequence[Result], parameter: str, trained: Sequence[tuple[float, float]] = ()
) -> Spec:
    """Return the chart of return against a parameter of the tasks, first and last episodes.

    Args:
        results: The results.
        parameter: A numeric parameter of the tasks.
        trained: The ranges that training had.
    """
    column = np.concatenate([result.report.tasks.columns[parameter] for result in results])
    borders = _borders(column)
    places = {index: column[bins].mean() for index, bins in _bins(column, borders).items()}
    rows: list[Row] = []
    for label, found in by_label(results).items():
        for when, end in (("first", 0), ("last", -1)):
            values: dict[int, list[float]] = {}
            for each in found:
                means = each.report.rounds[:, end]
                for index, bins in _bins(each.report.tasks.columns[parameter], borders).items():
                    values.setdefault(index, []).append(float(means[bins].mean()))
            rows += [
                {
                    "agent": label,
                    "when": f"{when} episodes",
                    "value": _round(places[index]),
                    "return": _round(np.mean(seeds)),
                }
                for index, seeds in sorted(values.items())
            ]
    # Vega-Lite puts the title of an encoding into code, where a backslash has a meaning of its own;
    # that of an axis is only shown.
    x: Spec = {
        "field": "value",
        "type": "quantitative",
        "axis": {"title": printable(parameter)},
        "scale": {"zero": False},
    }
    mark: Spec = {"type": "line", "strokeWidth": 2}
    symbol = {"symbolStrokeColor": "#888888", "symbolType": "stroke"}
    if len(places) <= _FEW:
        x["axis"]["values"] = [_round(place) for place in places.values()]
        x["scale"]["padding"] = 30
        mark = {"type": "line", "strokeWidth": 0, "point": {"size": 80}}
        symbol = {"symbolFillColor": "#888888", "symbolType": "circle"}
    opacity = {
        "field": "when",
        "type": "ordinal",
        "title": None,
        "legend": {"orient": "bottom", **symbol},
        "scale": {"domain": ["last episodes", "first episodes"], "range": [1.0, 0.4]},
    }
    layers: list[Spec] = [
        {
            "mark": mark,
            "encoding": {
                "y": _y("return", "return of an episode (mean)"),
                "opacity": opacity,
                "tooltip": _tooltip("agent", "when", "value", "return"),
            },
        }
    ]
    if trained:
        shade = {
            "data": {"values": [{"from": low, "to": high} for low, high in trained]},
            "mark": {"type": "rect", "opacity": 0.15, "color": "#888888", "clip": True},
            "encoding": {
                "x": {"field": "from", "type": "quantitative"},
                "x2": {"field": "to"},
                "color": {"value": "#888888"},
                "strokeDash": None,
            },
        }
        layers.insert(0, shade)
    return _chart(results, rows, x, layers)


def gains(results: Sequence[Result]) -> Spec:
    """Return the chart of last minus first episode, task by task, sorted: who gains, who loses."""
    rows: list[Row] = []
    for label, found in by_label(results).items():
        gain = np.sort(np.concatenate([each.report.gain for each in found]))
        shares = (np.arange(len(gain)) + 0.5) / len(gain)
        keep = np.unique(np.linspace(0, len(gain) - 1, min(len(gain), 60)).round().astype(int))
        rows += [
            {"agent": label, "share": _round(100 * shares[i]), "gain": _round(gain[i])}
            for i in keep
        ]
    x = {
        "field": "share",
        "type": "quantitative",
        "title": "tasks, sorted by what they gain (%)",
        "scale": {"domain": [0, 100]},
    }
    layers = [
        {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "strokeDash": [2, 2], "color": "#888888"},
            "encoding": {
                "y": {"field": "zero", "type": "quantitative"},
                "x": None,
                "color": None,
                "strokeDash": None,
            },
        },
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {
                "y": _y("gain", "last minus first episode"),
                "tooltip": _tooltip("agent", "share", "gain"),
            },
        },
    ]
    return _chart(results, rows, x, layers)


def profiles(results: Sequence[Result]) -> Spec:
    """Return the performance profiles: the share of tasks and seeds above each return.

    They show whole distributions, of the last round of episodes (Agarwal et al. 2021).
    """
    last = {
        label: np.stack([each.report.last for each in found])
        for label, found in by_label(results).items()
    }
    ends = [(values.min(), values.max()) for values in last.values()]
    lowest, highest = np.min(ends), np.max(ends)
    thresholds = np.linspace(lowest, highest, 61)
    rows: list[Row] = []
    for label, found in by_label(results).items():
        above = (last[label][:, :, None] > thresholds).astype(np.float64)
        bootstrap = found[0].report.bootstrap
        share = bootstrap.estimate(bootstrap.sample(above, "mean"))
        # Of two seeds a band is too wide to be drawn; of one or two tasks there is none.
        has_band = len(found) != 2 and not np.isnan(share.low).any()
        low, high = (share.low, share.high) if has_band else (share.value, share.value)
        rows += [
            {
                "agent": label,
                "return": _round(threshold),
                "share": _round(100 * share.value[index]),
                "low": _round(100 * max(low[index], 0.0)),
                "high": _round(100 * min(high[index], 1.0)),
            }
            for index, threshold in enumerate(thresholds)
        ]
    x = {
        "field": "return",
        "type": "quantitative",
        "title": "return of the last episode",
        "scale": {"zero": False, "nice": False},
    }
    percent, title = [0.0, 100.0], "share that earns more (%)"
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": min(0.15, 1.0 / len(last)), "clip": True},
            "encoding": {
                "y": _y("low", title, percent),
                "y2": {"field": "high", "title": title},
                "strokeDash": None,
            },
        },
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {
                "y": _y("share", title, percent),
                "tooltip": _tooltip("agent", "return", "share", "low", "high"),
            },
        },
    ]
    return _chart(results, rows, x, layers)


def over_training(results: Sequence[Result]) -> Spec:
    """Return the chart of return after adaptation against env steps of training, a line a seed."""
    rows: list[Row] = [
        {"agent": each.label, "seed": each.seed, "env steps": steps, "return": _round(value)}
        for each in results
        for steps, value in each.learning
    ]
    x = {
        "field": "env steps",
        "type": "quantitative",
        "title": "steps of training",
        "axis": {"format": "~s", "tickCount": 5},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "point": {"size": 20}},
            "encoding": {
                "y": _y("return", "return of the last episode (mean)"),
                "detail": {"field": "seed"},
                "tooltip": _tooltip("agent", "seed", "env steps", "return"),
            },
        }
    ]
    return _chart(results, rows, x, layers)


_SHOWN = {"filter": "indexof(shown, datum.agent) >= 0"}


def _chart(results: Sequence[Result], rows: Sequence[Row], x: Spec, layers: Sequence[Spec]) -> Spec:
    labels = list(by_label(results))
    colors, styles = zip(*styles_of(labels, PALETTE))
    legend = {
        "orient": "bottom",
        "title": None,
        "columns": 3,
        "labelLimit": 220,
        "symbolType": "stroke",
        "symbolSize": 500,  # long enough to show dashes
        "symbolOpacity": 1,
    }
    agent = {"field": "agent", "legend": legend}
    color = {**agent, "scale": {"domain": labels, "range": colors}}
    dashes = [DASHES[style % len(DASHES)] for style in styles]
    dash = {**agent, "scale": {"domain": labels, "range": dashes}}
    drawn = []
    for layer in layers:
        if "data" not in layer:
            layer = {"data": {"values": list(rows)}, "transform": [_SHOWN], **layer}
        encoding = {"x": x, "color": color, "strokeDash": dash, **layer["encoding"]}
        drawn.append({**layer, "encoding": {k: v for k, v in encoding.items() if v is not None}})
    return {
        "$schema": _SCHEMA,
        "width": _WIDTH,
        "height": _HEIGHT,
        "params": [{"name": "shown", "value": labels}],
        "layer": drawn,
        "config": {
            "background": "transparent",
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": {
                "gridColor": "#88888844",
                "labelFlush": False,
                "labelFontSize": 12,
                "labelSeparation": 4,
                "titleFontSize": 12,
            },
            "legend": {
                "labelFontSize": 12,
                "layout": {"bottom": {"anchor": "start", "direction": "vertical"}},
            },
        },
    }


def _y(field: str, title: str, domain: Sequence[float | None] = ()) -> Spec:
    scale = {"domain": list(domain)} if domain else {"zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def _tooltip(*fields: str) -> list[Spec]:
    return [{"field": field} for field in fields]


def _borders(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the borders between bins: between the values of a grid, else of equal width."""
    distinct = np.unique(values.astype(np.float64).round(9))
    if len(distinct) <= 2 * NUM_BINS:
        return np.asarray(0.5 * (distinct[1:] + distinct[:-1]))
    return np.linspace(distinct[0], distinct[-1], NUM_BINS + 1)[1:-1]


def _bins(values: NDArray[Any], borders: NDArray[np.float64]) -> dict[int, NDArray[np.bool_]]:
    """Return which values are in each bin that is not empty."""
    places = np.digitize(values, borders)
    return {int(index): places == index for index in np.unique(places)}


def _round(value: Any) -> float | None:
    """Return a number in few digits; None, which is not drawn, where there is none."""
    return None if np.isnan(value) else float(f"{float(value):.5g}")
