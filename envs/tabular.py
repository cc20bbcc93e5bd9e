"""Random tabular Markov decision processes, with unknown transitions and rewards."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least
from metarl.parameters import Dirichlet, Normal, Parameter
from metarl.seeding import Ids
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

REFERENCES = (
    "random",
    "psrl",
    "opsrl",
    "ucrl2",
    "mdp-epsilon-greedy",
    "mdp-greedy",
    "known-mdp",
)
"""The baselines of :func:`metarl.agents.reference` for tabular MDPs."""


class TabularVectorEnv(TaskVectorEnv):
    """A batch of random MDPs with finitely many states and actions.

    | | |
    |---|---|
    | Task | ``transitions[s, a]``: the probabilities of the next state; ``rewards[s, a]`` |
    | Observation | ``Discrete(states)``: the state |
    | Action | ``Discrete(actions)`` |
    | Reward | drawn from N(``rewards[s, a]``, 1) |
    | Start | state 0 |
    | End | truncated after ``horizon`` steps |
    | Distribution | ``transitions[s, a] ~ Dirichlet(1, ..., 1)``, ``rewards[s, a] ~ N(1, 1)`` |

    Source: Duan et al. (2016), section 3.2, with 10 states, 5 actions and 10 steps.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        num_states: The number of states.
        num_actions: The number of actions.
        horizon: The steps of an episode.

    Raises:
        ValueError: If ``num_states`` or ``num_actions`` is below 2, or ``horizon`` below 1.
    """

    def __init__(
        self, num_envs: int, num_states: int = 10, num_actions: int = 5, horizon: int = 10
    ):
        check_at_least(2, num_states=num_states, num_actions=num_actions)
        self._states = np.zeros(num_envs, dtype=np.int64)
        super().__init__(
            num_envs,
            parameters=_parameters(num_states, num_actions),
            observation_space=spaces.Discrete(num_states),
            action_space=spaces.Discrete(num_actions),
            horizon=horizon,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._mean_rewards = columns["rewards"]
        # The chance to land in one of the first states. The last entry of a row is 1, whatever
        # the rounding, so it is left out.
        self._cumulative = columns["transitions"].cumsum(axis=-1)[..., :-1]
        self._rows = np.arange(self.num_envs)

    def reset_lanes(self, ids: Ids) -> Array:
        self._states[ids] = 0
        return self._states[ids].copy()

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        place = self._rows[ids], self._states[ids], actions
        rewards = self._mean_rewards[place] + self.random.normal(ids)[:, 0]
        # Skip every state whose share lies completely below the draw.
        following = (self.random.uniform(ids) >= self._cumulative[place]).sum(axis=1)
        self._states[ids] = following
        return StepResult(following, rewards, np.zeros(len(rewards), dtype=np.bool_))


def _parameters(num_states: int, num_actions: int) -> dict[str, Parameter]:
    return {
        "transitions": Dirichlet((num_states, num_actions, num_states)),
        "rewards": Normal(1.0, 1.0, (num_states, num_actions)),
    }


def tabular_mdp(
    num_episodes: int, num_states: int = 10, num_actions: int = 5, horizon: int = 10
) -> TaskDistribution:
    """The family of random tabular MDPs, each played for n episodes.

    Args:
        num_episodes: n, the episodes of a trial.
        num_states: The number of states.
        num_actions: The number of actions.
        horizon: The steps of an episode.

    Raises:
        ValueError: If ``num_episodes`` or ``horizon`` is below 1, or ``num_states`` or
            ``num_actions`` below 2.
    """
    check_at_least(1, num_episodes=num_episodes, horizon=horizon)
    check_at_least(2, num_states=num_states, num_actions=num_actions)
    return TaskDistribution(
        name=f"tabular-mdp-{num_episodes}",
        parameters=_parameters(num_states, num_actions),
        env_factory=functools.partial(
            TabularVectorEnv, num_states=num_states, num_actions=num_actions, horizon=horizon
        ),
        episodes_per_trial=num_episodes,
        statistic="mean",
        references=REFERENCES,
        description=(
            f"random MDPs of {num_states} states and {num_actions} actions, "
            f"{num_episodes} episodes of {horizon} steps"
        ),
        varying_factor="dynamics",
        built_in=True,
    )


FAMILIES = {f"tabular-mdp-{n}": functools.partial(tabular_mdp, n) for n in (10, 25, 50, 75, 100)}


def parse_tabular_mdp(name: str) -> TaskDistribution | None:
    """Parse names such as ``tabular-mdp-25`` (n episodes); None for any other name."""
    match = re.fullmatch(r"tabular-mdp-(\d{1,18})", name)
    return tabular_mdp(int(match[1])) if match else None
