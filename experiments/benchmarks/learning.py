"""Env steps per second of ``learn()``, beside the simulator alone and multi-task PPO.

On MuJoCo ``mujoco.batch`` alone repeats each iteration: the same controls from the same states.
MAML takes 20 episodes of 100 steps of each task before and after one inner step.

Run: ``python -m metarl.experiments.benchmarks.learning [CASE ...]``
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
import tyro
from numpy.typing import NDArray

from metarl import TaskDistribution, envs
from metarl.agents import AGENTS
from metarl.agents.presets import find_preset
from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.envs.mujoco.locomotion import half_cheetah_dir
from metarl.experiments.benchmarks.turns import compare, learning_rate
from metarl.seeding import Ids

Array = NDArray[Any]


class Tape:
    """Records what a MuJoCo environment makes its simulator do, and repeats it without the rest.

    It records as long as the environment lives.
    """

    def __init__(self, env: MujocoVectorEnv) -> None:
        self._frame_skip, self._num_envs = env.body.frame_skip, env.num_envs
        self._batch = env.batch
        self._controls, self._positions, self._velocities = map(
            env.batch.bind, ("ctrl", "qpos", "qvel")
        )
        self._calls: list[Callable[[], None]] = []
        self._steps = 0
        simulate, set_state = env._simulate, env.set_state

        def recording_simulate(ids: Ids) -> Any:
            self._steps += 1
            self._calls.append(partial(self._step, self._controls.copy()))
            return simulate(ids)

        def recording_set_state(ids: Ids, qpos: Array, qvel: Array) -> Array:
            self._calls.append(partial(self._reset, ids, qpos, qvel))
            return set_state(ids, qpos, qvel)

        env._simulate = recording_simulate  # type: ignore[method-assign]
        env.set_state = recording_set_state  # type: ignore[method-assign]

    def rate(self) -> float:
        """Let ``mujoco.batch`` do all of it once more, and forget it; return env steps a second."""
        started = time.perf_counter()
        for call in self._calls:
            call()
        rate = self._steps * self._num_envs / (time.perf_counter() - started)
        self._calls.clear()
        self._steps = 0
        return rate

    def _step(self, controls: Array) -> None:
        self._controls[...] = controls
        self._batch.step(nstep=self._frame_skip)

    def _reset(self, ids: Ids, qpos: Array, qvel: Array) -> None:
        self._batch.reset(None if isinstance(ids, slice) else ids)
        self._positions[ids], self._velocities[ids] = qpos, qvel


def _agent(name: str, tasks: TaskDistribution, **changes: Any) -> Any:
    options = {**find_preset(name, tasks).hyperparameters, **changes}
    return AGENTS[name](tasks, seed=0, device="cpu", **options)


def _on_robots(family: str) -> list[Any]:
    return [_agent(name, envs.make(family)) for name in ("rl2", "multi-task")]


_MAML = partial(AGENTS["maml"], episodes_per_adaptation=20, seed=0, device="cpu")
_POLICY = {"hidden_sizes": (64, 64), "activation": "relu"}
CASES: dict[str, Callable[[], list[Any]]] = {
    "rl2 half-cheetah-dir": lambda: _on_robots("half-cheetah-dir"),
    "rl2 half-cheetah-vel": lambda: _on_robots("half-cheetah-vel"),
    "maml half-cheetah-dir, 40 tasks": lambda: [
        _MAML(half_cheetah_dir(horizon=100), meta_batch_size=40, policy_kwargs=_POLICY)
    ],
    "maml navigation-2d, the preset": lambda: [
        _agent("maml", envs.make("navigation-2d"), episodes_per_adaptation=20)
    ],
    "maml navigation-2d, 64-64": lambda: [
        _agent(
            "maml", envs.make("navigation-2d"), episodes_per_adaptation=20, policy_kwargs=_POLICY
        )
    ],
}
"""The agents that take turns, the first of which is compared with its simulator."""


def main(
    cases: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(CASES),
    iterations: int = 4,
    threads: int = 2,
) -> None:
    """Print a table of each case.

    Args:
        cases: What is trained.
        iterations: How many iterations of each agent are timed.
        threads: PyTorch threads.
    """
    torch.set_num_threads(threads)
    for case in cases:
        agents = CASES[case]()
        contestants: dict[str, Callable[[], float]] = {
            agent.name: partial(learning_rate, agent) for agent in agents
        }
        agents[0].learn(1)  # there is an environment from now on
        env = agents[0].get_env()
        if isinstance(env, MujocoVectorEnv):
            contestants["simulator alone"] = Tape(env).rate
        print(f"{case}\n{compare(contestants, iterations)}\n", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
