"""Agents that do not learn: the lower reference of every result."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.masks import find_mask
from metarl.seeding import Seed, stream, stream_seed
from metarl.spaces import Values

Array = NDArray[Any]


class NoAdaptation:
    """The adaptation of an agent that does not adapt.

    Args:
        act: Maps observations to actions.
    """

    def __init__(self, act: Callable[[Values], Values]):
        self.act = act

    def observe(self, transition: Transition) -> None:
        pass


class RandomActions:
    """Draw every action at random, among those that are allowed. Works with any action space."""

    name = "random"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        self.action_space = env.single_action_space
        self._mask = find_mask(env.single_observation_space, self.action_space)

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; ``deterministic`` has no effect."""
        space = batch_space(self.action_space, num_tasks)
        space.seed(stream_seed(seed, "actions"))
        rng = np.random.default_rng(stream(seed, "allowed actions"))

        def act(observations: Values) -> Values:
            check_rows(observations, num_tasks)
            actions = space.sample()
            if self._mask is None:
                return actions
            draws = rng.random((num_tasks, len(self._mask.counts)))
            return self._mask.redrawn(actions, observations, draws)

        return NoAdaptation(act)
