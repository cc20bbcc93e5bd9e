"""An existing batch of environments as a family of tasks."""

import functools
import inspect
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from metarl.batches import in_types, map_leaves, map_spaces
from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import Splits, allowed
from metarl.envs.custom.vector import (
    SUCCESS,
    _as_flags,
    _as_rewards,
    check_wrappers,
    closed_on_error,
)
from metarl.errors import InvalidTypeError, InvalidValueError
from metarl.parameters import Parameter
from metarl.seeding import Ids, foreign_seed
from metarl.spaces import Values, check_space
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]
MakeVec: TypeAlias = Callable[..., VectorEnv[Any, Any, Any]]
"""``make_vec(num_envs, **options)``: build a batch."""

_OWN = "write a metarl.TaskVectorEnv (docs/batched_families.md, 'Writing one')"


def from_vector_env(
    make_vec: MakeVec,
    parameters: Mapping[str, Parameter],
    *,
    horizon: int,
    splits: Splits | None = None,
    shares_tasks: bool = False,
    name: str | None = None,
    episodes_per_trial: int = 3,
    visible: Sequence[str] = (),
) -> TaskDistribution:
    """Make a family of tasks from a batched environment of gymnasium's API.

    The batch has a method ``set_tasks(columns)``, which takes for each parameter an array of shape
    (num_envs, *shape), before the ``reset`` that begins the tasks. Its autoreset mode is
    ``AutoresetMode.DISABLED``: ``reset(options={"reset_mask": mask})`` begins episodes where the
    mask is True, and the others continue.

    If episodes differ in length, some sub-environments wait for others. The method must then be
    ``step(actions, active)``: sub-environments that are not ``active``, an array of shape
    (num_envs,), must not change, and their returned values are ignored.

    Args:
        make_vec: Builds a batch: ``make_vec(num_envs)``.
        parameters: The distribution of each parameter.
        horizon: After how many steps an episode is truncated, if the batch does not end it before.
        splits: As in :func:`metarl.envs.from_gymnasium`.
        shares_tasks: Declares that training and evaluation use the same tasks on purpose.
        name: The family's name; None takes that of ``make_vec``.
        episodes_per_trial: How many episodes of one task a learner gets by default.
        visible: The parameters that observations may show, as a map does.

    Raises:
        TypeError: If ``make_vec`` does not build a ``VectorEnv``.
        ValueError: If the batch has another size, resets itself, or has no ``set_tasks``, or agents
            do not support a space.
    """
    splits = {} if splits is None else splits
    if name is None:
        name = re.sub(r"[^\w.-]+", "-", getattr(make_vec, "__name__", "batch")).strip("-")
    distributions = {
        key: allowed(key, distribution, splits) for key, distribution in parameters.items()
    }
    family = TaskDistribution(
        name=name,
        parameters=parameters,
        env_factory=functools.partial(
            AdaptedVectorEnv, make_vec=make_vec, parameters=distributions, horizon=horizon
        ),
        splits=splits,
        shares_tasks=shares_tasks,
        episodes_per_trial=episodes_per_trial,
        visible=tuple(visible),
        description=f"{name} with varying {', '.join(parameters)}",
    )
    family.make_vec(2).close()  # fail now if something is wrong
    return family


class AdaptedVectorEnv(TaskVectorEnv):
    """A batch of gymnasium's API, with tasks; see :func:`from_vector_env`.

    Args:
        num_envs: The number of sub-environments.
        make_vec: Builds the batch.
        parameters: The parameters of a task: allowed values and defaults.
        horizon: After how many steps an episode is truncated.
        render_mode: One of the batch's render modes, or None.
    """

    changes_within_episodes = False

    def __init__(
        self,
        num_envs: int,
        *,
        make_vec: MakeVec,
        parameters: Mapping[str, Parameter],
        horizon: int,
        render_mode: str | None = None,
    ):
        options = {"render_mode": render_mode} if render_mode else {}
        with closed_on_error(make_vec(num_envs, **options)) as made:
            self._batch = _checked(made, num_envs)
            self._takes_active = "active" in inspect.signature(self._batch.step).parameters
            self._next_seed: int | None = None
            own = {key: v for key, v in self._batch.metadata.items() if key.startswith("render")}
            self.metadata = {**TaskVectorEnv.metadata, **own}
            super().__init__(
                num_envs,
                parameters=parameters,
                observation_space=self._batch.single_observation_space,
                action_space=self._batch.single_action_space,
                horizon=horizon,
                render_mode=render_mode,
            )
        # When this object is dropped, but not at the end of the program.
        self._close = weakref.finalize(self, self._batch.close)
        self._close.atexit = False

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._batch.set_tasks({key: column.copy() for key, column in columns.items()})

    def seed_lanes(self, seed: int) -> None:
        super().seed_lanes(seed)
        self._next_seed = foreign_seed(seed)

    def reset_lanes(self, ids: Ids) -> Values:
        seed, self._next_seed = self._next_seed, None
        options = None if isinstance(ids, slice) else {"reset_mask": self._mask(ids)}
        observations, _ = self._batch.reset(seed=seed, options=options)
        return in_types(self.single_observation_space, self._rows(observations, ids))

    def step_lanes(self, ids: Ids, actions: Values) -> StepResult:
        def of_all(space: gymnasium.Space[Any], some: Array) -> Array:
            # Copied, as the batch may clip actions in place.
            every = np.zeros((self.num_envs, *(space.shape or ())), space.dtype)
            every[ids] = some
            return every

        actions = map_spaces(of_all, self.single_action_space, actions)
        if self._takes_active:
            returned = self._batch.step(actions, active=self._mask(ids))
        elif isinstance(ids, slice):
            returned = self._batch.step(actions)
        else:
            raise InvalidValueError(
                f"{self.num_envs - len(ids)} of {self.num_envs} sub-environments must wait, as "
                f"episodes differ in length, but {self._batch} can only step all of them; expected "
                f"a method step(actions, active) that does not change the others, or {_OWN}"
            )
        observations, rewards, terminated, truncated, info = returned
        key = next((key for key in SUCCESS if key in info), None)
        return StepResult(
            in_types(self.single_observation_space, self._rows(observations, ids)),
            _as_rewards(self._rows(rewards, ids)),
            _as_flags("terminated", self._rows(terminated, ids)),
            _as_flags("truncated", self._rows(truncated, ids)),
            None if key is None else _as_flags(f"info[{key!r}]", self._rows(info[key], ids)),
        )

    def _rows(self, values: Values, ids: Ids) -> Values:
        """Return rows as new arrays: a batch may write its next observations into the old ones."""

        def rows(part: Any) -> Array:
            every = np.array(part)
            if every.shape[:1] != (self.num_envs,):
                raise InvalidValueError(
                    f"{self._batch} returned {part!r:.100}, of shape {every.shape}; expected a row "
                    f"for each of {self.num_envs} sub-environments"
                )
            return every[ids]

        return map_leaves(rows, values)

    def _mask(self, ids: Ids) -> NDArray[np.bool_]:
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[ids] = True
        return mask

    def render(self) -> Any:
        """Return the picture of every sub-environment."""
        return self._batch.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the batch."""
        self._close()


def _checked(batch: Any, num_envs: int) -> Any:
    if isinstance(batch, TaskVectorEnv):
        raise InvalidTypeError(
            f"{batch} is a TaskVectorEnv already: make a metarl.TaskDistribution with "
            "env_factory=..."
        )
    if not isinstance(batch, VectorEnv):
        raise InvalidTypeError(
            f"make_vec(num_envs) must build a gymnasium.vector.VectorEnv, got {batch!r}; a single "
            "environment goes to from_gymnasium"
        )
    if batch.num_envs != num_envs:
        raise InvalidValueError(
            f"make_vec({num_envs}) must build {num_envs} sub-environments, got {batch.num_envs}"
        )
    mode = batch.metadata.get("autoreset_mode")
    if mode != AutoresetMode.DISABLED:
        raise InvalidValueError(
            f"{batch} begins episodes by itself (autoreset_mode {mode}), even if a "
            "sub-environment must wait for others; expected AutoresetMode.DISABLED and a reset "
            f"that takes options={{'reset_mask': mask}}, or {_OWN}"
        )
    if not hasattr(batch, "set_tasks"):
        raise InvalidValueError(
            f"{batch} does not accept tasks; expected a method set_tasks(columns), or {_OWN}"
        )
    check_wrappers(batch)
    for env in batch.unwrapped.envs if isinstance(batch.unwrapped, SyncVectorEnv) else ():
        check_wrappers(env)
    check_space("observation", batch.single_observation_space)
    check_space("action", batch.single_action_space)
    return batch
