"""Your own gymnasium environment as a family of tasks."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from metarl.distribution import TaskDistribution
from metarl.envs.custom.vector import (
    BuildEnv,
    Env,
    GiveTask,
    GymTaskVectorEnv,
    closed_on_error,
)
from metarl.errors import (
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_names,
    check_types,
    did_you_mean,
)
from metarl.parameters import DISTRIBUTION, Parameter, hull
from metarl.splits import TaskSampler, TaskSet
from metarl.tasks import Task
from metarl.vector.workers import with_workers

Splits = Mapping[str, TaskSampler | Mapping[str, Parameter]]
_API = {*dir(gymnasium.Env), *gymnasium.Env.__annotations__}


def from_gymnasium(
    env: str | Callable[..., Env],
    parameters: Mapping[str, Parameter] | None = None,
    *,
    splits: Splits | None = None,
    shares_tasks: bool = False,
    name: str | None = None,
    horizon: int | None = None,
    episodes_per_trial: int = 3,
    visible: Sequence[str] = (),
    num_workers: int = 0,
) -> TaskDistribution:
    """Make a family of tasks from your own environment.

    One environment is built at once, to find mistakes before anything runs;
    :func:`metarl.check_tasks` finds the deeper ones.

    Args:
        env: One of

            - a factory that takes the parameters, ``make_env(**task)``, called for each new task;
            - a factory of an environment with a method ``set_task(task)``, called with a
              :class:`metarl.Task` (a mapping) before the ``reset`` that begins the task;
            - a gymnasium id: the parameters are attributes, set on ``env.unwrapped``.

            A factory that accepts ``render_mode`` can be rendered.
        parameters: The distribution of each parameter. None takes the values in the sets of tasks
            in ``splits``, which must include ``train`` and ``held_out``.
        splits: For each split a :class:`metarl.TaskSampler`, for example a :class:`metarl.TaskSet`,
            or the parameters whose distribution differs.
        shares_tasks: Declares that training and evaluation use the same tasks on purpose.
        name: The family's name; None takes that of ``env``.
        horizon: After how many steps an episode is truncated; None takes the shortest
            ``gymnasium.wrappers.TimeLimit`` of the environment, which no task may exceed.
        episodes_per_trial: How many episodes of one task a learner gets by default.
        visible: The parameters that observations may show, as a map does.
        num_workers: How many worker processes share the environments of a batch, useful if a step
            takes a millisecond or more; 0 steps them in this process. The trajectories are the
            same. See :func:`metarl.with_workers`.

    Raises:
        TypeError: If ``env`` is of another kind, or does not build a ``gymnasium.Env``; or if
            ``parameters`` is not a mapping.
        ValueError: If the id or an attribute does not exist, the factory takes only some of the
            parameters, there is no ``set_task``, no time limit is known or ``horizon`` is beyond
            it, agents do not support a space, a wrapper has running statistics, or there are
            neither parameters nor sets of tasks.
    """
    splits = {} if splits is None else splits
    check_types(Mapping, "a mapping from names to distributions", splits=splits)
    if parameters is None:
        parameters = _occurring(splits)
    elif not isinstance(parameters, Mapping):
        raise InvalidTypeError(
            f"parameters must map each name to its distribution, got {parameters!r}; "
            "pass sets of tasks as splits={'train': ..., 'held_out': ...}"
        )
    elif not parameters:
        raise InvalidValueError("a family needs at least one parameter, got none")
    if horizon is not None:
        check_at_least(1, horizon=horizon)
    if name is None:
        name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        name = re.sub(r"[^\w.-]+", "-", name).strip("-")
    build, give_task = _how(env, parameters, horizon)
    family = TaskDistribution(
        name=name,
        parameters=parameters,
        env_factory=functools.partial(
            GymTaskVectorEnv,
            build=build,
            give_task=give_task,
            family=name,
            parameters={
                key: allowed(key, distribution, splits) for key, distribution in parameters.items()
            },
            horizon=horizon,
        ),
        splits=splits,
        shares_tasks=shares_tasks,
        episodes_per_trial=episodes_per_trial,
        visible=tuple(visible),
        description=f"{name} with varying {', '.join(parameters)}",
    )
    family.make_vec(1).close()
    check_at_least(0, num_workers=num_workers)
    return with_workers(family, num_workers) if num_workers else family


def _occurring(splits: Splits) -> dict[str, Parameter]:
    """Return distributions that allow all values in the splits' sets of tasks."""
    train, held_out = splits.get("train"), splits.get("held_out")
    if not isinstance(train, TaskSet) or not isinstance(held_out, TaskSet):
        raise InvalidValueError(
            "a family needs parameters, or a TaskSet for each of the splits train and held_out; "
            "TaskSet.split(0.8, seed=0) gives two"
        )
    # The nominal values are those of the first set.
    sets = [
        train,
        *(distribution for distribution in splits.values() if isinstance(distribution, TaskSet)),
    ]
    for distribution in sets:
        check_names(distribution.columns, train.columns, "parameter in a TaskSet:")
    distributions = [distribution.parameters() for distribution in sets]
    return {key: hull([own[key] for own in distributions if key in own]) for key in train.columns}


def allowed(name: str, distribution: Parameter, splits: Splits) -> Parameter:
    """Return a distribution that allows all values of a parameter in any split."""
    distributions = [distribution]
    for split in splits.values():
        if isinstance(split, TaskSet):
            # Where the values are declared, they need not be guessed from the set.
            if name in split.columns and not distribution.contains(split.columns[name]).all():
                distributions.append(split.parameters()[name])
        else:
            own = getattr(split, "parameters", split)
            distributions += [own[name]] if isinstance(own, Mapping) and name in own else []
    for distribution in distributions:
        check_types(Parameter, DISTRIBUTION, **{str(name): distribution})
    return hull(distributions)


def _how(
    env: str | Callable[..., Env], parameters: Iterable[str], horizon: int | None
) -> tuple[BuildEnv, GiveTask | None]:
    """Choose how to build an environment and how to give it another task."""
    if isinstance(env, str):
        # What is registered, as a worker process may not have imported what registers the id.
        registered = gymnasium.registry.get(env, env)
        return functools.partial(_make_with_attributes, registered, horizon), _set_attributes
    if not callable(env):
        raise InvalidTypeError(
            f"env must be a gymnasium id or a factory, got {env!r}; "
            "every sub-environment needs its own instance: pass `lambda: MyEnv()`"
        )
    accepted = inspect.signature(env).parameters
    names = list(parameters)
    if "render_mode" in names:
        raise InvalidValueError(
            "a parameter cannot be called 'render_mode', which a factory takes for videos: "
            "rename it"
        )
    missing = [name for name in names if name not in accepted]
    # A class with a set_task and **kwargs passes these on to its base: they are not parameters.
    takes_any = not hasattr(env, "set_task") and any(
        argument.kind is argument.VAR_KEYWORD for argument in accepted.values()
    )
    if 0 < len(missing) < len(names) and not takes_any:
        raise InvalidValueError(
            f"the factory does not take the parameter {missing[0]!r}; "
            f"{did_you_mean(missing[0], accepted)}"
        )
    for name, argument in accepted.items():
        variadic = argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        if argument.default is argument.empty and not variadic and name not in names:
            raise InvalidValueError(
                f"the factory needs the argument {name!r}, which is none of the parameters "
                f"{', '.join(names)}: use the same name for both, or give the argument a default"
            )
    if missing and not takes_any:
        return functools.partial(_make_and_set_task, env), _set_task
    return functools.partial(_make_for_task, env), None


# Module-level functions rather than closures: worker processes get factories by pickle.


def _make_for_task(make_env: Callable[..., Env], task: Task, **options: Any) -> Env:
    return _checked(make_env(**task, **options))


def _make_and_set_task(make_env: Callable[..., Env], task: Task, **options: Any) -> Env:
    with closed_on_error(make_env(**options)) as env:
        env = _checked(env)
        if not env.has_wrapper_attr("set_task"):
            raise InvalidValueError(
                f"{env} cannot be given a task: either the environment needs a method "
                f"set_task(task), or the factory must take the parameters {', '.join(task)}"
            )
        _set_task(env, task)
        return env


def _set_task(env: Env, task: Task) -> None:
    env.get_wrapper_attr("set_task")(task)


def _make_with_attributes(
    registered: str | EnvSpec, horizon: int | None, task: Task, **options: Any
) -> Env:
    env_id = registered if isinstance(registered, str) else registered.id
    try:
        # gymnasium's passive checker costs time in every step, and check_tasks finds more.
        made = gymnasium.make(
            registered, max_episode_steps=horizon, disable_env_checker=True, **options
        )
    except gymnasium.error.Error as error:
        raise InvalidValueError(f"cannot build the environment {env_id!r}: {error}") from error
    with closed_on_error(made) as env:
        known = [name for name in dir(env.unwrapped) if not name.startswith("_")]
        check_names(task, known, f"attribute of {env_id}")
        for name in task:
            if name in _API or callable(getattr(env.unwrapped, name)):
                raise InvalidValueError(
                    f"{name!r} of {env_id} is not a value that a task can set: it belongs to "
                    "gymnasium's interface or is a method; pass a factory instead of the id"
                )
        _set_attributes(env, task)
    return env


def _set_attributes(env: Env, task: Task) -> None:
    for name, value in task.items():
        if isinstance(getattr(env.unwrapped, name), np.ndarray):
            value = np.array(value)  # a task holds tuples
        try:
            setattr(env.unwrapped, name, value)
        except AttributeError as error:  # a property
            raise InvalidValueError(
                f"the attribute {name!r} of {env} cannot be set: {error}; pass a factory instead "
                "of the id"
            ) from error


def _checked(env: Any) -> Env:
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise InvalidTypeError(
            f"the factory must build a single gymnasium.Env, got the batch {env}; a batch with "
            "a method set_tasks(columns) goes to from_vector_env, and one that you write yourself "
            "is a metarl.TaskVectorEnv"
        )
    if not isinstance(env, gymnasium.Env):
        raise InvalidTypeError(f"the factory must build a gymnasium.Env, got {env!r}")
    return env
