"""Evaluation: return per adaptation episode on held-out tasks, with nothing averaged away."""

import inspect
import math
from contextlib import closing
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import (
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_names,
)
from metarl.evaluation.adaptation import Agent, OnStep, Rollout, rollout
from metarl.evaluation.report import Report
from metarl.seeding import Seed, stream, stream_seed
from metarl.spaces import difference, to_json
from metarl.tasks import Tasks

MAX_ENVS = 4096
"""The most environments an evaluation steps at once, so that memory does not grow with tasks."""
MAX_RETURNS = 10**7
"""The most returns of a report, one for each episode of each task."""


class Distributed(Protocol):
    """The interface of processes that evaluate together.

    :class:`metarl.agents.training.ranks.Ranks` has it.

    Attributes:
        size: How many there are.
    """

    size: int

    def shard(self, total: int, what: str) -> slice:
        """Return which of ``total`` things are this process's: equal parts."""
        ...

    def gather_rollout(self, rollout: Rollout) -> Rollout:
        """Return the results of the environments of all processes."""
        ...


def evaluate(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    num_tasks: int = 40,
    num_episodes: int | None = None,
    episodes_per_adaptation: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
    given: Tasks | None = None,
    ranks: Distributed | None = None,
) -> Report:
    """Let an agent adapt to tasks and measure the return of every adaptation episode.

    Each task gets the same number of episodes and all of them count, including those that explore.
    Tasks, episodes and actions depend only on the seed: agents evaluated with the same seed get the
    same tasks. Training is not affected: the evaluation has its own environments and random
    streams, and the agent does not change.

    The tasks and the actions are those of the seed *and the number of tasks*: in an evaluation of
    20, the first 10 tasks are not those of an evaluation of 10 where a family has several
    parameters (each is drawn for all tasks in turn), and even where they are, the agent draws its
    actions for all tasks from one stream. Only reports of the same ``num_tasks`` compare task by
    task. Starts and other randomness of the environments are each task's own.

    Args:
        agent: Anything with an ``adaptation`` method; see :class:`metarl.Agent`.
        tasks: The family.
        split: The split to draw tasks from.
        num_tasks: How many tasks.
        num_episodes: Adaptation episodes of each task; None takes the family's, rounded up to a
            multiple of ``episodes_per_adaptation``.
        episodes_per_adaptation: How many episodes the agent sees before each adaptation, where it
            lets one choose (MAML); None takes the agent's.
        seed: The seed of everything.
        deterministic: Whether the agent takes its most likely actions instead of sampling.
        given: Tasks to evaluate on instead of ``num_tasks`` drawn ones, for example a grid.
            ``split`` is then their name in the report, and must not be the name of a split.
        ranks: The processes that evaluate together: all call this with the same arguments, each
            plays its share of the tasks, and each gets the whole report. RL² and MAML can.

    Returns:
        The report, with raw returns of shape (num_tasks, num_episodes). Its notes mention if the
        split shares tasks with training, and the agent's own warning about this number of episodes
        if it has a method ``evaluation_warning(num_episodes)``.

    Raises:
        TypeError: If the agent cannot be evaluated, or ``tasks`` is not a TaskDistribution.
        ValueError: If there is no such split, a number is below 1, there are more than
            ``MAX_RETURNS`` episodes, the agent adapts by K episodes and ``num_episodes`` is not a
            multiple of K, the agent has spaces and they are not the family's, or it does not
            take ``episodes_per_adaptation``, or ``shard`` which ``ranks`` need.
    """
    if not isinstance(tasks, TaskDistribution):
        raise InvalidTypeError(f"tasks must be a TaskDistribution, got {tasks!r}")
    if not isinstance(agent, Agent):
        raise InvalidTypeError(
            f"{agent!r} cannot be evaluated: it lacks `name`, `episodes_per_adaptation` or "
            "`adaptation(num_tasks)`"
        )
    if given is None:
        check_names([split], tasks.splits, f"split of {tasks.name!r}:")
    elif split in tasks.splits:
        raise InvalidValueError(
            f"given tasks are not drawn from the split {split!r} of {tasks.name!r}: choose another "
            "name for them with split="
        )
    else:
        num_tasks = len(given)
    if episodes_per_adaptation is not None:
        check_at_least(1, episodes_per_adaptation=episodes_per_adaptation)
    parallel = episodes_per_adaptation or agent.episodes_per_adaptation
    if num_episodes is None:
        num_episodes = parallel * math.ceil(tasks.episodes_per_trial / parallel)
    check_at_least(1, num_tasks=num_tasks, num_episodes=num_episodes)
    check_size(num_tasks, num_episodes)
    sampled = tasks.sample(split, num_tasks, seed) if given is None else given
    played = play(
        agent,
        tasks,
        sampled,
        num_episodes,
        episodes_per_adaptation=episodes_per_adaptation,
        seed=stream(seed, "evaluation"),
        deterministic=deterministic,
        ranks=ranks,
    )
    notes = [] if given is not None else [tasks.overlap(split), tasks.sampler(split).note]
    if (evaluation_warning := getattr(agent, "evaluation_warning", None)) is not None:
        notes.append(evaluation_warning(num_episodes))
    return Report(
        agent=agent.name,
        family=tasks.name,
        view=tasks.view,
        split=split,
        returns=played.returns,
        lengths=played.lengths,
        successes=played.successes,
        tasks=sampled,
        episodes_per_adaptation=parallel,
        statistic=tasks.statistic,
        seed=seed,
        notes=tuple(note for note in notes if note),
    )


def check_size(num_tasks: int, num_episodes: int) -> None:
    """Raise if an evaluation has more episodes than a report may hold.

    Raises:
        ValueError: If there are more than ``MAX_RETURNS``.
    """
    if num_tasks * num_episodes > MAX_RETURNS:
        raise InvalidValueError(
            f"an evaluation may have at most {MAX_RETURNS:,} episodes, got num_tasks={num_tasks:,} "
            f"times num_episodes={num_episodes:,}"
        )


def play(
    agent: Agent,
    tasks: TaskDistribution,
    sampled: Tasks,
    num_episodes: int,
    *,
    episodes_per_adaptation: int | None = None,
    seed: Seed = 0,
    deterministic: bool = False,
    on_step: OnStep | None = None,
    max_envs: int = MAX_ENVS,
    ranks: Distributed | None = None,
) -> Rollout:
    """Let a fresh adaptation of an agent play episodes of given tasks.

    The tasks are played in chunks of at most ``max_envs`` environments; each chunk has an
    adaptation of its own. Starts and randomness of a task's environments do not depend on the
    chunk it is in, nor on the process. A chunk that several processes cannot share out equally is
    played by each of them.

    Args:
        agent: The agent.
        tasks: The family.
        sampled: The tasks.
        num_episodes: The episodes of each task.
        episodes_per_adaptation: As in :func:`evaluate`.
        seed: The seed of episodes and actions.
        deterministic: As in :func:`evaluate`.
        on_step: Sees every transition; rows are tasks, each ``episodes_per_adaptation`` times.
        max_envs: The most environments at once, in all processes.
        ranks: As in :func:`evaluate`.

    Returns:
        Returns, lengths and successes, of shape (num_tasks, num_episodes), in the order in which
        the agent learned from them.

    Raises:
        ValueError: If ``num_episodes`` is not a multiple of ``episodes_per_adaptation``, or the
            agent has spaces and they are not the family's; or if the agent does not take
            ``episodes_per_adaptation`` or ``ranks``.
    """
    parallel = episodes_per_adaptation or agent.episodes_per_adaptation
    options: dict[str, Any] = {}
    if parallel != agent.episodes_per_adaptation:
        _check_takes(agent, "episodes_per_adaptation", "episodes_per_adaptation")
        options["episodes_per_adaptation"] = parallel
    if ranks and ranks.size > 1:
        _check_takes(agent, "shard", "ranks")
    if num_episodes % parallel:
        raise InvalidValueError(
            f"{agent.name} adapts after every {parallel} episodes: num_episodes must be a "
            f"multiple of {parallel}, got {num_episodes}"
        )
    chunk = max(1, max_envs // parallel)
    returns = np.zeros((len(sampled), num_episodes))
    lengths = np.zeros((len(sampled), num_episodes), dtype=np.int64)
    successes = None
    for first in range(0, len(sampled), chunk):
        present = sampled[first : first + chunk]
        rows = slice(first, first + len(present))
        num_present, own, shard = len(present), slice(0, len(present)), {}
        together = ranks if ranks and ranks.size > 1 and num_present % ranks.size == 0 else None
        if together:
            own = together.shard(num_present, "tasks")
            shard = {"shard": own}
        present = present[own]
        with closing(tasks.make_vec(len(present) * parallel)) as env:
            check_spaces(agent, tasks, env)
            env.set_tasks(present.repeat(parallel))
            # Sub-environment i has the seed + i, so a task's streams are the same in any chunk.
            env_seed = stream_seed(seed, "env") + (first + own.start) * parallel
            observations, _ = env.reset(seed=env_seed)
            path = ("agent",) if first == 0 else ("agent", first)
            adaptation = agent.adaptation(
                num_present,
                seed=stream(seed, *path),
                deterministic=deterministic,
                **options,
                **shard,
            )
            played = rollout(env, observations, adaptation, num_episodes // parallel, on_step)
        if together:
            played = together.gather_rollout(played)
        returns[rows] = _by_task(played.returns, parallel)
        lengths[rows] = _by_task(played.lengths, parallel)
        if played.successes is not None:
            successes = np.zeros(returns.shape, dtype=np.bool_) if successes is None else successes
            successes[rows] = _by_task(played.successes, parallel)
    return Rollout(returns, lengths, True, successes)


def _check_takes(agent: Agent, argument: str, option: str) -> None:
    """Raise unless an agent's adaptation takes the argument that an option of evaluations needs."""
    accepted = inspect.signature(agent.adaptation).parameters
    if argument not in accepted and not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        raise InvalidValueError(
            f"{agent.name} cannot be evaluated with {option}=, as its adaptation() does not take "
            f"{argument}=; leave it out"
        )


def _by_task(values: NDArray[Any], parallel: int) -> NDArray[Any]:
    """Reshape (tasks x episodes side by side, rounds) to (tasks, all episodes, round by round)."""
    num_rounds = values.shape[1]
    rounds = values.reshape(-1, parallel, num_rounds).swapaxes(1, 2)
    return rounds.reshape(-1, num_rounds * parallel)


def check_spaces(agent: Agent, tasks: TaskDistribution, env: Any) -> None:
    """Raise if an agent has spaces and they are not those of a batch of a family's environments.

    Raises:
        ValueError: If they are others.
    """
    for what in ("observation_space", "action_space"):
        expected, got = getattr(agent, what, None), getattr(env, f"single_{what}")
        if expected is not None and (differs := difference(to_json(expected), got)):
            raise InvalidValueError(
                f"{agent.name} was made for the {what} {expected}, {tasks.name!r} has {got}: "
                f"{differs}"
            )
