"""The oracle's view of a batch: the task is part of the observation."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.masks import find_mask
from metarl.seeding import Ids
from metarl.spaces import Values, check_space, flatten, image_shapes, vector_size
from metarl.tasks import Tasks
from metarl.vector.env import Array, StepResult, TaskVectorEnv


def is_nested(space: spaces.Space[Any], action_space: spaces.Space[Any]) -> bool:
    """Return whether an oracle sees the task beside such observations, not in one row with them."""
    return find_mask(space, action_space) is not None or bool(image_shapes(space))


def with_task(
    space: spaces.Space[Any], observations: Values, features: Array, nested: bool
) -> Values:
    """Return observations as an oracle sees them.

    Args:
        space: The space of one observation.
        observations: The observations, of shape (n, *observation_shape).
        features: The encoded task of each, of shape (n, num_features).
        nested: See :func:`is_nested`.
    """
    if nested:
        return {"observation": observations, "task": features.copy()}
    return np.concatenate([flatten(space, observations), features], axis=1)


class OracleVectorEnv(TaskVectorEnv):
    """A batch whose observations end with the encoded task: what an oracle sees.

    Observations become rows of numbers. Observations with images or a mask of invalid actions are
    unchanged, next to the task in a dictionary.

    Args:
        env: The batch to wrap.
        encode: Turns tasks into features of shape (num_tasks, num_features).
    """

    def __init__(self, env: TaskVectorEnv, encode: Callable[[Tasks], NDArray[np.float32]]):
        space = env.single_observation_space
        check_space("observation", space)
        self.env = env
        self.metadata = env.metadata
        self.changes_within_episodes = env.changes_within_episodes
        self._encode = encode
        size = encode(env.tasks).shape[1]
        self._is_nested = is_nested(space, env.single_action_space)
        if not self._is_nested:
            size += vector_size(space)
        own: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        if self._is_nested:
            own = spaces.Dict({"observation": space, "task": own})
        super().__init__(
            env.num_envs,
            parameters=env.parameters,
            observation_space=own,
            action_space=env.single_action_space,
            horizon=env.horizon,
            render_mode=env.render_mode,
        )
        env.elapsed = self.elapsed  # counted here; the wrapped batch names steps in its messages

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self.env.set_parameters(columns)
        self._features = self._encode(Tasks("oracle", columns))

    def seed_lanes(self, seed: int) -> None:
        self.env.seed_lanes(seed)

    def reset_lanes(self, ids: Ids) -> Values:
        return self._with_task(ids, self.env.reset_lanes(ids))

    def step_lanes(self, ids: Ids, actions: Values) -> StepResult:
        result = self.env.step_lanes(ids, actions)
        return replace(result, observations=self._with_task(ids, result.observations))

    def _with_task(self, ids: Ids, observations: Values) -> Values:
        space = self.env.single_observation_space
        return with_task(space, observations, self._features[ids], self._is_nested)

    def render(self) -> Any:
        """Return the wrapped batch's pictures."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the wrapped batch."""
        self.env.close(**kwargs)
