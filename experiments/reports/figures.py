"""Pictures of how an agent behaves while it adapts.

``python -m metarl.experiments.reports.figures RUN`` draws the paths of a run's agent in the plane
or on a grid: its first and its last episode in each of some tasks.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metarl import Agent, TaskDistribution, Transition, play
from metarl.errors import InvalidValueError, check_at_least
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.loading import load_agent
from metarl.files import atomic_write
from metarl.seeding import Seed


def draw_adaptation(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    num_tasks: int = 4,
    num_rounds: int = 3,
    shown: Sequence[int] | None = None,
    episodes_per_adaptation: int | None = None,
    seed: Seed = 0,
    path: str | Path | None = None,
) -> Figure:
    """Draw the paths an agent takes from the origin before and after each step of its adaptation.

    One column for each task, one colour for each round of ``episodes_per_adaptation`` episodes, of
    which the first is drawn.

    Args:
        agent: The agent.
        tasks: A family of the plane or of a grid: observations are positions, tasks have a
            ``goal``, episodes start at the origin.
        split: The split to draw tasks from.
        num_tasks: How many tasks to draw.
        num_rounds: How many rounds of episodes; the first is before any adaptation.
        shown: The indices of the rounds to draw, such as (0, -1) for the first and the last; None
            draws all.
        episodes_per_adaptation: As in :func:`metarl.evaluate`.
        seed: The seed of tasks, episodes and actions.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If a number is below 1, or there is no such split or family.
    """
    check_at_least(1, num_tasks=num_tasks, num_rounds=num_rounds)
    if "goal" not in tasks.parameters:
        raise InvalidValueError(
            f"paths to goals can be drawn of families with a parameter 'goal', {tasks.name!r} has "
            f"{sorted(tasks.parameters)}"
        )
    sampled = tasks.sample(split, num_tasks, seed)
    parallel = episodes_per_adaptation or agent.episodes_per_adaptation
    num_envs = num_tasks * parallel
    paths: list[list[list[NDArray[np.floating]]]] = [[[]] for _ in range(num_tasks)]

    def trace(step: Transition) -> bool:
        # Episodes of a task run side by side: the first row of each task is drawn.
        for task, row in enumerate(range(0, num_envs, parallel)):
            if step.active[row]:
                paths[task][-1].append(step.next_observations[row])
                if step.episode_end[row]:
                    paths[task].append([])
        return True

    played = play(
        agent,
        tasks,
        sampled,
        num_rounds * parallel,
        episodes_per_adaptation=episodes_per_adaptation,
        seed=seed,
        on_step=trace,
        max_envs=num_envs,  # one chunk: the rows of `trace` are those of all tasks
    )
    means = played.returns.reshape(num_tasks, num_rounds, parallel).mean(axis=2)
    figure = Figure(figsize=(3.0 * num_tasks, 3.4), layout="constrained")
    axes = figure.subplots(1, num_tasks, squeeze=False, sharex=True, sharey=True)[0]
    for task, axis in enumerate(axes):
        for index in np.arange(num_rounds)[list(shown)] if shown else range(num_rounds):
            steps = np.stack([np.zeros(2), *paths[task][index]])
            color = colormaps["viridis"](0.85 * index / max(num_rounds - 1, 1))
            label = f"round {index + 1}, mean return {means[task, index]:.1f}"
            axis.plot(steps[:, 0], steps[:, 1], color=color, linewidth=1.2, label=label)
        goal = sampled.columns["goal"][task]
        axis.plot(*goal, marker="*", color="#D55E00", markersize=12, linestyle="none")
        axis.set(aspect="equal")
        # Goals lie on all sides: only outside the axes does the legend hide no path.
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1),
            fontsize="small",
            frameon=False,
        )
    drawn = np.array([axis.dataLim.get_points() for axis in axes])
    low, high = drawn[:, 0].min(axis=0), drawn[:, 1].max(axis=0)
    middle, reach = (low + high) / 2, 0.55 * (high - low).max()
    left, bottom = middle - reach
    right, top = middle + reach
    axes[0].set(xlim=(left, right), ylim=(bottom, top))  # shared by all
    figure.suptitle(f"{agent.name} on {tasks.name}: paths while it adapts")
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
        atomic_write(path, buffer.getvalue())
    return figure


def main(run: Annotated[Path, tyro.conf.Positional], num_tasks: int = 4, seed: int = 0) -> None:
    """Draw a run's agent in held-out tasks: its paths in the first and the last episode.

    Args:
        run: The run directory.
        num_tasks: How many tasks to draw.
        seed: The seed of tasks, episodes and actions.
    """
    opened = open_run(run)
    opened.check_there()
    agent = load_agent(opened)
    parallel = agent.episodes_per_adaptation
    path = opened.evaluation / f"paths-seed{seed}.png"
    draw_adaptation(
        agent,
        agent.tasks,
        num_tasks=num_tasks,
        num_rounds=max(2, math.ceil(agent.tasks.episodes_per_trial / parallel)),
        shown=(0, -1),
        seed=seed,
        path=path,
    )
    print(f"paths: {path}")


if __name__ == "__main__":
    tyro.cli(main)
