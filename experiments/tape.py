"""What the simulator alone would take: the yardstick of the benchmarks on MuJoCo."""

import time
from contextlib import ExitStack
from typing import Any
from unittest import mock

from metarl.envs.mujoco_engine import MujocoVectorEnv


class Tape:
    """Records what a MuJoCo environment makes its simulator do, and repeats it without the rest."""

    def __init__(self, env: MujocoVectorEnv, stack: ExitStack) -> None:
        self._env = env
        self._calls: list[tuple[Any, ...]] = []
        self._controls = env.batch.bind("ctrl")
        simulate, set_state = env._simulate, env.set_state

        def recording_simulate(ids: Any) -> Any:
            self._calls.append((self._controls.copy(),))
            return simulate(ids)

        def recording_set_state(ids: Any, qpos: Any, qvel: Any) -> Any:
            self._calls.append((ids, qpos, qvel))
            return set_state(ids, qpos, qvel)

        stack.enter_context(mock.patch.object(env, "_simulate", recording_simulate))
        stack.enter_context(mock.patch.object(env, "set_state", recording_set_state))

    def repeat(self) -> float:
        """Let ``mujoco.batch`` do all of it once more; return the seconds, and forget it."""
        batch, frame_skip = self._env.batch, self._env.body.frame_skip
        positions, velocities = batch.bind("qpos"), batch.bind("qvel")
        started = time.perf_counter()
        for call in self._calls:
            if len(call) == 1:
                (self._controls[...],) = call
                batch.step(nstep=frame_skip)
            else:
                ids, qpos, qvel = call
                batch.reset(None if isinstance(ids, slice) else ids)
                positions[ids], velocities[ids] = qpos, qvel
        self._calls.clear()
        return time.perf_counter() - started
