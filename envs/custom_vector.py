"""A batch of the user's own gymnasium environments, stepped in a loop."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from metarl.batches import stack
from metarl.errors import InvalidValueError
from metarl.parameters import Parameter
from metarl.seeding import Ids
from metarl.spaces import Values, check_space
from metarl.tasks import Task, Tasks
from metarl.vector import TaskVectorEnv

Array = NDArray[Any]
Env: TypeAlias = gymnasium.Env[Any, Any]

SUCCESS = ("success", "is_success")
"""What suites call it in their ``info``: Meta-World, and gymnasium-robotics."""

BuildEnv: TypeAlias = Callable[..., Env]
"""``build(task, **options)``: build an environment that has the task."""
GiveTask: TypeAlias = Callable[[Env, Task], None]
"""``give_task(env, task)``: give an environment another task."""


class GymTaskVectorEnv(TaskVectorEnv):
    """A plain loop over gymnasium environments, each with its own task.

    Sub-environments get their tasks, and are built, at the ``reset`` that follows
    :meth:`set_tasks`; only the first one is built at once, as it tells the spaces.

    Sub-environment i is reset with ``seed + i`` once, and without a seed from then on, as in
    gymnasium. Where a task needs an environment built for it, the first reset after
    :meth:`set_tasks` takes a seed from the sub-environment's own stream.

    Args:
        num_envs: The number of sub-environments.
        build: Builds the environment of a task.
        give_task: Gives an environment another task; None if each task needs one built for it.
        family: The name of the family, for the tasks handed on.
        parameters: The parameters of a task: allowed values and defaults.
        horizon: After how many steps an episode is truncated; None takes the time limit of the
            environment.
        render_mode: One of the environment's render modes, or None.

    Raises:
        ValueError: If no time limit is known or ``horizon`` is beyond it, or agents cannot
            deal with a space.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        build: BuildEnv,
        give_task: GiveTask | None,
        family: str,
        parameters: Mapping[str, Parameter],
        horizon: int | None = None,
        render_mode: str | None = None,
    ):
        options = {"render_mode": render_mode} if render_mode else {}
        self._build = functools.partial(build, **options)
        self._give_task = give_task
        self._family = family
        self._lanes = np.arange(num_envs)
        default = Task(family, {name: law.default for name, law in parameters.items()})
        first = self._build(default)
        self._envs = {0: first}
        self._present_tasks = {0: default}
        self._next_seeds: list[int | None] = [None] * num_envs
        check_space("observation", first.observation_space)
        check_space("action", first.action_space)
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
        # Environments may be slow to build, so nothing is built for a task that another replaces
        # before an episode of it begins, as the default task usually is.
        self._next_tasks: dict[int, Task] = dict(enumerate(Tasks(self._family, columns)))

    def _reseed(self, seed: int) -> None:
        super()._reseed(seed)
        self._next_seeds = [seed + i for i in range(self.num_envs)]

    def _reset(self, ids: Ids) -> Values:
        observations = []
        for i in self._lanes[ids].tolist():
            if i in self._next_tasks:
                self._begin_task(i, self._next_tasks[i])
                del self._next_tasks[i]
            seed, self._next_seeds[i] = self._next_seeds[i], None
            with self._blaming(i, "reset"):
                returned = self._envs[i].reset(seed=seed)
            if not (isinstance(returned, tuple) and len(returned) == 2):
                raise InvalidValueError(
                    f"reset must return (observation, info), as in gymnasium's API, got "
                    f"{returned!r:.200}"
                )
            observations.append(returned[0])
        return stack(self.single_observation_space, observations)

    def _begin_task(self, i: int, task: Task) -> None:
        old = self._envs.get(i)
        if old is not None and self._give_task is not None:
            self._give_task(old, task)
        elif old is None or task != self._present_tasks[i]:
            self._envs[i] = self._build(task)
            if old is not None:
                old.close()
        self._present_tasks[i] = task
        if self._give_task is None and self._next_seeds[i] is None:
            # A new environment has not been seeded. One that is kept is seeded alike: what
            # happens in a task must not depend on which task was there before.
            self._next_seeds[i] = int(self.random.uniform(np.array([i]))[0, 0] * 2**53)

    def _step(self, ids: Ids, actions: Array) -> tuple[Values, ...]:
        # Copied, as an environment may clip its action in place.
        actions = np.array(actions, dtype=self.single_action_space.dtype)
        lanes = self._lanes[ids].tolist()
        steps = [self._step_one(i, action) for i, action in zip(lanes, actions)]
        observations, rewards, terminated, truncated, infos = zip(*steps)
        return (
            stack(self.single_observation_space, list(observations)),
            _as_rewards(rewards),
            np.array(terminated, dtype=np.bool_),
            np.array(truncated, dtype=np.bool_),
            *_successes(infos),
        )

    def _step_one(self, i: int, action: Any) -> tuple[Any, ...]:
        with self._blaming(i, "step"):
            returned = self._envs[i].step(action)
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise InvalidValueError(
                "step must return (observation, reward, terminated, truncated, info), as in "
                f"gymnasium's API, got {returned!r:.200}"
            )
        return returned

    @contextlib.contextmanager
    def _blaming(self, i: int, method: str) -> Iterator[None]:
        """Say in which task and step the user's environment failed; the traceback is its own."""
        try:
            yield
        except (Exception, SystemExit) as error:
            where = (
                f"in {method} {self._elapsed[i] + (method == 'step')} of an episode of "
                f"{self._present_tasks[i]}"
            )
            if isinstance(error, SystemExit):  # would end the training as if all were well
                raise RuntimeError(
                    f"the environment called sys.exit({error.code}) {where}"
                ) from error
            if hasattr(error, "add_note"):  # since Python 3.11
                error.add_note(where)
            raise

    def render(self) -> Any:
        """Return the picture of every sub-environment.

        Raises:
            RuntimeError: If ``reset`` was never called.
        """
        if len(self._envs) < self.num_envs:
            raise RuntimeError("call reset() before render()")
        return tuple(self._envs[i].render() for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the sub-environments."""
        for env in self._envs.values():
            env.close()


def _successes(infos: Sequence[Mapping[str, Any]]) -> list[NDArray[np.bool_]]:
    """Return which environments say that their task is done; nothing if none ever says."""
    names = [name for name in SUCCESS if any(name in info for info in infos)]
    return [np.array([bool(info.get(name, False)) for info in infos]) for name in names[:1]]


def _as_rewards(rewards: Sequence[Any]) -> NDArray[np.float64]:
    if all(isinstance(reward, float) for reward in rewards):  # numpy's too
        return np.array(rewards)
    for reward in rewards:
        if (np.ndim(reward) > 0 and np.size(reward) != 1) or not np.issubdtype(
            np.asarray(reward).dtype, np.number
        ):
            raise InvalidValueError(f"step must return a number as the reward, got {reward!r:.100}")
    return np.array(rewards, dtype=np.float64).reshape(len(rewards))


def _horizon(env: Env, horizon: int | None) -> int:
    """Return after how many steps an episode is truncated."""
    limit = env.spec.max_episode_steps if env.spec else None
    layer = env
    while isinstance(layer, gymnasium.Wrapper):  # TimeLimit may have been added by hand
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            limit = layer._max_episode_steps
        layer = layer.env
    if horizon is None:
        if limit is None:
            raise InvalidValueError(
                f"{env} has no time limit: pass horizon=, the steps of an episode"
            )
        return limit
    if limit is not None and horizon > limit:
        raise InvalidValueError(
            f"horizon={horizon} is beyond the time limit of {env}, {limit} steps"
        )
    return horizon
