"""Pictures of what an agent believes while it adapts.

``python -m metarl.experiments.reports.beliefs RUN`` draws the belief of a run's VariBAD agent over
the cells of a grid, step by step.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metarl import Agent, Task, TaskDistribution, Tasks, Transition, play
from metarl.agents import Learner, VariBAD
from metarl.envs.grids import MOVES, Cell, grid_picture
from metarl.errors import InvalidTypeError, InvalidValueError
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.loading import load_agent
from metarl.files import atomic_write
from metarl.seeding import Seed

_COLUMNS = 4


def draw_beliefs(
    agent: Learner,
    *,
    task: Task | None = None,
    split: str = "held_out",
    num_episodes: int = 2,
    shown: Sequence[int] | None = None,
    seed: Seed = 0,
    path: str | Path | None = None,
) -> Figure:
    """Draw the reward that an agent expects in each cell of a grid, at the steps of a trial.

    It is the mean over the moves that lead into the cell from its neighbours.

    Args:
        agent: The agent, of a family of grids in which tasks have a ``goal``.
        task: The task; None draws one.
        split: The split to draw it from.
        num_episodes: How many episodes are played.
        shown: The numbers of the steps before which the belief is drawn, over all episodes; None
            draws every second step of each episode.
        seed: The seed of task, episodes and actions.
        path: Where to write the picture (PNG), or None.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: If it is another kind of agent.
        ValueError: If the family is no such grid, or the agent has no decoder of rewards.
    """
    if not isinstance(agent, VariBAD):
        raise InvalidTypeError(f"beliefs can be drawn of a VariBAD agent, got {agent!r}")
    if _size(agent.tasks) is None:
        raise InvalidValueError(
            f"beliefs can be drawn over grids with a hidden goal, {agent.tasks.name!r} has none"
        )
    if task is None:
        task = agent.tasks.sample(split, 1, seed)[0]
    steps: list[Transition] = []

    def record(step: Transition) -> bool:
        steps.append(step)
        return True

    play(agent, agent.tasks, Tasks.stack([task]), num_episodes, seed=seed, on_step=record)
    positions, ends = (_column(steps, name) for name in ("observations", "episode_end"))
    expected = expected_in_cells(agent, steps)
    started = np.maximum.accumulate(np.where([True, *ends[:-1]], np.arange(len(steps)), 0))
    every_second = [n for n, start in enumerate(started) if (n - start) % 2 == 0]
    numbers = every_second if shown is None else list(shown)
    num_columns = min(len(numbers), _COLUMNS)
    num_rows = math.ceil(len(numbers) / num_columns)
    figure = Figure(figsize=(1.3 * num_columns + 0.8, 1.5 * num_rows + 0.4), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    episodes = np.cumsum([0, *ends[:-1]])
    axes = list(grid.flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, number in zip(axes, numbers):
        image = axis.imshow(
            expected[number], origin="lower", cmap="viridis", vmin=expected.min(), vmax=1.0
        )
        walked = positions[started[number] : number + 1]
        axis.plot(walked[:, 0], walked[:, 1], color="white", linewidth=1.0)
        axis.plot(*walked[-1], marker="o", color="#56B4E9", markersize=7, markeredgecolor="white")
        axis.plot(*task["goal"], marker="*", color="#D55E00", markersize=11)
        step = number - started[number]
        axis.set_title(f"episode {episodes[number] + 1}, step {step}", fontsize="x-small")
    figure.colorbar(image, ax=axes, label="expected reward", shrink=0.7)
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        atomic_write(path, buffer.getvalue())
    return figure


def expected_in_cells(agent: VariBAD, steps: Sequence[Transition]) -> NDArray[np.float32]:
    """Return the reward that an agent expects in each cell before each step of a trial.

    It is the mean over the moves that lead into the cell from its neighbours.

    Args:
        agent: The agent, of a family of grids.
        steps: The steps of the trial, of one environment.

    Returns:
        An array of shape (time, y, x).
    """
    size = _size(agent.tasks)
    assert size is not None
    columns = ("observations", "actions", "rewards", "episode_end")
    rows, _ = agent.trial_input.sequence(*(_column(steps, name)[None] for name in columns))
    cells = np.array([(x, y) for y in range(size) for x in range(size)])
    moves = np.tile(np.arange(4), len(cells))  # into each cell, from its neighbours
    after = cells.repeat(4, axis=0)
    before = after - MOVES[moves]
    inside = ((before >= 0) & (before < size)).all(axis=1)
    expected = agent.expected_rewards(
        rows[0], before.astype(np.float32), moves, after.astype(np.float32)
    )
    expected = np.where(inside, expected, np.nan).reshape(-1, size, size, 4)
    return np.asarray(np.nanmean(expected, axis=3))


def belief_pictures(
    agent: Agent, tasks: TaskDistribution, steps: Sequence[Transition]
) -> list[NDArray[np.uint8]] | None:
    """Return the belief before each step of a trial as a picture in the size of the grid's.

    The brighter a cell, the more reward is expected there.

    Args:
        agent: An agent.
        tasks: The family.
        steps: The steps of the trial, of one environment.

    Returns:
        Pictures, or None if the agent has no belief that could be drawn over a grid.
    """
    size = _size(tasks)
    if size is None or not (isinstance(agent, VariBAD) and agent.config.decode_reward):
        return None
    expected = expected_in_cells(agent, steps)
    low = expected.min()
    colors = colormaps["viridis"]((expected - low) / max(1.0 - low, 1e-6), bytes=True)[..., :3]
    return [grid_picture(each.swapaxes(0, 1)) for each in colors]


def _size(tasks: TaskDistribution) -> int | None:
    """Return the size of the grid in which a family hides a goal, if it does."""
    goal = tasks.parameters.get("goal")
    return goal.size if isinstance(goal, Cell) else None


def _column(steps: Sequence[Transition], name: str) -> NDArray[Any]:
    """Return a part of the steps of the first environment, of shape (time, ...)."""
    return np.array([getattr(step, name)[0] for step in steps])


def main(run: Annotated[Path, tyro.conf.Positional], seed: int = 0) -> None:
    """Draw what a run's agent expects of each cell, during its first two episodes.

    Args:
        run: The run directory.
        seed: The seed of task, episodes and actions.
    """
    opened = open_run(run)
    opened.check_there()
    path = opened.evaluation / f"beliefs-seed{seed}.png"
    draw_beliefs(load_agent(opened), seed=seed, path=path)
    print(f"beliefs: {path}")


if __name__ == "__main__":
    tyro.cli(main)
