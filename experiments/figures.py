"""Pictures of how an agent behaves while it adapts."""

import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metarl import Agent, TaskDistribution, Transition, play
from metarl.errors import check_at_least
from metarl.files import atomic_write
from metarl.seeding import Seed

_VIEW = 0.8  # the frame shows [-_VIEW, _VIEW] along both axes


def draw_adaptation(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    num_tasks: int = 4,
    num_rounds: int = 3,
    episodes_per_adaptation: int | None = None,
    seed: Seed = 0,
    path: str | Path | None = None,
) -> Figure:
    """Draw the paths an agent takes in the plane before and after each step of its adaptation.

    One column for each task, one colour for each round of ``episodes_per_adaptation`` episodes, of
    which the first is drawn.

    Args:
        agent: The agent.
        tasks: A navigation family: observations are positions, tasks have a ``goal``.
        split: The split to draw tasks from.
        num_tasks: How many tasks to draw.
        num_rounds: How many rounds of episodes; the first is before any adaptation.
        episodes_per_adaptation: As in :func:`metarl.evaluate`.
        seed: The seed of tasks, episodes and actions.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If a number is below 1 or there is no such split.
    """
    check_at_least(1, num_tasks=num_tasks, num_rounds=num_rounds)
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
        for index in range(num_rounds):
            steps = np.stack([np.zeros(2), *paths[task][index]])
            color = colormaps["viridis"](0.85 * index / max(num_rounds - 1, 1))
            label = f"round {index + 1}: {means[task, index]:.1f}"
            axis.plot(steps[:, 0], steps[:, 1], color=color, linewidth=1.2, label=label)
        goal = sampled.columns["goal"][task]
        axis.plot(*goal, marker="*", color="#D55E00", markersize=12, linestyle="none")
        axis.set(xlim=(-_VIEW, _VIEW), ylim=(-_VIEW, _VIEW), aspect="equal")
        # Goals lie on all sides: only outside the axes does the legend hide no path.
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1),
            fontsize="x-small",
            title="mean return",
            frameon=False,
        )
    figure.suptitle(f"{agent.name} on {tasks.name}: paths of {num_rounds} rounds of adaptation")
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
        atomic_write(path, buffer.getvalue())
    return figure
