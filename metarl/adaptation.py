"""What an agent must offer to be evaluated, and the loop that lets it act."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import Seed
from metarl.vector import TaskVectorEnv

Array = NDArray[Any]


class Adaptation(Protocol):
    """A learner at work in several tasks at once: it acts, it observes, it gets better.

    It starts having seen nothing. Whatever it learns stays inside: the agent it came from is
    left untouched.

    An adaptation that learns from whole rounds of episodes has a true attribute ``lockstep``:
    no environment then begins its next episode before all have ended theirs.
    """

    def act(self, observations: Array) -> Array:
        """Choose actions.

        Args:
            observations: The present observations, of shape (num_envs, *observation_shape).

        Returns:
            Actions of shape (num_envs, *action_shape), ready for ``env.step``.
        """
        ...

    def observe(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        next_observations: Array,
        active: NDArray[np.bool_],
    ) -> None:
        """Take in what the actions led to.

        Args:
            observations: What the actions were chosen from.
            actions: The actions taken.
            rewards: Of shape (num_envs,).
            terminated: Whether the episode reached a terminal state, of shape (num_envs,).
            truncated: Whether the episode was cut by the time limit, of shape (num_envs,).
            next_observations: What followed, the last observation where an episode ended.
            active: Which environments took a step at all; the other rows mean nothing.
        """
        ...


@runtime_checkable
class Agent(Protocol):
    """Anything that :func:`metarl.evaluate` can judge.

    Attributes:
        name: How reports call the agent.
        episodes_per_adaptation: How many episodes of a task its adaptation runs side by side
            before it learns from them; 1 for agents that learn as they go.
    """

    name: str
    episodes_per_adaptation: int

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a fresh learner for ``num_tasks`` tasks that has seen nothing.

        Its batches have ``num_tasks * episodes_per_adaptation`` rows, task by task.
        """
        ...


@dataclass(frozen=True)
class Rollout:
    """What happened in some episodes of every sub-environment.

    Attributes:
        returns: The sum of rewards of each episode, of shape (num_envs, num_episodes).
        lengths: The number of steps of each episode, of the same shape.
        observations: The observation after the last step, of shape (num_envs, *observation_shape).
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    observations: Array


def rollout(
    env: TaskVectorEnv, observations: Array, adaptation: Adaptation, num_episodes: int
) -> Rollout:
    """Run a fixed number of episodes in every sub-environment; all of them count.

    A sub-environment that has finished, or waits for the others where the learner asks for
    ``lockstep``, neither steps nor counts while the others go on.

    Args:
        env: The environments, just reset.
        observations: Their present observations.
        adaptation: The learner.
        num_episodes: How many episodes to run in each sub-environment.

    Returns:
        The returns and lengths of all episodes.
    """
    lanes = np.arange(env.num_envs)
    returns = np.zeros((env.num_envs, num_episodes))
    lengths = np.zeros((env.num_envs, num_episodes), dtype=np.int64)
    episode = np.zeros(env.num_envs, dtype=np.int64)
    active = np.ones(env.num_envs, dtype=np.bool_)
    lockstep = getattr(adaptation, "lockstep", False)
    while active.any():
        actions = adaptation.act(observations)
        following, rewards, terminated, truncated, info = env.step(actions, active)
        successors = following
        if "final_obs" in info:
            ended = info["_final_obs"]
            successors = following.copy()
            successors[ended] = info["final_obs"][ended]
        current = np.minimum(episode, num_episodes - 1)
        returns[lanes, current] += rewards  # inactive rows are zero
        lengths[lanes, current] += active
        adaptation.observe(
            observations, actions, rewards, terminated, truncated, successors, active
        )
        if not active.all():  # the rows of those that did not step are empty
            following = following.copy()
            following[~active] = observations[~active]
        observations = following
        episode += terminated | truncated
        active = episode < (min(episode.min() + 1, num_episodes) if lockstep else num_episodes)
    return Rollout(returns, lengths, observations)
