"""How an agent acts while it is recorded: given the task, or with random actions among its own."""

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.batches import map_leaves
from metarl.distribution import TaskDistribution
from metarl.evaluation.adaptation import Adaptation, Agent, Transition
from metarl.masks import ActionMask, find_mask
from metarl.seeding import Seed, stream_seed
from metarl.spaces import Space, Values
from metarl.tasks import Tasks
from metarl.vector.oracle import is_nested, with_task

Array = NDArray[Any]

FADING = 0.9
"""The share of a history in which random actions become rarer or more frequent."""


@dataclass
class Demonstrator:
    """An agent that may be given the task, and some of whose actions may be random.

    Attributes:
        agent: The agent.
        tasks: The family that it acts in.
        present: The task of each environment.
        oracle: Whether it is given the task.
        shares: The share of random actions in each episode of an environment.
    """

    agent: Agent
    tasks: TaskDistribution
    present: Tasks
    oracle: bool
    shares: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.name = self.agent.name
        self.episodes_per_adaptation = self.agent.episodes_per_adaptation

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a fresh learner in the present tasks."""
        acting = self.agent.adaptation(num_tasks, seed=seed, deterministic=deterministic)
        if self.oracle:
            acting = informed(acting, self.tasks, self.present)
        if not self.shares.any():
            return acting
        with closing(self.tasks.make_vec(1)) as probe:
            action_space = probe.single_action_space
            mask = find_mask(probe.single_observation_space, action_space)
            return Noisy(acting, action_space, mask, len(self.present), self.shares, seed)


def informed(oracle: Adaptation, tasks: TaskDistribution, present: Tasks) -> Adaptation:
    """Return an oracle that acts in environments of these tasks, whose observations hide them.

    Args:
        oracle: Acts on observations of the oracle's view.
        tasks: The family; if it is the oracle's view, observations show the task already.
        present: The task of each environment.
    """
    if tasks.view.get("oracle"):
        return oracle
    with closing(tasks.make_vec(1)) as probe:
        spaces = probe.single_observation_space, probe.single_action_space
        return Informed(oracle, spaces[0], tasks.encode(present), is_nested(*spaces))


class Informed:
    """An oracle in environments that do not show the task: here it is given the task.

    Args:
        oracle: Acts on observations with the task, those of the family's oracle view.
        space: The space of one observation without it.
        features: The encoded task of each environment, of shape (num_envs, num_features).
        nested: Whether the oracle sees the task beside the observation.
    """

    def __init__(self, oracle: Adaptation, space: Space, features: Array, nested: bool):
        self._oracle, self._space, self._features = oracle, space, features
        self._nested = nested
        self.synchronous = getattr(oracle, "synchronous", False)

    def act(self, observations: Values) -> Array:
        actions: Array = self._oracle.act(self._with_task(observations))
        return actions

    def observe(self, transition: Transition) -> None:
        seen = {
            name: self._with_task(getattr(transition, name))
            for name in ("observations", "next_observations")
        }
        self._oracle.observe(replace(transition, **seen))

    def _with_task(self, observations: Values) -> Values:
        return with_task(self._space, observations, self._features, self._nested)


class Noisy:
    """An adaptation some of whose actions are random.

    Args:
        adaptation: Chooses the others, and learns from all.
        space: The space of one action.
        mask: Which actions are allowed; None allows all.
        num_envs: The number of environments.
        shares: The share of random actions in each episode of an environment.
        seed: The seed.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        space: Space,
        mask: ActionMask | None,
        num_envs: int,
        shares: Array,
        seed: Seed,
    ):
        self._adaptation, self._mask, self._shares = adaptation, mask, shares
        self._rng = np.random.default_rng(stream_seed(seed, "noise"))
        self._random = batch_space(space, num_envs)
        self._random.seed(stream_seed(seed, "random actions"))
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self.synchronous = getattr(adaptation, "synchronous", False)

    def act(self, observations: Values) -> Values:
        share = self._shares[np.minimum(self._episodes, len(self._shares) - 1)]
        noisy = self._rng.random(len(share)) < share
        drawn: Values = self._random.sample()
        if self._mask is not None:
            draws = self._rng.random((len(share), len(self._mask.counts)))
            drawn = self._mask.redrawn(drawn, observations, draws)

        def mixed(chosen: Array, other: Array) -> Array:
            return np.where(noisy.reshape(-1, *[1] * (chosen.ndim - 1)), other, chosen)

        return map_leaves(mixed, self._adaptation.act(observations), drawn)

    def observe(self, transition: Transition) -> None:
        self._adaptation.observe(transition)
        self._episodes += transition.episode_end


def noise_shares(first: float, last: float, num_episodes: int) -> NDArray[np.float64]:
    """Return the share of random actions in each episode of a history.

    It goes linearly from the first to the last over 90% of the history (Zisman et al. 2024,
    "Emergence of In-Context Reinforcement Learning from Noise Distillation").
    """
    done = np.arange(num_episodes) / max(FADING * num_episodes, 1.0)
    return first + (last - first) * np.minimum(done, 1.0)
