"""The oracle's view of a batch: the task is part of the observation."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.seeding import Ids
from metarl.spaces import Values, check_space, flatten, image_shapes, vector_size
from metarl.tasks import Tasks
from metarl.vector.env import Array, TaskVectorEnv


class ToldVectorEnv(TaskVectorEnv):
    """A batch whose observations end with the encoded task: what an oracle sees.

    Observations become rows of numbers; where they hold images, they stay as they are, beside the
    task in a dictionary.

    Args:
        env: The batch to wrap.
        encode: Turns tasks into features of shape (num_tasks, num_features).
    """

    def __init__(self, env: TaskVectorEnv, encode: Callable[[Tasks], NDArray[np.float32]]):
        space = env.single_observation_space
        check_space("observation", space)
        self.env = env
        self.metadata = env.metadata
        self._encode = encode
        self._told = encode(env.tasks)
        size = self._told.shape[1]
        self._has_images = bool(image_shapes(space))
        if not self._has_images:
            size += vector_size(space)
        told: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        if self._has_images:
            told = spaces.Dict({"observation": space, "task": told})
        super().__init__(
            env.num_envs,
            parameters=env.parameters,
            observation_space=told,
            action_space=env.single_action_space,
            horizon=env.horizon,
            render_mode=env.render_mode,
        )

    def _set_parameters(self, columns: Mapping[str, Array]) -> None:
        self.env._set_parameters(columns)
        self._told = self._encode(Tasks("told", columns))

    def _reseed(self, seed: int) -> None:
        self.env._reseed(seed)

    def _reset(self, ids: Ids) -> Values:
        return self._tell(ids, self.env._reset(ids))

    def _step(self, ids: Ids, actions: Array) -> tuple[Values, ...]:
        observations, *others = self.env._step(ids, actions)
        return (self._tell(ids, observations), *others)

    def _tell(self, ids: Ids, observations: Values) -> Values:
        if self._has_images:
            return {"observation": observations, "task": self._told[ids].copy()}
        flat = flatten(self.env.single_observation_space, observations)
        return np.concatenate([flat, self._told[ids]], axis=1)

    def render(self) -> Any:
        """Return the wrapped batch's pictures."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the wrapped batch."""
        self.env.close(**kwargs)
