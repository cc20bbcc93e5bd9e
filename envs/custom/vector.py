"""A batch of the user's own gymnasium environments, stepped in a loop."""

import contextlib
import functools
import math
import numbers
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from metarl.batches import map_spaces, stack, take
from metarl.envs.headless import prefer_egl
from metarl.errors import InvalidValueError, found_in
from metarl.parameters import Parameter
from metarl.seeding import Ids, foreign_seed
from metarl.spaces import Values, check_space
from metarl.tasks import Task, Tasks
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]
Env: TypeAlias = gymnasium.Env[Any, Any]
Built = TypeVar("Built")

SUCCESS = ("success", "is_success")
"""The names of success in ``info``: Meta-World's, and gymnasium-robotics'."""

_WITH_STATISTICS = (
    gymnasium.wrappers.NormalizeObservation,
    gymnasium.wrappers.NormalizeReward,
    gymnasium.wrappers.vector.NormalizeObservation,
    gymnasium.wrappers.vector.NormalizeReward,
)

BuildEnv: TypeAlias = Callable[..., Env]
"""``build(task, **options)``: build an environment with the task."""
GiveTask: TypeAlias = Callable[[Env, Task], None]
"""``give_task(env, task)``: give an environment another task."""


class GymTaskVectorEnv(TaskVectorEnv):
    """A plain loop over gymnasium environments, each with its own task.

    Sub-environments get their tasks, and are built, at the ``reset`` that follows
    :meth:`set_tasks`; only the first one is built at once, to learn the spaces.

    Sub-environment i is reset with ``seed + i`` once, and without a seed from then on, as in
    gymnasium. If each task needs its own environment, the first reset after
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
        ValueError: If no time limit is known or ``horizon`` is beyond it, or agents do not
            support a space, or a wrapper carries statistics from task to task.
    """

    changes_within_episodes = False

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
        if render_mode:
            prefer_egl()
        self._build = functools.partial(build, **options)
        self._give_task = give_task
        self._family = family
        self._lanes = np.arange(num_envs)
        default = Task(
            family, {name: distribution.default for name, distribution in parameters.items()}
        )
        self._present_tasks = {0: default}
        self._next_seeds: list[int | None] = [None] * num_envs
        with closed_on_error(self._build(default)) as first:
            self._envs = {0: first}
            check_wrappers(first)
            check_space("observation", first.observation_space)
            check_space("action", first.action_space)
            length = _horizon(first, horizon)
            # A horizon that was asked for cuts longer episodes; the environment's own is the
            # longest.
            self._longest = length if horizon is None else math.inf
            self.metadata = {
                **TaskVectorEnv.metadata,
                **{key: first.metadata[key] for key in first.metadata if key.startswith("render")},
            }
            super().__init__(
                num_envs,
                parameters=parameters,
                observation_space=first.observation_space,
                action_space=first.action_space,
                horizon=length,
                render_mode=render_mode,
            )
        # A batch that is dropped closes its environments too; one that lasts until the end of the
        # program does not, as what they need may be gone by then.
        self._close = weakref.finalize(self, _close_all, self._envs)
        self._close.atexit = False

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        # Environments may be slow to build, so nothing is built for a task that another replaces
        # before an episode of it begins, as the default task usually is.
        self._next_tasks: dict[int, Task] = dict(enumerate(Tasks(self._family, columns)))

    def seed_lanes(self, seed: int) -> None:
        super().seed_lanes(seed)
        self._next_seeds = [foreign_seed(seed + i) for i in range(self.num_envs)]

    def reset_lanes(self, ids: Ids) -> Values:
        observations = []
        lanes = self._lanes[ids].tolist()
        for i in lanes:
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
        return self._gathered(lanes, self._stack, observations)

    def _stack(self, observations: Sequence[Any]) -> Values:
        return stack(self.single_observation_space, list(observations))

    def _gathered(
        self, lanes: list[int], gather: Callable[[Sequence[Any]], Any], values: Sequence[Any]
    ) -> Any:
        """Return values returned by sub-environments as a batch; an error names the task."""
        try:
            return gather(values)
        except InvalidValueError:
            for i, value in zip(lanes, values):
                with found_in(str(self._present_tasks[i])):
                    gather([value])
            raise

    def _begin_task(self, i: int, task: Task) -> None:
        env = self._envs.get(i)
        if env is not None and self._give_task is not None:
            self._give_task(env, task)
            self._check(env, task)
        elif env is None or task != self._present_tasks[i]:
            # Closed first: there may be place for one only, as at a port. It is out of the batch
            # by then, or it would be stepped where the new one cannot be built.
            if env is not None:
                del self._envs[i]
                env.close()
            with closed_on_error(self._build(task)) as built:
                self._check(built, task)
            self._envs[i] = built
        self._present_tasks[i] = task
        if self._give_task is None and self._next_seeds[i] is None:
            # A new environment has not been seeded. One that is kept is seeded alike: what
            # happens in a task must not depend on which task was there before.
            draw = self.random.uniform(np.array([i]))[0, 0]
            self._next_seeds[i] = foreign_seed(int(draw * 2**53))

    def _check(self, env: Env, task: Task) -> None:
        """Raise if the environment of a task differs from the first in spaces or time limit."""
        check_wrappers(env)
        for what, own, shared in (
            ("observation", env.observation_space, self.single_observation_space),
            ("action", env.action_space, self.single_action_space),
        ):
            if own is not shared and own != shared:
                raise InvalidValueError(
                    f"the environment of {task} has the {what} space {own}, and that of the "
                    f"default task {shared}; expected one space, which holds the values of all"
                )
        limit = _time_limit(env)
        if limit > self._longest:
            raise InvalidValueError(
                f"the environment of {task} has a time limit of {limit:g} steps, beyond that of "
                f"the default task, {self._longest:g} steps; pass horizon={self._longest:g} to cut "
                "longer episodes, or a larger horizon= and no time limit of the environment"
            )

    def step_lanes(self, ids: Ids, actions: Values) -> StepResult:
        # Copied, as an environment may clip its action in place.
        actions = map_spaces(_copied, self.single_action_space, actions)
        lanes = self._lanes[ids].tolist()
        steps = [self._step_one(i, take(actions, row)) for row, i in enumerate(lanes)]
        observations, rewards, terminated, truncated, infos = zip(*steps)
        return StepResult(
            self._gathered(lanes, self._stack, observations),
            self._gathered(lanes, _as_rewards, rewards),
            self._gathered(lanes, functools.partial(_as_flags, "terminated"), terminated),
            self._gathered(lanes, functools.partial(_as_flags, "truncated"), truncated),
            self._gathered(lanes, _successes, infos),
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
        """Add the task and step to an error of the user's environment; its traceback is kept."""
        try:
            yield
        except (Exception, SystemExit) as error:
            where = (
                f"in {method} {self.elapsed[i] + (method == 'step')} of an episode of "
                f"{self._present_tasks[i]}"
            )
            if isinstance(error, SystemExit):  # would end the training without an error
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
        self._close()


def _copied(space: gymnasium.Space[Any], values: Array) -> Array:
    return np.array(values, dtype=space.dtype)


def _close_all(envs: Mapping[int, Env]) -> None:
    """Close environments, even if closing one of them fails."""
    with contextlib.ExitStack() as stack:
        for env in envs.values():
            stack.callback(env.close)


@contextlib.contextmanager
def closed_on_error(env: Built) -> Iterator[Built]:
    """Close an environment or a batch that cannot be used, whatever its type."""
    try:
        yield env
    except BaseException:
        if hasattr(env, "close"):
            env.close()
        raise


def _successes(infos: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_] | None:
    """Return which environments say that their task is done; None if none says anything."""
    for name in SUCCESS:
        if any(name in info for info in infos):
            return _as_flags(f"info[{name!r}]", [info.get(name, False) for info in infos])
    return None


def _as_rewards(rewards: Sequence[Any] | Array) -> NDArray[np.float64]:
    """Return the environments' rewards as numbers.

    A number may be in an array or a tensor of one element; True is 1 and False is 0.
    """
    rows = _as_row(rewards)
    if rows is None:
        rows = np.array([_number("the reward", "a number", reward) for reward in rewards])
    return rows.astype(np.float64, copy=False)


def _as_flags(what: str, flags: Sequence[Any] | Array) -> NDArray[np.bool_]:
    """Return the environments' flags, True or False, or 1 or 0, as booleans."""
    rows = _as_row(flags)
    if rows is not None and rows.dtype == np.bool_:
        return rows
    expected = "True or False"
    found = [_number(what, expected, flag) for flag in flags]
    for number, flag in zip(found, flags):
        if number not in (0, 1):
            _refuse(what, expected, flag)
    return np.array(found, dtype=np.bool_)


def _as_row(values: Sequence[Any] | Array) -> Array | None:
    """Return an array of shape (n,) of real numbers, or None if values must be checked singly."""
    try:
        row = np.array(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    return row if row.ndim == 1 and row.dtype.kind in "biuf" else None


def _number(what: str, expected: str, value: Any) -> float:
    try:
        # Of a PyTorch tensor item() is the number alone, without its gradient.
        number = (value if hasattr(value, "item") else np.asarray(value)).item()
    except (TypeError, ValueError, RuntimeError):  # several, or none
        number = None
    if not isinstance(number, numbers.Real):
        _refuse(what, expected, value)
    return float(number)


def _refuse(what: str, expected: str, value: Any) -> NoReturn:
    raise InvalidValueError(f"step must return {expected} as {what}, got {value!r:.100}")


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment, or a batch, and all that it wraps."""
    yield env
    while isinstance(env, (gymnasium.Wrapper, gymnasium.vector.VectorWrapper)):
        env = env.env
        yield env


def check_wrappers(env: Any) -> None:
    """Raise if a wrapper of an environment, or of a batch, carries statistics from task to task.

    Raises:
        ValueError: If there is one of gymnasium's normalising wrappers.
    """
    for layer in _layers(env):
        if isinstance(layer, _WITH_STATISTICS) and layer.update_running_mean:
            raise InvalidValueError(
                f"{layer} normalises with running statistics, so the values of a task depend "
                "on the episodes before it; remove the wrapper and let the agent normalise "
                "(normalize_observation and normalize_reward of RL2), or freeze its statistics "
                "with update_running_mean = False"
            )


def _time_limit(env: Env) -> float:
    """Return after how many steps an environment cuts an episode, as far as gymnasium knows."""
    layers = [e for e in _layers(env) if isinstance(e, gymnasium.wrappers.TimeLimit)]
    if layers:  # may have been added by hand, several times
        return min(layer._max_episode_steps for layer in layers)
    return (env.spec.max_episode_steps if env.spec else None) or math.inf


def _horizon(env: Env, horizon: int | None) -> int:
    """Return after how many steps an episode is truncated."""
    limit = _time_limit(env)
    if horizon is None:
        if limit == math.inf:
            raise InvalidValueError(
                f"{env} has no time limit: pass horizon=, the steps of an episode"
            )
        return int(limit)
    if horizon > limit:
        raise InvalidValueError(
            f"horizon={horizon} is beyond the time limit of {env}, {limit:g} steps"
        )
    return horizon
