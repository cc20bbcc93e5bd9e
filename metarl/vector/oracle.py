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
        masked = find_mask(space, env.single_action_space) is not None
        self._is_nested = masked or bool(image_shapes(space))
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
        if self._is_nested:
            return {"observation": observations, "task": self._features[ids].copy()}
        flat = flatten(self.env.single_observation_space, observations)
        return np.concatenate([flat, self._features[ids]], axis=1)

    def render(self) -> Any:
        """Return the wrapped batch's pictures."""
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Close the wrapped batch."""
        self.env.close(**kwargs)
