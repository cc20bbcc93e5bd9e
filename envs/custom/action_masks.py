"""A wrapper for environments that give the mask of invalid actions in ``info``."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.errors import InvalidValueError
from metarl.masks import KEY, discrete_counts


class ActionMaskFromInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Puts ``info["action_mask"]`` into the observation, where agents read it.

    Dict observations get one more entry; any other becomes the entry ``observation`` of a Dict.

    Args:
        env: An environment whose ``reset`` and ``step`` return the mask in ``info``, in one row or,
            as MultiDiscrete spaces sample by, as a tuple of rows. At the end of an episode it may
            be missing.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        self._size = sum(discrete_counts(env.action_space))
        space = env.observation_space
        self._nested = isinstance(space, spaces.Dict)
        parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        self.observation_space = spaces.Dict({**parts, KEY: spaces.MultiBinary(self._size)})

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info = {KEY: np.zeros(self._size, np.int8), **info}
        return self._with_mask(observation, info), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        if KEY not in info:
            raise InvalidValueError(
                f"{self.env} gave no mask in info, which has {sorted(info)}; expected "
                f"info[{KEY!r}], of {self._size} entries, from reset and step"
            )
        given = info[KEY] if isinstance(info[KEY], tuple) else (info[KEY],)
        mask: NDArray[np.int8] = np.concatenate([np.ravel(part) for part in given]).astype(np.int8)
        return {**(observation if self._nested else {"observation": observation}), KEY: mask}
