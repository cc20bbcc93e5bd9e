"""The oracle's view of a batch: the task is part of the observation."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.seeding import Ids
from metarl.spaces import check_space, flatten
from metarl.tasks import Tasks
from metarl.vector import Array, TaskVectorEnv


class ToldVectorEnv(TaskVectorEnv):
    """A batch whose observations end with the encoded task: what an oracle sees.

    Args:
        env: The batch to wrap. Its observation space must be a Box or Discrete.
        encode: Turns tasks into features of shape (num_tasks, num_features).
    """

    def __init__(self, env: TaskVectorEnv, encode: Callable[[Tasks], NDArray[np.float32]]):
        check_space("observation", env.single_observation_space)
        self.env = env
        self.metadata = env.metadata
        self._encode = encode
        self._told = encode(env.tasks)
        size = spaces.flatdim(env.single_observation_space) + self._told.shape[1]
        super().__init__(
            env.num_envs,
            parameters=env.parameters,
            observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
            action_space=env.single_action_space,
            horizon=env.horizon,
            render_mode=env.render_mode,
        )

    def _set_parameters(self, columns: Mapping[str, Array]) -> None:
        self.env._set_parameters(columns)
        self._told = self._encode(Tasks("told", columns))

    def _reseed(self, seed: int) -> None:
        self.env._reseed(seed)

    def _reset(self, ids: Ids) -> Array:
        return self._tell(ids, self.env._reset(ids))

    def _step(self, ids: Ids, actions: Array) -> tuple[Array, ...]:
        observations, *others = self.env._step(ids, actions)
        return (self._tell(ids, observations), *others)

    def _tell(self, ids: Ids, observations: Array) -> Array:
        flat = flatten(self.env.single_observation_space, observations)
        return np.concatenate([flat, self._told[ids]], axis=1)

    def render(self) -> Any:
        """Return the wrapped batch's pictures."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the wrapped batch."""
        self.env.close(**kwargs)
