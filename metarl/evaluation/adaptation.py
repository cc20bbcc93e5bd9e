"""The interface of an agent that can be evaluated, and the loop in which it acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metarl.batches import replaced, take
from metarl.errors import InvalidValueError, check_at_least
from metarl.seeding import Seed
from metarl.spaces import Values
from metarl.vector.env import TaskVectorEnv

Array = NDArray[Any]


@dataclass(frozen=True)
class Transition:
    """One step of all environments: observations, actions, and their outcome.

    Attributes:
        observations: The observations before the actions, of shape (num_envs, *observation_shape);
            for Dict and Tuple spaces a dictionary or tuple of such arrays.
        actions: The actions taken, of shape (num_envs, *action_shape), nested in the same way.
        rewards: Of shape (num_envs,).
        terminated: Whether the episode reached a terminal state, of shape (num_envs,).
        truncated: Whether the episode was cut by the time limit, of shape (num_envs,).
        next_observations: The observations after the actions; if an episode ended, its last one.
        active: Which environments took a step; the other rows have no meaning.
    """

    observations: Values
    actions: Values
    rewards: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    next_observations: Values
    active: NDArray[np.bool_]

    @property
    def episode_end(self) -> NDArray[np.bool_]:
        """Whether the step ended an episode, either way, of shape (num_envs,)."""
        return (self.terminated | self.truncated) & self.active


OnStep: TypeAlias = Callable[[Transition], bool]
"""Is called after every step; false ends the rollout there."""


class Adaptation(Protocol):
    """A learner in several tasks at once: it acts, observes and improves.

    It starts without experience. All it learns stays inside it: the agent it came from does not
    change.

    An adaptation that learns from whole rounds of episodes has a true attribute ``synchronous``:
    no environment then begins its next episode before all have ended theirs.
    """

    def act(self, observations: Values) -> Values:
        """Choose actions.

        Args:
            observations: The present observations, of shape (num_envs, *observation_shape).

        Returns:
            Actions of shape (num_envs, *action_shape), ready for ``env.step``.
        """
        ...

    def observe(self, transition: Transition) -> None:
        """Learn from the outcome of the actions, in the active environments.

        Nothing has happened in the others: what was learned about their tasks must not change.
        """
        ...


def check_rows(observations: Values, num_envs: int) -> None:
    """Raise unless there is one observation for each environment that an adaptation acts in.

    Raises:
        ValueError: If there are more or fewer.
    """
    first = observations
    while isinstance(first, (dict, tuple)):
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    if np.shape(first)[:1] != (num_envs,):
        raise InvalidValueError(
            f"this adaptation acts in {num_envs} environments at once (its tasks times the "
            f"episodes it runs side by side), got observations of shape {np.shape(first)}"
        )


@runtime_checkable
class Agent(Protocol):
    """Anything that :func:`metarl.evaluate` can evaluate.

    Attributes:
        name: The agent's name in reports.
        episodes_per_adaptation: How many episodes of a task its adaptation runs side by side
            before it learns from them; 1 for agents that learn as they go.
    """

    name: str
    episodes_per_adaptation: int

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a new learner for ``num_tasks`` tasks, without experience.

        Its batches have ``num_tasks * episodes_per_adaptation`` rows, task by task. An agent whose
        ``episodes_per_adaptation`` can be chosen for each adaptation takes it as a keyword.
        """
        ...


@dataclass(frozen=True)
class Rollout:
    """What happened in some episodes of every sub-environment.

    Attributes:
        returns: The sum of rewards of each episode, of shape (num_envs, num_episodes).
        lengths: The number of steps of each episode, of the same shape.
        complete: Whether all episodes were played to their end.
        successes: Whether the task was solved at any step of each episode, of the same shape; None
            if the environments do not report it.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    complete: bool = True
    successes: NDArray[np.bool_] | None = None


def rollout(
    env: TaskVectorEnv,
    observations: Values,
    adaptation: Adaptation,
    num_episodes: int,
    on_step: OnStep | None = None,
) -> Rollout:
    """Run a fixed number of episodes in every sub-environment; all of them count.

    A sub-environment that has finished, or waits for the others where the learner asks for
    ``synchronous``, neither steps nor counts while the others go on.

    Args:
        env: The environments, just reset.
        observations: Their present observations.
        adaptation: The learner.
        num_episodes: How many episodes to run in each sub-environment.
        on_step: Is called after every step; if it returns false, the rollout ends there, and is
            not ``complete``.

    Returns:
        The returns, lengths and, where environments tell, successes of all episodes.

    Raises:
        TypeError: If ``num_episodes`` is no integer.
        ValueError: If it is below 1, or observations, actions and environments differ in number.
    """
    check_at_least(1, num_episodes=num_episodes)
    lanes = np.arange(env.num_envs)
    returns = np.zeros((env.num_envs, num_episodes))
    lengths = np.zeros((env.num_envs, num_episodes), dtype=np.int64)
    successes = None
    episode = np.zeros(env.num_envs, dtype=np.int64)
    active = np.ones(env.num_envs, dtype=np.bool_)
    synchronous = getattr(adaptation, "synchronous", False)
    while active.any():
        actions = adaptation.act(observations)
        following, rewards, terminated, truncated, info = env.step(actions, active)
        # Where an episode ended, `following` is the first observation of the next one. The learner
        # gets the last of the ended one, or it would take the jump for a consequence of its action.
        successors = following
        if "final_obs" in info:
            ended = info["_final_obs"]
            successors = replaced(following, ended, take(info["final_obs"], ended))
        # Lanes that are done stay in the batch: their rewards are zero and fall on their last
        # episode, so that every lane counts the same number of episodes.
        current = np.minimum(episode, num_episodes - 1)
        returns[lanes, current] += rewards
        lengths[lanes, current] += active
        if "success" in info:
            successes = np.zeros(returns.shape, dtype=np.bool_) if successes is None else successes
            successes[lanes, current] |= info["success"]
        transition = Transition(
            observations, actions, rewards, terminated, truncated, successors, active
        )
        adaptation.observe(transition)
        if on_step is not None and not on_step(transition):
            return Rollout(returns, lengths, False, successes)
        if not active.all():  # the rows of those that did not step are empty
            following = replaced(following, ~active, take(observations, ~active))
        observations = following
        episode += terminated | truncated
        active = episode < (min(episode.min() + 1, num_episodes) if synchronous else num_episodes)
    return Rollout(returns, lengths, True, successes)
