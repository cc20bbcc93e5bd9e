"""Families of tasks as vector environments of Stable-Baselines3."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from metarl.batches import replaced, take
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least
from metarl.masks import KEY, mask_values
from metarl.seeding import Seed, check_seed, stream, stream_seed
from metarl.spaces import (
    Space,
    Values,
    has_bounds,
    image_shapes,
    split,
    stretching,
    vector_size,
)
from metarl.trial import TrialInput
from metarl.vector.env import TaskVectorEnv

Array = NDArray[Any]


class TaskVecEnv(VecEnv):
    """A batch of environments of a family for any algorithm of SB3, without a loop over them.

    Every environment has its own task. All get new tasks together, after the number of steps of the
    longest episode (with ``episodes_per_trial``, of the longest trial). Unfinished episodes are cut
    then: ``TimeLimit.truncated`` is set, so algorithms bootstrap there.

    With ``episodes_per_trial`` an episode of SB3 is a whole trial, and observations are the rows of
    :class:`metarl.trial.TrialInput`: what a recurrent policy (sb3-contrib's RecurrentPPO) needs
    to learn to adapt. The end of a trial is terminal.

    SB3 counts from 0, in one row: actions and observations that are discrete are translated, as
    :func:`zero_based_space` says.

    Args:
        tasks: The family.
        num_envs: The number of environments.
        split: The split that tasks are drawn from.
        seed: The seed of tasks and environments.
        episodes_per_trial: K, the episodes of a trial; None gives plain episodes.
        env: The batch to step, where there is one already; it is not closed with this one.

    Raises:
        ValueError: If there is no such split, a number is below 1, or the action space is Dict or
            Tuple.
    """

    def __init__(
        self,
        tasks: TaskDistribution,
        num_envs: int,
        *,
        split: str = "train",
        seed: Seed = 0,
        episodes_per_trial: int | None = None,
        env: TaskVectorEnv | None = None,
    ):
        tasks.sampler(split)  # raises if there is no such split
        check_seed(seed)
        check_at_least(1, num_envs=num_envs, episodes_per_trial=episodes_per_trial or 1)
        self.tasks = tasks
        self.env = tasks.make_vec(num_envs) if env is None else env
        self._owns_env = env is None
        self.period = self.env.horizon * (episodes_per_trial or 1)
        self._split = split
        self._seed = seed
        self._num_draws = 0
        self._episodes_per_trial = episodes_per_trial
        self._input = None
        space, self._action_space = self.env.single_observation_space, self.env.single_action_space
        check_actions(self._action_space)
        if episodes_per_trial is not None:
            self._input = TrialInput(space, self._action_space)
            space = self._input.space()
        self._seen_space = space
        super().__init__(num_envs, zero_based_space(space), zero_based_space(self._action_space))

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Start the streams of tasks and environments afresh; None leaves them."""
        if seed is not None:
            check_seed(seed)
            self._seed, self._num_draws = seed, 0
        return [seed] * self.num_envs

    def reset(self) -> Values:
        """Give every environment a new task and start an episode."""
        draw = stream(self._seed, "draw", self._num_draws)
        self._num_draws += 1
        self.env.set_tasks(self.tasks.sample(self._split, self.num_envs, draw))
        observations, _ = self.env.reset(seed=stream_seed(draw, "envs"))
        self._num_steps = 0
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._episodes = np.zeros(self.num_envs, dtype=np.int64)
        if self._input is None:
            return zero_based(self._seen_space, observations)
        return self._input.value(self._input.start(observations))

    def step_async(self, actions: Array) -> None:
        self._actions = from_zero_based(self._action_space, actions)

    def step_wait(self) -> tuple[Values, Array, Array, list[dict[str, Any]]]:
        following, rewards, terminated, truncated, info = self.env.step(self._actions)
        ended = terminated | truncated
        last = following
        if "final_obs" in info:
            last = replaced(following, ended, take(info["final_obs"], ended))
        dones, cut = ended, truncated
        if self._input is None:
            last, following = (zero_based(self._seen_space, each) for each in (last, following))
        else:
            self._episodes += ended
            dones, cut = ended & (self._episodes == self._episodes_per_trial), np.zeros_like(ended)
            seen, value = (self._actions, rewards, ended), self._input.value
            last = value(self._input.follow(last, *seen))
            begun = value(self._input.start(following))
            following = value(self._input.follow(following, *seen))
            following = replaced(following, dones, take(begun, dones))
        self._returns += rewards
        self._lengths += 1
        self._num_steps += 1
        if self._num_steps == self.period:
            cut, dones = cut | ~dones, np.ones_like(dones)
            infos = self._infos(dones, cut, last)
            return self.reset(), rewards, dones, infos
        infos = self._infos(dones, cut, last)
        self._returns[dones] = self._lengths[dones] = self._episodes[dones] = 0
        return following, rewards, dones, infos

    def _infos(self, dones: Array, cut: Array, last: Values) -> list[dict[str, Any]]:
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            infos[i] = {
                "terminal_observation": take(last, i),
                "TimeLimit.truncated": bool(cut[i]),
                "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i])},
            }
        return infos

    def close(self) -> None:
        """Close the batch, unless it was given."""
        if self._owns_env:
            self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(
            f"environments of {self.tasks.name!r} are stepped together: {attr_name!r} cannot be set"
        )

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise AttributeError(
            f"environments of {self.tasks.name!r} are stepped together: there is no "
            f"{method_name!r} of a single one"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def spaces_only(observation_space: Space, action_space: Space) -> VecEnv:
    """Return what stands for environments where SB3 asks for one, reads its spaces and steps none.

    Args:
        observation_space: The observation space of the environments.
        action_space: Their action space.
    """
    env: gymnasium.Env[Any, Any] = gymnasium.Env()
    env.observation_space = zero_based_space(observation_space)
    env.action_space = zero_based_space(action_space)
    return DummyVecEnv([lambda: env])


class FlatVecEnv(VecEnvWrapper):
    """Observations of any kind as rows of numbers (:func:`flat`); scaled actions.

    SB3's policies take no nested spaces, its convolutions no small pictures, and its Gaussian
    policies are made for actions in [-1, 1].

    Args:
        venv: What to wrap.
    """

    def __init__(self, venv: VecEnv):
        self._space = venv.observation_space
        self._env_actions = translation(venv.action_space)
        super().__init__(venv, flat_space(self._space), scaled(venv.action_space))

    def reset(self) -> Values:
        return flat(self._space, self.venv.reset())

    def step_async(self, actions: Array) -> None:
        self.venv.step_async(self._env_actions(actions))

    def step_wait(self) -> tuple[Values, Array, Array, list[dict[str, Any]]]:
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones).tolist():
            last = take(infos[i]["terminal_observation"], None)
            infos[i]["terminal_observation"] = take(flat(self._space, last), 0)
        return flat(self._space, observations), rewards, dones, infos  # type: ignore[return-value]


# The spaces that SB3 supports, and translations from and to those of the environments.


def check_actions(space: Space) -> None:
    """Raise if SB3 cannot act in an action space.

    Raises:
        ValueError: If it is Dict or Tuple.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        raise InvalidValueError(
            f"Stable-Baselines3 has no actions of several kinds, got {space}; train RL2 or MAML, "
            "or give the environment a Box, Discrete, MultiDiscrete or MultiBinary action space"
        )


def zero_based_space(space: Space) -> Space:
    """Return a space as SB3 requires it: discrete parts count from 0 and are in one row."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: zero_based_space(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([zero_based_space(part) for part in space.spaces])
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.ravel(), dtype=space.dtype.type)
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(spaces.flatdim(space))
    return space


def zero_based(space: Space, values: Values) -> Values:
    """Return a batch of values of a space as values of its :func:`zero_based_space`."""
    if isinstance(space, spaces.Dict):
        return {key: zero_based(part, values[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(zero_based(part, each) for part, each in zip(space.spaces, values))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        values = values - space.start
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        values = values.reshape(len(values), -1)  # (n, parts)
    return values


def from_zero_based(space: Space, actions: Array) -> Array:
    """Return actions of a space from those of its :func:`zero_based_space`."""
    if isinstance(space, spaces.Box):
        return actions
    actions = actions.reshape(-1, *(space.shape or ()))  # (n, *action_shape)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        actions = actions + space.start
    return actions.astype(space.dtype, copy=False)


def scaled(space: Space) -> Space:
    """Return the space that SB3's policies draw actions of a space from; see :func:`translation`.

    A Box is [-1, 1] where it has bounds. SB3 wants bounds elsewhere too, and clips actions to them:
    there they are the extremes of float32.
    """
    check_actions(space)
    if not isinstance(space, spaces.Box):
        return zero_based_space(space)
    reach = np.where(has_bounds(space), 1.0, np.finfo(np.float32).max).astype(np.float32)
    return spaces.Box(-reach, reach, dtype=np.float32)


def translation(space: Space) -> Callable[[Array], Array]:
    """Return a function from actions of :func:`scaled` to those of the space itself."""
    if isinstance(space, spaces.Box):
        return stretching(space)
    return partial(from_zero_based, space)


def flat_space(space: Space) -> Space:
    """Return the space of the values of :func:`flat`."""
    row = spaces.Box(-np.inf, np.inf, (vector_size(space),), np.float32)
    mask = mask_values(space, space)
    parts: dict[str, Space] = {} if mask is None else {KEY: spaces.MultiBinary(mask.shape)}
    if image_shapes(space):
        num_pixels = spaces.flatdim(space) - vector_size(space)
        parts["pixels"] = spaces.Box(0, 255, (num_pixels,), np.uint8)
    return spaces.Dict({"row": row, **parts}) if parts else row


def flat(space: Space, observations: Values) -> Values:
    """Return a batch of observations as rows; with images or a mask as a dictionary with a row."""
    rows, pixels = split(space, observations)
    mask = mask_values(space, observations)
    parts: dict[str, Array] = {} if mask is None else {KEY: mask}
    if image_shapes(space):
        parts["pixels"] = pixels
    return {"row": rows, **parts} if parts else rows
