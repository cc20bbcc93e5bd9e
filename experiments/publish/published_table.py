"""A table of all published figures for the families here, next to our results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from metarl import Report
from metarl.evaluation.archive import SUFFIX, read_archive
from metarl.experiments.cli.overrides import overrides_in
from metarl.experiments.publish import papers as published
from metarl.experiments.runs.records import load_evaluation
from metarl.views import View

Row = tuple[str, str, str, str, str, str, str]


def published_table(results: Path, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown.

    Args:
        results: The folder of results.
        runs: The records of published runs.
    """
    rows = [
        *_rl2(runs),
        *_robots(runs),
        *_classical(results / "classical" / "returns.npz"),
        *_classical(results / "classical" / "mdp-returns.npz"),
        *_maml(results),
    ]
    heading = ("source", "family", "agent", "published", "here", "seeds, tasks", "command")
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (heading, ("---",) * len(heading), *rows)
    )


def is_of(
    config: Mapping[str, Any], agent: str, family: str, view: View = MappingProxyType({})
) -> bool:
    """Return whether a run is of that agent, family and view, as its preset trains it."""
    found = config["agent"], config["tasks"], config.get("view", {})
    plain = not config.get("teacher") and not overrides_in(config["command"])
    return plain and found == (agent, family, dict(view))


def _of(runs: Sequence[Mapping[str, Any]], agent: str, family: str) -> list[Report]:
    return [run["report"] for run in runs if is_of(run["config"], agent, family)]


def _counts(num_seeds: int, num_tasks: int) -> str:
    return f"{num_seeds} seed{'s' if num_seeds > 1 else ''}, {num_tasks} tasks"


def _rl2(runs: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    duan = "Duan et al. 2016, best of 5 seeds"
    figures = (published.RL2_BANDITS | published.RL2_MDPS).items()
    known = [(family, duan, str(figure)) for family, figure in figures]
    grid = "exact, for the grid of Zintgraf et al. 2020"
    for family, source, figure in [*known, ("gridnavi", grid, "37.21, the best possible")]:
        for started in (False, True):
            chosen = [run for run in runs if bool(run["config"].get("start")) == started]
            if not (reports := _of(chosen, "rl2", family)):
                continue
            here = ", ".join(f"{report.trial_returns.mean():.2f}" for report in reports)
            counts = _counts(len(reports), reports[0].num_tasks)
            command, who = f"`metarl train rl2 {family}`", "RL²"
            if started:
                command = f"{command}, started as in [the list of runs](runs.md)"
                who = "RL², started from another agent"
            yield source, f"`{family}`", who, figure, here, counts, command


def _robots(runs: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for family, (source, figure) in published.RL2_ROBOTS.items():
        if reports := _of(runs, "rl2", family):
            here = ", ".join(f"{report.first.mean():.0f}" for report in reports)
            counts = _counts(len(reports), reports[0].num_tasks)
            command = f"`metarl train rl2 {family}`"
            yield source, f"`{family}`", "RL², first episode", figure, here, counts, command


def _classical(path: Path) -> Iterator[Row]:
    """Yield the classical strategies of a study's record."""
    record, arrays = read_archive(path)
    for result, returns in zip(record["results"], arrays["returns"]):
        if "num_pulls" in result:
            key = result["num_pulls"], result["num_arms"]
            figures, family = published.CLASSICAL_BANDITS[key], f"`bandit-{key[0]}x{key[1]}`"
        else:
            num_episodes = result["num_episodes"]
            figures = published.CLASSICAL_MDPS[num_episodes]
            family = f"`tabular-mdp-{num_episodes}`"
        learner = result["learner"]
        figure = figures.get(learner.removesuffix(published.PRIOR_MEAN_0))
        if figure is not None and not learner.startswith("known"):  # not in the paper
            error = returns.std(ddof=1) / np.sqrt(len(returns))
            here, counts = f"{returns.mean():.2f} ± {error:.2f}", f"{len(returns)} tasks"
            command = f"`{record['command']}`"
            yield "Duan et al. 2016", family, learner, str(figure), here, counts, command


def _maml(results: Path) -> Iterator[Row]:
    for family, learners in published.MAML.items():
        for learner, figures in learners.items():
            paths = sorted((results / "maml" / family).glob(f"{learner.lower()}-*{SUFFIX}"))
            if not paths:
                continue
            steps = min(1, len(figures) - 1)
            reports = [load_evaluation(path)["report"] for path in paths]
            here = [f"{report.rounds[:, steps].mean():.1f}" for report in reports]
            who = f"{learner}, after {steps} steps" if steps == 0 else f"{learner}, after 1 step"
            if any("env-steps" in path.name for path in paths):
                who += ", trained for fewer env steps than MAML"
            yield (
                "Finn et al. 2017",
                f"`{family}`",
                who,
                str(figures[steps]),
                ", ".join(here),
                _counts(len(paths), reports[0].num_tasks),
                "`metarl study maml`",
            )
