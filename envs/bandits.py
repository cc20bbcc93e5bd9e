"""Bernoulli bandits: the smallest problem in which one must explore before one can exploit."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least, check_at_most
from metarl.parameters import Uniform
from metarl.seeding import Ids
from metarl.splits import Columns, TaskSampler
from metarl.vector.changing import ChangingTasks
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

REFERENCES = (
    "random",
    "thompson-sampling",
    "greedy",
    "epsilon-greedy",
    "ucb1",
    "gittins-index",
    "known-best-arm",
)
"""The baselines of :func:`metarl.agents.reference` for Bernoulli bandits."""

_MAX_GITTINS_PULLS = 600  # the table of indices grows with the cube of the pulls
_MAX_ARMS = 10_000


class BanditVectorEnv(TaskVectorEnv):
    """A batch of k-armed Bernoulli bandits. One pull is one episode.

    | | |
    |---|---|
    | Task | ``p``: the success probability of each arm, shape (k,), in [0, 1] |
    | Observation | ``Discrete(1)``: always 0 |
    | Action | ``Discrete(k)``: the arm to pull |
    | Reward | 1 with probability ``p[action]``, else 0 |
    | End | terminated after one pull |
    | Distribution | ``p ~ U[0, 1]``, independent for each arm (Duan et al. 2016, section 3.1) |

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        num_arms: The number of arms, k.

    Raises:
        ValueError: If ``num_arms`` is below 2 or above 10,000.
    """

    def __init__(self, num_envs: int, num_arms: int = 5):
        check_at_least(2, num_arms=num_arms)
        check_at_most(_MAX_ARMS, num_arms=num_arms)
        super().__init__(
            num_envs,
            parameters={"p": Uniform(0.0, 1.0, (num_arms,))},
            observation_space=spaces.Discrete(1),
            action_space=spaces.Discrete(num_arms),
            horizon=1,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._p = columns["p"]
        self._rows = np.arange(self.num_envs)

    def reset_lanes(self, ids: Ids) -> Array:
        return np.zeros(len(self._rows[ids]), dtype=np.int64)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        # Every pull takes one draw, whichever the arm, so streams do not depend on the actions.
        chances = self._p[self._rows[ids], actions]
        rewards = (self.random.uniform(ids)[:, 0] < chances).astype(np.float64)
        return StepResult(self.reset_lanes(ids), rewards, np.ones(len(rewards), dtype=np.bool_))


def bandit(num_pulls: int, num_arms: int) -> TaskDistribution:
    """The family of k-armed Bernoulli bandits, pulled n times.

    Args:
        num_pulls: n, the episodes of a trial.
        num_arms: k.

    Raises:
        TypeError: If one is no integer.
        ValueError: If ``num_pulls`` is below 1, ``num_arms`` is below 2, or one is too large.
    """
    check_at_least(1, num_pulls=num_pulls)
    check_at_least(2, num_arms=num_arms)
    check_at_most(_MAX_ARMS, num_arms=num_arms)
    references = [*REFERENCES]
    if num_pulls > _MAX_GITTINS_PULLS:
        references.remove("gittins-index")
    return TaskDistribution(
        name=f"bandit-{num_pulls}x{num_arms}",
        parameters={"p": Uniform(0.0, 1.0, (num_arms,))},
        env_factory=functools.partial(BanditVectorEnv, num_arms=num_arms),
        episodes_per_trial=num_pulls,
        statistic="mean",
        references=tuple(references),
        description=f"{num_arms} Bernoulli arms, {num_pulls} pulls",
        varying_factor="arms",
        built_in=True,
    )


class OneGoodArm(TaskSampler):
    """Arms of which one, drawn uniformly, wins with probability 0.9, the others below 0.5.

    Args:
        num_arms: The number of arms.
    """

    def __init__(self, num_arms: int):
        self.num_arms = num_arms

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        p = rng.uniform(0.0, 0.5, (num_tasks, self.num_arms))
        p[np.arange(num_tasks), rng.integers(self.num_arms, size=num_tasks)] = 0.9
        return {"p": p}


class Flips(ChangingTasks):
    """Bandits whose best arm changes places with another arm."""

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        columns = dict(super().sample(rng, num_tasks))
        p, rows = columns["p"], np.arange(num_tasks)
        best = p.argmax(axis=1)
        other = (best + rng.integers(1, p.shape[1], size=num_tasks)) % p.shape[1]
        after = p.copy()
        after[rows, best], after[rows, other] = p[rows, other], p[rows, best]
        return {**columns, "next_p": after}


def bandit_flip() -> TaskDistribution:
    """The family of 10 arms of which one is good, until another one is.

    The good arm wins with probability 0.9, the others below 0.5. Between a quarter and three
    quarters of 200 pulls it changes places with another. An oracle gets 180.
    """
    num_arms, num_pulls = 10, 200
    still = TaskDistribution(
        name="bandit-flip",
        parameters={"p": Uniform(0.0, 1.0, (num_arms,))},
        env_factory=functools.partial(BanditVectorEnv, num_arms=num_arms),
        splits={split: OneGoodArm(num_arms) for split in ("train", "held_out")},
        episodes_per_trial=num_pulls,
        statistic="mean",
        description="10 Bernoulli arms, 200 pulls; the good arm changes places once",
        varying_factor="arms",
        built_in=True,
    )
    references = (
        "random",
        "thompson-sampling",
        "discounted-thompson",
        "sliding-window-ucb",
        "known-best-arm",
    )
    return replace(still.changing(Flips), view={}, references=references)


FAMILIES: dict[str, Callable[[], TaskDistribution]] = {
    **{
        f"bandit-{pulls}x{arms}": functools.partial(bandit, pulls, arms)
        for pulls in (10, 100, 500)
        for arms in (5, 10, 50)
    },
    "bandit-flip": bandit_flip,
}


def parse_bandit(name: str) -> TaskDistribution | None:
    """Parse names such as ``bandit-100x5`` (n pulls, k arms); None for any other name."""
    match = re.fullmatch(r"bandit-(\d{1,18})x(\d{1,18})", name)
    return bandit(int(match[1]), int(match[2])) if match else None
