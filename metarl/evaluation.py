"""Evaluation: return per adaptation episode on held-out tasks, with nothing averaged away."""

from typing import Any

from numpy.typing import NDArray

from metarl.adaptation import Agent, rollout
from metarl.errors import check_at_least, check_names
from metarl.report import Report
from metarl.seeding import stream, stream_seed
from metarl.tasks import TaskDistribution


def evaluate(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    num_tasks: int = 40,
    num_episodes: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
) -> Report:
    """Let an agent adapt to tasks and measure the return of every adaptation episode.

    Each task gets the same number of episodes and all of them count, the exploring ones too.
    Tasks, episodes and actions come from the seed alone: agents evaluated with the same seed meet
    the same tasks. Training is not touched: own environments, own random streams, and the agent
    is left as it was.

    Args:
        agent: Anything with an ``adaptation`` method; see :class:`metarl.Agent`.
        tasks: The family.
        split: The split to draw tasks from.
        num_tasks: How many tasks.
        num_episodes: Adaptation episodes of each task; None takes the family's, rounded up to a
            multiple of the agent's ``episodes_per_adaptation``.
        seed: The seed of everything.
        deterministic: Whether the agent takes its most likely actions instead of sampling.

    Returns:
        The report, with raw returns of shape (num_tasks, num_episodes).

    Raises:
        TypeError: If the agent or the family is no such thing.
        ValueError: If there is no such split, a number is below 1, the agent adapts by K
            episodes and ``num_episodes`` is not a multiple of K, or the agent has spaces and they
            are not the family's.
    """
    if not isinstance(tasks, TaskDistribution):
        raise TypeError(f"tasks must be a TaskDistribution, got {tasks!r}")
    if not isinstance(agent, Agent):
        raise TypeError(
            f"{agent!r} cannot be evaluated: it lacks `name`, `episodes_per_adaptation` or "
            "`adaptation(num_tasks)`"
        )
    check_names([split], tasks.splits, f"split of {tasks.name!r}:")
    parallel = agent.episodes_per_adaptation
    if num_episodes is None:
        num_episodes = parallel * -(-tasks.episodes_per_trial // parallel)
    check_at_least(1, num_tasks=num_tasks, num_episodes=num_episodes)
    if num_episodes % parallel:
        raise ValueError(
            f"{agent.name} adapts after every {parallel} episodes: num_episodes must be a "
            f"multiple of {parallel}, got {num_episodes}"
        )
    sampled = tasks.sample(split, num_tasks, seed)
    env = tasks.make_vec(num_tasks * parallel)
    try:
        for what in ("observation_space", "action_space"):
            expected, got = getattr(agent, what, None), getattr(env, f"single_{what}")
            if expected is not None and expected != got:
                raise ValueError(
                    f"{agent.name} was made for the {what} {expected}, {tasks.name!r} has {got}"
                )
        env.set_tasks(sampled.repeat(parallel))
        observations, _ = env.reset(seed=stream_seed(seed, "evaluation", "env"))
        adaptation = agent.adaptation(
            num_tasks, seed=stream(seed, "evaluation", "agent"), deterministic=deterministic
        )
        done = rollout(env, observations, adaptation, num_episodes // parallel)
    finally:
        env.close()

    def by_task(values: NDArray[Any]) -> NDArray[Any]:
        # Rows are tasks times episodes side by side, columns are rounds of these.
        rounds = values.reshape(num_tasks, parallel, -1).swapaxes(1, 2)
        return rounds.reshape(num_tasks, num_episodes)

    overlap = tasks.overlap(split)
    return Report(
        agent=agent.name,
        family=tasks.name,
        split=split,
        returns=by_task(done.returns),
        lengths=by_task(done.lengths),
        tasks=sampled,
        episodes_per_adaptation=parallel,
        statistic=tasks.statistic,
        seed=seed,
        notes=(overlap,) if overlap else (),
    )
