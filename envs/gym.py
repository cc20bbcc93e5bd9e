"""Your own gymnasium environment as a family of tasks."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.errors import check_at_least, check_names, did_you_mean
from metarl.parameters import Parameter, hull
from metarl.seeding import Ids
from metarl.tasks import Task, TaskDistribution, Tasks
from metarl.vector import TaskVectorEnv

Array = NDArray[Any]
Env: TypeAlias = gymnasium.Env[Any, Any]

GiveTask: TypeAlias = Callable[..., Env]
"""``give_task(env, task, **options)``: give ``env`` its task, or build it first where it is None.

Returns the environment that has the task, which need not be the one it got.
"""


def from_gymnasium(
    env: str | Callable[..., Env],
    parameters: Mapping[str, Parameter],
    *,
    shifted_splits: Mapping[str, Mapping[str, Parameter]] | None = None,
    name: str | None = None,
    horizon: int | None = None,
    episodes_per_trial: int = 3,
) -> TaskDistribution:
    """Make a family of tasks of your own environment.

    One environment is built at once, to find mistakes before anything runs;
    :func:`metarl.check_tasks` finds the deeper ones.

    Args:
        env: One of

            - a factory that takes the parameters, ``make_env(**task)``, called for each new task;
            - a factory of an environment with a method ``set_task(task)``, called with a
              :class:`metarl.Task` (a mapping) before the ``reset`` that begins the task;
            - a gymnasium id: the parameters are attributes, set on ``env.unwrapped``.

            A factory that accepts ``render_mode`` can be rendered.
        parameters: The law of each parameter.
        shifted_splits: For each further split, the parameters whose law differs.
        name: The family's name; None takes that of ``env``.
        horizon: After how many steps an episode is truncated; None takes the environment's own
            time limit.
        episodes_per_trial: How many episodes of one task a learner is given by default.

    Raises:
        TypeError: If ``env`` is of another kind, or does not build a ``gymnasium.Env``.
        ValueError: If the id or an attribute does not exist, the factory takes only some of the
            parameters, there is no ``set_task``, no time limit is known or ``horizon`` is beyond
            it, or a space is neither Box nor Discrete.
    """
    if not parameters:
        raise ValueError("a family needs at least one parameter, got none")
    if horizon is not None:
        check_at_least(1, horizon=horizon)
    shifted_splits = shifted_splits or {}
    if name is None:
        name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        name = re.sub(r"[^\w.-]+", "-", name).strip("-")
    allowed = {
        key: hull([law, *(laws[key] for laws in shifted_splits.values() if key in laws)])
        for key, law in parameters.items()
    }
    family = TaskDistribution(
        name=name,
        parameters=parameters,
        env_factory=functools.partial(
            GymTaskVectorEnv,
            give_task=_task_giver(env, parameters, horizon),
            family=name,
            parameters=allowed,
            horizon=horizon,
        ),
        shifted_splits=shifted_splits,
        episodes_per_trial=episodes_per_trial,
        description=f"{name} with other {', '.join(parameters)}",
    )
    family.make_vec(1).close()
    return family


class GymTaskVectorEnv(TaskVectorEnv):
    """A plain loop over gymnasium environments, each with its own task.

    Sub-environment i is reset with ``seed + i`` once, and without a seed from then on, as in
    gymnasium; one that is built anew for its task goes on with a seed from its own stream.

    Args:
        num_envs: The number of sub-environments.
        give_task: Gives a sub-environment its task, building it where there is none.
        family: The name of the family, for the tasks handed on.
        parameters: The parameters of a task: allowed values and defaults.
        horizon: After how many steps an episode is truncated; None takes the time limit of the
            environment.
        render_mode: One of the environment's render modes, or None.

    Raises:
        ValueError: If no time limit is known or ``horizon`` is beyond it, or a space is neither
            Box nor Discrete.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        give_task: GiveTask,
        family: str,
        parameters: Mapping[str, Parameter],
        horizon: int | None = None,
        render_mode: str | None = None,
    ):
        options = {"render_mode": render_mode} if render_mode else {}
        self._give_task = functools.partial(give_task, **options)
        default = Task(family, {name: law.default for name, law in parameters.items()})
        self._envs: list[Env] = []
        self._envs += (self._give_task(None, default) for _ in range(num_envs))
        self._family = family
        self._lanes = np.arange(num_envs)
        self._seeds: dict[int, int] = {}
        self._unseeded = set(range(num_envs))
        first = self._envs[0]
        for what, space, way_out in (
            ("observation", first.observation_space, "use gymnasium.wrappers.FlattenObservation"),
            ("action", first.action_space, "use a gymnasium.ActionWrapper"),
        ):
            if not isinstance(space, (spaces.Box, spaces.Discrete)):
                raise ValueError(f"{what} spaces must be Box or Discrete, got {space}; {way_out}")
        self.metadata = {
            **TaskVectorEnv.metadata,
            **{key: first.metadata[key] for key in first.metadata if key.startswith("render")},
        }
        super().__init__(
            num_envs,
            parameters=parameters,
            observation_space=first.observation_space,
            action_space=first.action_space,
            horizon=_horizon(first, horizon),
            render_mode=render_mode,
        )

    def _set_parameters(self, columns: Mapping[str, Array]) -> None:
        for i, task in enumerate(Tasks(self._family, columns)):
            present = self._envs[i]
            self._envs[i] = self._give_task(present, task)
            if self._envs[i] is not present:
                present.close()
                self._unseeded.add(i)

    def _reseed(self, seed: int) -> None:
        super()._reseed(seed)
        self._seeds = {i: seed + i for i in range(self.num_envs)}

    def _reset(self, ids: Ids) -> Array:
        observations = []
        for i in self._lanes[ids].tolist():
            seed = self._seeds.pop(i, None)
            if seed is None and i in self._unseeded:
                seed = int(self.random.uniform(np.array([i]))[0, 0] * 2**53)
            self._unseeded.discard(i)
            observations.append(self._envs[i].reset(seed=seed)[0])
        return self._stack(observations)

    def _step(self, ids: Ids, actions: Array) -> tuple[Array, ...]:
        # Copied, as an environment may clip its action in place.
        actions = np.array(actions, dtype=self.single_action_space.dtype)
        steps = [self._envs[i].step(action) for i, action in zip(self._lanes[ids], actions)]
        observations, rewards, terminated, truncated, _ = zip(*steps)
        return (
            self._stack(observations),
            np.array(rewards, dtype=np.float64).reshape(len(steps)),
            np.array(terminated, dtype=np.bool_),
            np.array(truncated, dtype=np.bool_),
        )

    def _stack(self, observations: Any) -> Array:
        space = self.single_observation_space
        rows = np.array(observations, dtype=space.dtype)
        if rows.shape[1:] != space.shape:
            raise ValueError(
                f"the environment returned observations of shape {rows.shape[1:]}, "
                f"but its observation space is {space}"
            )
        return rows

    def render(self) -> Any:
        """Return the picture of every sub-environment."""
        return tuple(env.render() for env in self._envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the sub-environments."""
        for env in self._envs:
            env.close()


def _task_giver(
    env: str | Callable[..., Env], parameters: Mapping[str, Parameter], horizon: int | None
) -> GiveTask:
    """Choose how an environment is given its task."""
    if isinstance(env, str):
        return functools.partial(_set_attributes, env, horizon)
    if not callable(env):
        raise TypeError(
            f"env must be a gymnasium id or a factory, got {env!r}; "
            "every sub-environment needs an instance of its own: pass `lambda: MyEnv()`"
        )
    accepted = inspect.signature(env).parameters
    missing = [name for name in parameters if name not in accepted]
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    # A class with a set_task and **kwargs hands these on to its base: they are no parameters.
    if not missing or (takes_any and not hasattr(env, "set_task")):
        return functools.partial(_rebuild, env)
    if len(missing) == len(parameters):
        return functools.partial(_call_set_task, env)
    raise ValueError(
        f"the factory does not take the parameter {missing[0]!r}; "
        f"{did_you_mean(missing[0], accepted)}"
    )


def _rebuild(make_env: Callable[..., Env], _: Env | None, task: Task, **options: Any) -> Env:
    return _checked(make_env(**task, **options))


def _call_set_task(
    make_env: Callable[..., Env], env: Env | None, task: Task, **options: Any
) -> Env:
    if env is None:
        env = _checked(make_env(**options))
        if not env.has_wrapper_attr("set_task"):
            raise ValueError(
                f"{env} cannot be given a task: either the environment needs a method "
                f"set_task(task), or the factory must take the parameters {', '.join(task)}"
            )
    env.get_wrapper_attr("set_task")(task)
    return env


def _set_attributes(
    env_id: str, horizon: int | None, env: Env | None, task: Task, **options: Any
) -> Env:
    if env is None:
        try:
            env = gymnasium.make(
                env_id, max_episode_steps=horizon, disable_env_checker=True, **options
            )
        except gymnasium.error.Error as error:
            raise ValueError(f"cannot build the environment {env_id!r}: {error}") from error
        known = [name for name in dir(env.unwrapped) if not name.startswith("_")]
        check_names(task, known, f"attribute of {env_id}")
    for name, value in task.items():
        if isinstance(getattr(env.unwrapped, name), np.ndarray):
            value = np.array(value)
        setattr(env.unwrapped, name, value)
    return env


def _checked(env: Any) -> Env:
    if not isinstance(env, gymnasium.Env):
        raise TypeError(f"the factory must build a gymnasium.Env, got {env!r}")
    return env


def _horizon(env: Env, horizon: int | None) -> int:
    limit = env.spec.max_episode_steps if env.spec else None
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            limit = layer._max_episode_steps
        layer = layer.env
    if horizon is None:
        if limit is None:
            raise ValueError(f"{env} has no time limit: pass horizon=, the steps of an episode")
        return limit
    if limit is not None and horizon > limit:
        raise ValueError(f"horizon={horizon} is beyond the time limit of {env}, {limit} steps")
    return horizon
