"""Agents that do not learn: the lower reference of every result."""

from collections.abc import Callable
from typing import Any

from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.seeding import Seed, stream_seed

Array = NDArray[Any]


class NoAdaptation:
    """The adaptation of an agent that does not adapt.

    Args:
        act: Maps observations to actions.
    """

    def __init__(self, act: Callable[[Array], Array]):
        self.act = act

    def observe(self, transition: Transition) -> None:
        pass


class RandomActions:
    """Draw every action at random. Works with any action space."""

    name = "random"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        self.action_space = env.single_action_space

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; ``deterministic`` has no effect."""
        space = batch_space(self.action_space, num_tasks)
        space.seed(stream_seed(seed, "actions"))

        def act(observations: Array) -> Array:
            check_rows(observations, num_tasks)
            actions: Array = space.sample()
            return actions

        return NoAdaptation(act)
