"""How an agent fares before and after its task changes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least, check_at_most
from metarl.evaluation.adaptation import Agent, Transition
from metarl.evaluation.play import MAX_ENVS, play
from metarl.evaluation.tables import Cell, Share, Table
from metarl.vector.changing import ChangingVectorEnv

SOON = 50
"""How many steps after a change are those just after it."""
_RECOVERED = 0.9  # of the rate that counts as recovered
_WINDOW = 10  # steps that a rate is the mean of
_STAGES = {"steps 1 to 10": (0, 10), "11 to 50": (10, SOON), "later": (SOON, None)}
"""Windows after a change, as indices of steps."""


def rewards_around_change(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    before: int,
    after: int,
    split: str = "held_out",
    num_tasks: int = 200,
    seed: int = 0,
    deterministic: bool = False,
) -> NDArray[np.float64]:
    """Play trials in which the task changes, and return the rewards of the steps around the change.

    The mean over tasks shows how low the reward falls and how many steps it takes to recover::

        rewards = rewards_around_change(agent, tasks, before=20, after=50)
        curve = np.nanmean(rewards, axis=0)  # curve[20] is the first step of the new task

    Args:
        agent: The agent.
        tasks: A family whose tasks change, as :meth:`metarl.TaskDistribution.changing` makes it.
        before: How many steps before the change.
        after: How many steps from the change on.
        split: The split to draw tasks from.
        num_tasks: How many tasks, at most 4,096.
        seed: The seed of tasks, episodes and actions.
        deterministic: Whether the agent takes its most likely actions.

    Returns:
        Rewards of shape (num_tasks, before + after); NaN outside of the trial.

    Raises:
        ValueError: If the tasks do not change, a number is out of its range, or the agent plays
            several episodes of a task side by side.
    """
    check_at_least(1, before=before, after=after, num_tasks=num_tasks)
    check_at_most(MAX_ENVS, num_tasks=num_tasks)
    if tasks.still is None:
        raise InvalidValueError(
            f"the tasks of {tasks.label} do not change within a trial: pass tasks.changing()"
        )
    if agent.episodes_per_adaptation > 1:
        raise InvalidValueError(
            f"{agent.name} plays {agent.episodes_per_adaptation} episodes of a task side by side, "
            "each with a change of its own: the step at which it learns of it is not defined"
        )
    sampled = tasks.sample(split, num_tasks, seed)
    env = tasks.make_vec(num_tasks)
    assert isinstance(env, ChangingVectorEnv)
    env.set_tasks(sampled)
    num_steps, changes = env.horizon * tasks.episodes_per_trial, env.change_steps
    at_once = env.changes_within_episodes
    env.close()
    rewards = np.full((num_tasks, before + num_steps + after), np.nan)  # a margin on both sides
    steps = np.zeros(num_tasks, dtype=np.int64)
    first = np.where(at_once, changes, num_steps)  # of the new task

    def record(transition: Transition) -> bool:
        (lanes,) = np.nonzero(transition.active)
        rewards[lanes, before + steps[lanes]] = transition.rewards[lanes]
        steps[lanes] += 1
        waiting = transition.episode_end & (first == num_steps) & (steps >= changes)
        first[waiting] = steps[waiting]
        return True

    play(
        agent,
        tasks,
        sampled,
        tasks.episodes_per_trial,
        seed=seed,
        deterministic=deterministic,
        on_step=record,
    )
    columns = first[:, None] + np.arange(before + after)
    return np.take_along_axis(rewards, columns, axis=1)


def change_table(
    rewards: Mapping[str, NDArray[np.float64]], before: int, oracle: str | None = None
) -> Table:
    """Return a table of how agents fare before and after a change, and how soon they recover.

    A rate is a mean reward per step. An agent has recovered at the first step after the change
    from which on ten steps have a mean of nine tenths of a rate: of the oracle's after the change,
    or of the agent's own before it where there is no oracle.

    Args:
        rewards: Those around the change of each agent, as :func:`rewards_around_change` gives them.
        before: How many of their steps are before the change.
        oracle: Which of the agents is the oracle, if any is.
    """
    curves = {name: np.nanmean(values, axis=0) for name, values in rewards.items()}
    rows: list[tuple[Cell, ...]] = []
    for name, curve in curves.items():
        after = curve[before:]
        parts = (curve[:before], after[:SOON], after[SOON:])
        rates = [float(np.mean(part)) if len(part) else None for part in parts]
        wanted = (
            float(np.mean(curve[:before]))
            if oracle is None
            else float(np.mean(curves[oracle][before:]))
        )
        level = wanted - (1.0 - _RECOVERED) * abs(wanted)
        means = np.convolve(after, np.full(_WINDOW, 1.0 / _WINDOW), mode="valid")
        recovered = np.flatnonzero(means >= level)
        rows.append((name, *rates, int(recovered[0]) if len(recovered) else "never"))
    columns = ("reward per step", "before", f"next {SOON} steps", "later", "steps to recover")
    return Table(columns, tuple(rows), left=1)


def recovery_table(rewards: Mapping[str, NDArray[np.float64]], before: int, oracle: str) -> Table:
    """Return a table of what agents earn around a change, as shares of what an oracle earns.

    All play the same tasks, so a share is what is lost by not knowing the task of the moment: what
    the new task is worth, and the start of an episode, lower both alike. There is no share where
    the oracle earns nothing.

    Args:
        rewards: As :func:`change_table` takes them.
        before: How many of their steps are before the change.
        oracle: Which of the agents is the oracle.
    """
    stages = {"before": slice(before)} | {
        name: slice(before + start, None if stop is None else before + stop)
        for name, (start, stop) in _STAGES.items()
    }
    curves = {name: np.nanmean(values, axis=0) for name, values in rewards.items()}

    def share(curve: NDArray[np.float64], stage: slice) -> Cell:
        earned, possible = curve[stage].sum(), curves[oracle][stage].sum()
        return Share(earned / possible) if possible > 0 else None

    rows = tuple(
        (name, *(share(curve, stage) for stage in stages.values()))
        for name, curve in curves.items()
        if name != oracle
    )
    return Table((f"share of {oracle}", *stages), rows, left=1)
