"""What the simulator alone would take: the yardstick of the benchmarks on MuJoCo."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.seeding import Ids

Array = NDArray[Any]


class Tape:
    """Records what a MuJoCo environment makes its simulator do, and repeats it without the rest.

    It records as long as the environment lives.
    """

    def __init__(self, env: MujocoVectorEnv) -> None:
        self._frame_skip = env.body.frame_skip
        self._batch = env.batch
        self._controls, self._positions, self._velocities = map(
            env.batch.bind, ("ctrl", "qpos", "qvel")
        )
        self._calls: list[Callable[[], None]] = []
        simulate, set_state = env._simulate, env.set_state

        def recording_simulate(ids: Ids) -> Any:
            self._calls.append(partial(self._step, self._controls.copy()))
            return simulate(ids)

        def recording_set_state(ids: Ids, qpos: Array, qvel: Array) -> Array:
            self._calls.append(partial(self._reset, ids, qpos, qvel))
            return set_state(ids, qpos, qvel)

        env._simulate = recording_simulate  # type: ignore[method-assign]
        env.set_state = recording_set_state  # type: ignore[method-assign]

    def repeat(self) -> float:
        """Let ``mujoco.batch`` do all of it once more; return the seconds, and forget it."""
        started = time.perf_counter()
        for call in self._calls:
            call()
        self._calls.clear()
        return time.perf_counter() - started

    def _step(self, controls: Array) -> None:
        self._controls[...] = controls
        self._batch.step(nstep=self._frame_skip)

    def _reset(self, ids: Ids, qpos: Array, qvel: Array) -> None:
        self._batch.reset(None if isinstance(ids, slice) else ids)
        self._positions[ids], self._velocities[ids] = qpos, qvel
