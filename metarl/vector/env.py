"""Batched environments with a task in every sub-environment, and single ones made from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.batches import map_leaves, map_spaces, replaced, take
from metarl.errors import (
    DivergedError,
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_at_most,
    check_names,
    check_types,
)
from metarl.masks import KEY, find_mask
from metarl.parameters import Parameter
from metarl.seeding import ALL, BatchedRandom, Ids, check_seed
from metarl.spaces import Values
from metarl.tasks import Task, Tasks

Array = NDArray[Any]

MAX_HORIZON = 10**6
"""How long an episode may be."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step of some sub-environments returns, in new arrays: a row for each of them.

    Attributes:
        observations: The observations; for a Dict space a dictionary of arrays.
        rewards: Of shape (n,).
        terminated: Whether the episode ended by itself, of shape (n,).
        truncated: Whether it was cut for a reason other than the horizon, of shape (n,); None if
            that never happens.
        success: Whether the task is done now, of shape (n,); None where the family does not say.
    """

    observations: Values
    rewards: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_] | None = None
    success: NDArray[np.bool_] | None = None


class TaskVectorEnv(VectorEnv[Any, Values, Array], ABC):
    """A batch of environments of one family, each with its own task.

    A task stays until it is changed: ``reset`` never draws one. Autoreset is ``SAME_STEP``: when
    an episode ends, ``step`` returns the first observation of the next one, the last observation
    is in ``info["final_obs"]`` (rows where ``info["_final_obs"]`` is True), and there are no
    dummy transitions.

    A family implements three methods, all batched::

        def set_parameters(self, columns):
            # take over the tasks: for each parameter an array of shape (num_envs, *shape)
        def reset_lanes(self, ids):
            # start new episodes in the sub-environments ids; return their observations
        def step_lanes(self, ids, actions):
            # step them; return StepResult(observations, rewards, terminated), a row for each

    ``ids`` is an index of sub-environments: an array, or a slice for all of them. Seeds, time
    limits, autoreset and all checks are done here. Randomness comes from
    ``self.random``, where every sub-environment has a stream of its own. The constructor ends with
    a call of ``set_parameters`` for the default tasks, so a family makes what that method needs
    before it calls ``super().__init__``.

    These methods, and ``seed_lanes`` where there is more to seed than ``self.random``, are what a
    wrapper of a batch calls; users call ``set_tasks``, ``reset`` and ``step``.

    Args:
        num_envs: The number of sub-environments.
        parameters: The parameters of a task: allowed values and defaults.
        observation_space: The observation space of one sub-environment.
        action_space: The action space of one sub-environment.
        horizon: After how many steps an episode is truncated.
        render_mode: One of ``metadata["render_modes"]``, or None.

    Attributes:
        elapsed: How many steps the present episode of each sub-environment has, of shape
            (num_envs,).

    Raises:
        ValueError: If ``num_envs`` or ``horizon`` is below 1, ``horizon`` above ``MAX_HORIZON``,
            the render mode is unknown, or an ``action_mask`` does not fit the action space.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (an instance may have its own render modes)
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }
    changes_within_episodes = True
    """Whether ``set_parameters`` may be called between two steps of an episode, which then goes on
    under the new task; if not, a new task counts from the next episode on."""
    random: BatchedRandom

    def __init__(
        self,
        num_envs: int,
        *,
        parameters: Mapping[str, Parameter],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        horizon: int,
        render_mode: str | None = None,
    ):
        check_at_least(1, num_envs=num_envs, horizon=horizon)
        check_at_most(MAX_HORIZON, horizon=horizon)
        if render_mode is not None:
            check_names([render_mode], self.metadata["render_modes"], "render mode")
        self.num_envs = num_envs
        self.parameters = parameters
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self._action_mask = find_mask(observation_space, action_space)
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.horizon = horizon
        self.render_mode = render_mode
        self.elapsed = np.zeros(num_envs, dtype=np.int64)
        self._seeded = self._ready = False
        nominal = {
            name: np.array([parameter.default] * num_envs) for name, parameter in parameters.items()
        }
        self._tasks = Tasks("default", nominal)
        self.set_parameters(self._tasks.columns)

    # What a family implements.

    @abstractmethod
    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        """Take over the parameters of all tasks: arrays of shape (num_envs, *shape).

        Where ``changes_within_episodes`` is true, episodes go on from the state they are in.
        """

    @abstractmethod
    def reset_lanes(self, ids: Ids) -> Values:
        """Start a new episode in the sub-environments ``ids``; return their observations."""

    @abstractmethod
    def step_lanes(self, ids: Ids, actions: Values) -> StepResult:
        """Step the sub-environments ``ids``.

        Args:
            ids: The sub-environments.
            actions: Their actions, one row each.
        """

    def seed_lanes(self, seed: int) -> None:
        """Give sub-environment i the random stream of ``seed + i``."""
        self.random = BatchedRandom(seed, self.num_envs)

    # What users call.

    @property
    def tasks(self) -> Tasks:
        """The task of every sub-environment."""
        return self._tasks

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give every sub-environment its task. Call ``reset`` before the next ``step``.

        Args:
            tasks: One task for each sub-environment.

        Raises:
            ValueError: If there are not ``num_envs`` tasks, or parameters are unknown, missing,
                of the wrong shape or outside the allowed values.
        """
        tasks = Tasks.stack(tasks)
        if len(tasks) != self.num_envs:
            raise InvalidValueError(
                f"expected {self.num_envs} tasks, one for each env, got {len(tasks)}"
            )
        check_names(tasks.columns, self.parameters, "task parameter")
        for name, parameter in self.parameters.items():
            if name not in tasks.columns:
                raise InvalidValueError(f"the tasks lack the parameter {name!r}")
            column = tasks.columns[name]
            if column.shape[1:] != parameter.shape:
                raise InvalidValueError(
                    f"task parameter {name!r} must have shape {parameter.shape}, "
                    f"got {column.shape[1:]}"
                )
            allowed = parameter.contains(column)
            if not allowed.all():
                first = int(np.argmin(allowed))
                raise InvalidValueError(
                    f"task {first}: {name}={column[first].tolist()} is not allowed by {parameter}"
                )
        self._tasks = tasks
        self._ready = False
        self.set_parameters(tasks.columns)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Any = None
    ) -> tuple[Values, dict[str, Any]]:
        """Start a new episode in every sub-environment; the tasks stay.

        Args:
            seed: Seeds sub-environment i with ``seed + i``; None continues the present streams.
            options: Must not hold tasks, which are set by :meth:`set_tasks`.

        Raises:
            ValueError: If ``options`` holds a task, ``seed`` is negative or a sequence, or the
                environment allows no action.
        """
        if options is not None:
            check_types(Mapping, "a mapping", options=options)
        if options and not {"task", "tasks"}.isdisjoint(options):
            raise InvalidValueError(
                "tasks are set with set_tasks(tasks), not through reset options"
            )
        if isinstance(seed, (list, tuple)):
            raise InvalidValueError(f"seed must be one integer (env i gets seed + i), got {seed}")
        if seed is not None or not self._seeded:
            if seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0])
            check_seed(seed)
            super().reset(seed=seed)  # type: ignore[arg-type]
            self.seed_lanes(seed)  # type: ignore[arg-type]
            self._seeded = True
        self.elapsed[:] = 0
        self._ready = False  # until all sub-environments have begun an episode
        observations = self.reset_lanes(ALL)
        self._check_choice(observations, None)
        self._ready = True
        return observations, {}

    def step(
        self, actions: Values, active: NDArray[np.bool_] | None = None
    ) -> tuple[Values, Array, Array, Array, dict[str, Any]]:
        """Step every sub-environment, or only the active ones.

        Args:
            actions: The actions, of shape (num_envs, *action_shape); for Dict and Tuple spaces a
                dictionary or tuple of such arrays.
            active: Which sub-environments to step, of shape (num_envs,); None steps all. The
                others stay as they are; their rows are zero.

        Returns:
            Observations, rewards, terminated, truncated, info, which holds ``success`` where
            the family has it.

        Raises:
            RuntimeError: If ``reset`` was not called since the tasks were set.
            TypeError: If ``step_lanes`` returns no :class:`StepResult`.
            ValueError: If the actions have the wrong shape, or the environment returns a reward
                or an observation that is not finite, or allows no action.
        """
        if not self._ready:
            raise RuntimeError("call reset() before step(), and again after set_tasks()")
        actions = map_spaces(self._checked_actions, self.action_space, actions)
        # Stepping all is the common case: a slice makes views, an index array would copy all state.
        if active is None or active.all():
            result = self._checked(self.step_lanes(ALL, actions))
        else:
            ids = np.flatnonzero(active)
            result = self._scatter(ids, self._checked(self.step_lanes(ids, take(actions, ids))))
        observations, rewards, terminated = result.observations, result.rewards, result.terminated
        self._check_finite(observations, rewards)
        self.elapsed += 1 if active is None else active
        truncated = self.elapsed >= self.horizon
        if result.truncated is not None:
            truncated |= result.truncated
        truncated &= ~terminated
        if active is not None:
            truncated &= active
        info: dict[str, Any] = {} if result.success is None else {"success": result.success}
        ended = terminated | truncated
        # SAME_STEP autoreset: the next episode begins within the step that ended the last one, so
        # no step is a dummy, and every step of a rollout counts as experience.
        if ended.any():
            info |= {"final_obs": observations, "_final_obs": ended}
            ids = np.flatnonzero(ended)
            self.elapsed[ids] = 0
            if len(ids) == self.num_envs:
                observations = self.reset_lanes(ALL)
            else:
                observations = replaced(observations, ids, self.reset_lanes(ids))
        self._check_choice(observations, active)
        return observations, rewards, terminated, truncated, info

    def _checked_actions(self, space: spaces.Space[Any], actions: Any) -> Array:
        """Return a part of the actions as an array, or raise."""
        try:
            rows: Array = np.asarray(actions)
        except ValueError:  # of unequal length
            raise InvalidValueError(f"actions must be one array, got {actions!r:.200}") from None
        if rows.shape != space.shape:
            raise InvalidValueError(f"actions must have shape {space.shape}, got {rows.shape}")
        if not _all_finite(rows):
            raise DivergedError("actions must be finite, got NaN or infinity")
        return rows

    def _check_choice(self, observations: Values, active: NDArray[np.bool_] | None) -> None:
        """Raise if observations to act on come with a mask that allows no action."""
        if self._action_mask is None:
            return
        stuck = ~self._action_mask.leaves_a_choice(observations)
        if active is not None:  # the rows of the others are empty
            stuck &= active
        if stuck.any():
            first = int(np.argmax(stuck))
            raise InvalidValueError(
                f"the {KEY} of the environment is {self._action_mask.of(observations)[first] * 1} "
                f"before step {self.elapsed[first] + 1} of an episode of {self.tasks[first]}: it "
                "must allow a value of each discrete part of the action; end the episode "
                "(terminated=True) where nothing can be done"
            )

    def _checked(self, result: Any) -> StepResult:
        if not isinstance(result, StepResult):
            raise InvalidTypeError(
                f"step_lanes of {type(self).__name__} must return metarl.StepResult(observations, "
                f"rewards, terminated), got {result!r:.100}"
            )
        return result

    def _scatter(self, ids: NDArray[np.intp], result: StepResult) -> StepResult:
        """Return the rows of some sub-environments among those of all, which are zero."""

        def scatter(part: Array) -> Array:
            full = np.zeros((self.num_envs, *part.shape[1:]), dtype=part.dtype)
            full[ids] = part
            return full

        return StepResult(
            map_leaves(scatter, result.observations),
            scatter(result.rewards),
            scatter(result.terminated),
            None if result.truncated is None else scatter(result.truncated),
            None if result.success is None else scatter(result.success),
        )

    def _check_finite(self, observations: Values, rewards: Array) -> None:
        map_leaves(partial(self._check_leaf, "reward"), rewards)
        map_leaves(partial(self._check_leaf, "observation"), observations)

    def _check_leaf(self, what: str, values: Array) -> None:
        if not _all_finite(values):
            bad = ~np.isfinite(values).reshape(self.num_envs, -1).all(axis=1)
            first = int(np.argmax(bad))
            raise InvalidValueError(
                f"the environment returned the {what} {values[first].tolist()} in step "
                f"{self.elapsed[first] + 1} of an episode of {self.tasks[first]}; "
                f"{what}s must be finite"
            )


def _all_finite(values: Array) -> bool:
    # A sum is not finite if an element is not, and costs far less than testing each.
    return (
        values.dtype.kind != "f"
        or bool(np.isfinite(values.sum(dtype=np.float64)))
        or bool(np.isfinite(values).all())
    )


class TaskEnv(gymnasium.Env[Any, Any]):
    """A single gymnasium environment of a family: a batch of one.

    Args:
        vector_env: The batch of one.

    Raises:
        ValueError: If the batch has another size.
    """

    def __init__(self, vector_env: TaskVectorEnv):
        if vector_env.num_envs != 1:
            raise InvalidValueError(
                f"TaskEnv needs a batch of 1 environment, got {vector_env.num_envs}"
            )
        self.vector_env = vector_env
        self.metadata = {
            key: v for key, v in vector_env.metadata.items() if key != "autoreset_mode"
        }
        self.observation_space = vector_env.single_observation_space
        self.action_space = vector_env.single_action_space
        self.render_mode = vector_env.render_mode

    @property
    def task(self) -> Task:
        """The present task."""
        return self.vector_env.tasks[0]

    def set_task(self, task: Task) -> None:
        """Set the task; it stays until it is changed. Call ``reset`` before the next ``step``."""
        self.vector_env.set_tasks([task])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start a new episode of the same task. See :meth:`TaskVectorEnv.reset`."""
        super().reset(seed=seed)
        observations, info = self.vector_env.reset(seed=seed, options=options)
        return take(observations, 0), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step. See :meth:`TaskVectorEnv.step`."""
        actions = map_spaces(lambda _, part: np.asarray(part)[None], self.action_space, action)
        observations, rewards, terminated, truncated, info = self.vector_env.step(actions)
        observation = take(info.get("final_obs", observations), 0)
        own = {"success": bool(info["success"][0])} if "success" in info else {}
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), own

    def render(self) -> Any:
        """Return the picture of the present state, or None without a render mode."""
        frames = self.vector_env.render()
        return frames[0] if frames else None

    def close(self) -> None:
        """Free the environment's resources."""
        self.vector_env.close()
