"""One batched engine for all robots: MuJoCo's own batch, with a task in every simulation."""

import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metarl.envs.mujoco.bodies import Body, State
from metarl.envs.mujoco.rendering import BatchRenderer
from metarl.errors import MissingPackageError, check_at_least
from metarl.parameters import Parameter
from metarl.seeding import Ids
from metarl.tasks import Tasks
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]
Columns = Mapping[str, Array]
Progress = Callable[[Array, Array, Columns], Array]
"""The reward of a task: (velocities, positions, task parameters) -> (n,) rewards."""

_INSANE = 1e5
"""No robot moves at 100 km/s: a faster simulation has blown up, even if MuJoCo does not warn."""


def forward(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward the speed along x, as gymnasium does."""
    return velocities[:, 0]


class ModelFields:
    """The models of all simulations, written field by field.

    Values are absolute: they are computed from the nominal values of the shared model, so nothing
    of a previous task remains.

    Args:
        batch: A ``mujoco.batch.Batch``.
    """

    def __init__(self, batch: Any):
        self._batch = batch
        self._derived_stale = False

    @property
    def model(self) -> Any:
        """The nominal ``MjModel``. Do not write to it."""
        return self._batch.model

    def write(self, name: str, values: Array, constants_follow: bool = True) -> None:
        """Write a field of all models.

        Args:
            name: The field of ``MjModel``, or ``opt.<name>``.
            values: Of shape (num_envs, *field_shape), or what broadcasts to it.
            constants_follow: Whether constants that MuJoCo derives from the field (inverse
                weights, bounding volumes) must be recomputed.
        """
        self._batch.expand(name)[...] = values
        self._derived_stale |= constants_follow

    def refresh(self) -> None:
        """Recompute derived constants if necessary."""
        if self._derived_stale:
            self._batch.set_const()
        self._derived_stale = False


Physics = Callable[[ModelFields, Columns], None]
"""Writes task parameters into the models: (fields, task parameters)."""


class MujocoVectorEnv(TaskVectorEnv):
    """A batch of MuJoCo robots of one body, stepped on all cores.

    | | |
    |---|---|
    | Observation | the body's, as in gymnasium's v5, float32; contact forces are left out |
    | Action | torques of the actuators, in the body's range; clipped by MuJoCo beyond it |
    | Reward | progress + healthy_reward - control_cost * sum(action^2), weights of the body |
    | End | terminated by a fall, or when the simulation blows up; truncated at ``horizon`` |
    | Start | the model's own state plus the body's noise |

    A simulation that blows up (MuJoCo warns or raises, or a velocity exceeds 1e5) ends its
    episode with a warning naming task and step. Its last row repeats the observation before,
    with reward 0; the other simulations continue.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        body: The robot.
        parameters: The parameters of a task, with all values that the environment accepts.
        progress: The part of the reward that the task determines.
        physics: Writes the parameters into the models; None if they only change the reward.
        edit: Changes the ``MjSpec`` before it is compiled; None leaves it as gymnasium ships it.
        horizon: After how many steps an episode is truncated.
        num_threads: How many threads step the simulations; 0 takes one for each core that this
            process may use.
        render_mode: None or "rgb_array".

    Raises:
        ImportError: If MuJoCo is older than 3.17, the first version with ``mujoco.batch``.
    """

    def __init__(
        self,
        num_envs: int,
        body: Body,
        *,
        parameters: Mapping[str, Parameter],
        progress: Progress = forward,
        physics: Physics | None = None,
        edit: Callable[[Any], None] | None = None,
        horizon: int = 1000,
        num_threads: int = 0,
        render_mode: str | None = None,
    ):
        check_at_least(1, num_envs=num_envs)
        batch_class = _import_batch()
        self.body = body
        self._progress = progress
        self._physics = physics
        self._renderer: BatchRenderer | None = None
        model = load_model(body, edit)
        self.dt = model.opt.timestep * body.frame_skip
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": ["rgb_array"],
            "render_fps": round(1.0 / self.dt),
        }
        threads = min(num_threads or _num_cores(), num_envs)
        self.batch = batch_class(model, num_envs, nthread=threads)
        self._fields = ModelFields(self.batch)
        # Live arrays: every call of the batch updates them in place.
        names = {"qpos", "qvel", *body.needs, *(name for name, _ in body.extras)}
        self._state = {name: self.batch.bind(name) for name in sorted(names)}
        self._controls, self._times = self.batch.bind("ctrl"), self.batch.bind("time")
        self._positions = np.zeros_like(body.position(self._state))
        size = _observation_size(body, self._state)
        self._observations = np.zeros((num_envs, size), dtype=np.float32)
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        super().__init__(
            num_envs,
            parameters=parameters,
            observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
            action_space=spaces.Box(low, high, dtype=np.float32),
            horizon=horizon,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Columns) -> None:
        self._columns = columns
        if self._physics is not None:
            self._physics(self._fields, columns)
            self._fields.refresh()

    def reset_lanes(self, ids: Ids) -> Array:
        body, model = self.body, self.batch.model
        noise = body.reset_noise
        qpos = model.qpos0 + noise * (2.0 * self.random.uniform(ids, model.nq) - 1.0)
        if body.normal_velocities:
            qvel = noise * self.random.normal(ids, model.nv)
        else:
            qvel = noise * (2.0 * self.random.uniform(ids, model.nv) - 1.0)
        return self.set_state(ids, qpos, qvel)

    def set_state(self, ids: Ids, qpos: Array, qvel: Array) -> Array:
        """Put robots into a state as if an episode started there: all other state is reset.

        Args:
            ids: The sub-environments.
            qpos: Their positions, of shape (n, nq).
            qvel: Their velocities, of shape (n, nv).

        Returns:
            Their observations.
        """
        import mujoco

        sims = _sims(ids)
        self.batch.reset(sims, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._state["qpos"][ids] = qpos
        self._state["qvel"][ids] = qvel
        self.batch.forward(sims)
        state = self._select(ids)
        self._positions[ids] = self._locate(state, self._rows(ids))
        self._observations[ids] = self._observe(state, self._rows(ids))
        return self._observations[ids].copy()

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        self._controls[ids] = actions
        times = self._times[ids].copy()
        errors = self._simulate(ids)
        state, task = self._select(ids), self._rows(ids)

        positions = self._locate(state, task)
        velocities = (positions - self._positions[ids]) / self.dt
        self._positions[ids] = positions

        body = self.body
        healthy = self._stand(state, task)
        effort = np.square(actions).sum(axis=1)
        speed = body.speed_weight * self._progress(velocities, positions, task)
        rewards = speed + body.healthy_reward * healthy - body.control_cost * effort
        observations = self._observe(state, task)
        terminated = ~healthy

        # One comparison finds NaN, infinity and absurd values, as none of them is <= _INSANE.
        # Both arrays are needed: observations may be clipped, and contain more than velocities.
        warned, sizes = self.batch.warning[ids, :, 1], [np.abs(state["qvel"]), np.abs(observations)]
        if warned.any() or errors.any() or not all(size.max() <= _INSANE for size in sizes):
            failed = warned.any(axis=1) | errors[ids]
            for size in sizes:
                failed |= ~(size <= _INSANE).all(axis=1)
            self._report(ids, failed, times)
            observations[failed] = self._observations[ids][failed]
            rewards[failed] = 0.0
            terminated |= failed
        self._observations[ids] = observations
        return StepResult(observations, rewards, terminated)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """Return a picture of each sub-environment, or None without a render mode.

        Raises:
            RuntimeError: If there is no OpenGL to draw with.
        """
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = BatchRenderer(self.batch)
        return self._renderer.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _simulate(self, ids: Ids) -> NDArray[np.bool_]:
        """Run one control step; return which of all simulations MuJoCo raised an error in."""
        from mujoco.batch import SimulationError

        errors = np.zeros(self.num_envs, dtype=np.bool_)
        try:  # the simulations without an error have been stepped when it is raised
            self.batch.step(_sims(ids), nstep=self.body.frame_skip)
        except SimulationError as error:
            errors[error.ids] = True
        return errors

    def _report(self, ids: Ids, failed: NDArray[np.bool_], times: Array) -> None:
        numbers = np.arange(self.num_envs)[ids][failed]
        first = int(numbers[0])
        task = Tasks("task", self._columns)[first] if self._columns else "the default task"
        step = round(times[failed][0] / self.dt) + 1
        others = f", and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        warnings.warn(
            f"the simulation blew up in step {step} of an episode of {task} "
            f"(sub-environment {first}{others}); the episode ends there",
            RuntimeWarning,
            stacklevel=4,
        )

    def _select(self, ids: Ids) -> State:
        return {name: values[ids] for name, values in self._state.items()}

    def _rows(self, ids: Ids) -> Columns:
        return {name: column[ids] for name, column in self._columns.items()}

    def _locate(self, state: State, task: Columns) -> Array:
        """Return where the robots are, of shape (n, 1) or (n, 2)."""
        return self.body.position(state)

    def _stand(self, state: State, task: Columns) -> Array:
        """Return which robots have not fallen, of shape (n,)."""
        return self.body.healthy(state)

    def _observe(self, state: State, task: Columns) -> Array:
        """Return new observations, of shape (n, size)."""
        body, qpos, qvel = self.body, state["qpos"], state["qvel"]
        n, num_positions, num_velocities = len(qpos), qpos.shape[1] - body.hidden, qvel.shape[1]
        observations = np.empty((n, self._observations.shape[1]), dtype=np.float32)
        observations[:, :num_positions] = qpos[:, body.hidden :]
        column = num_positions + num_velocities
        if body.velocity_clip is not None:
            qvel = np.clip(qvel, -body.velocity_clip, body.velocity_clip)
        observations[:, num_positions:column] = qvel
        for name, skip in body.extras:
            extra = state[name][:, skip:].reshape(n, -1)
            observations[:, column : column + extra.shape[1]] = extra
            column += extra.shape[1]
        return observations


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    # torchrun says how many processes share the machine with this one.
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _import_batch() -> Any:
    try:
        from mujoco.batch import Batch
    except ImportError as error:
        raise MissingPackageError(
            "the locomotion families need MuJoCo 3.17 or newer: pip install 'mujoco>=3.17'"
        ) from error
    return Batch


def load_model(body: Body, edit: Callable[[Any], None] | None = None) -> Any:
    """Compile a body's ``MjModel`` from the XML that gymnasium ships.

    Args:
        body: The robot.
        edit: Changes the ``MjSpec`` before it is compiled.
    """
    import mujoco

    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / body.xml
    spec = mujoco.MjSpec.from_file(str(path))
    if edit is not None:
        edit(spec)
    with warnings.catch_warnings():
        # An attribute in gymnasium's XML, about which MuJoCo would warn at each load.
        warnings.filterwarnings("ignore", ".*settotalmass.*")
        return spec.compile()


def _observation_size(body: Body, state: State) -> int:
    extras = sum(math.prod(state[name][0, skip:].shape) for name, skip in body.extras)
    size: int = state["qpos"].shape[1] - body.hidden + state["qvel"].shape[1] + extras
    return size


def _sims(ids: Ids) -> NDArray[np.intp] | None:
    """Return ids as ``mujoco.batch`` understands them: None for all."""
    return None if isinstance(ids, slice) else ids
