"""Speed of the locomotion engine: ``python -m metarl.experiments.benchmarks.mujoco``.

800 sub-environments with random actions and a different slope in each, against

- bare ``mujoco.batch`` that steps the same models from the same states with the same actions:
  what is missing to 1 is the price of observations, rewards, ends and resets;
- gymnasium's ``AsyncVectorEnv`` and SB3's ``SubprocVecEnv`` of gymnasium's own environments, one
  process per core.

The timed sections alternate, so that noise of the machine hits all alike; the medians are shown.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import tyro
from mujoco.batch import Batch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import SubprocVecEnv

from metarl import envs
from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.experiments.benchmarks.turns import compare, stepping_rate

GYMNASIUM: dict[str, tuple[str, dict[str, Any]]] = {
    "half-cheetah": ("HalfCheetah-v5", {}),
    "ant": ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0}),
}


def engine_and_bare(body: str, num_envs: int, steps: int) -> dict[str, Callable[[], float]]:
    """Return timed sections of the engine, and then of the bare batch with the same work."""
    tasks = envs.make(f"{body}-slope")
    env = tasks.make_vec(num_envs)
    assert isinstance(env, MujocoVectorEnv)
    env.set_tasks(tasks.sample("train", num_envs, 0))
    env.reset(seed=0)
    bare = Batch(env.batch.model, num_envs, nthread=env.batch.nthread)
    bare.expand("opt.gravity")[...] = env.batch.expand("opt.gravity")
    draw = _drawing(env.single_action_space, steps, num_envs)
    actions = draw()

    def run_engine() -> float:
        actions[...] = draw()
        bare.state[...] = env.batch.state  # the bare batch runs next
        return stepping_rate(env, actions)

    def run_bare() -> float:
        controls = bare.bind("ctrl")
        start = time.perf_counter()
        for action in actions:
            controls[...] = action
            bare.step(nstep=env.body.frame_skip)
        return steps * num_envs / (time.perf_counter() - start)

    return {"metarl": run_engine, "bare mujoco.batch": run_bare}


def process_pools(body: str, steps: int, closing: ExitStack) -> dict[str, Callable[[], float]]:
    """Return timed sections of gymnasium's and SB3's pools, which ``closing`` closes."""
    name, settings = GYMNASIUM[body]
    make = partial(gymnasium.make, name, **settings)
    num_envs = os.cpu_count() or 1
    draw = _drawing(make().action_space, steps, num_envs)
    pools: dict[str, Any] = {
        "gymnasium AsyncVectorEnv": gymnasium.vector.AsyncVectorEnv([make] * num_envs),
        "SB3 SubprocVecEnv": SubprocVecEnv([make] * num_envs),
    }
    for pool in pools.values():
        closing.callback(pool.close)
        pool.reset()
    return {label: lambda pool=pool: stepping_rate(pool, draw()) for label, pool in pools.items()}  # type: ignore[misc]


def _drawing(space: Any, steps: int, num_envs: int) -> Callable[[], NDArray[np.float32]]:
    """Return a function that draws actions of shape (steps, num_envs, ...)."""
    rng, shape = np.random.default_rng(0), (steps, num_envs, *space.shape)
    return lambda: rng.uniform(space.low, space.high, shape).astype(np.float32)


def main(
    bodies: tuple[str, ...] = ("half-cheetah", "ant"),
    num_envs: int = 800,
    rounds: int = 10,
    steps: int = 20,
) -> None:
    """Measure bodies, and print a table of each.

    Args:
        bodies: Their names.
        num_envs: Sub-environments of the engine.
        rounds: Timed sections of each contestant.
        steps: Steps of all sub-environments in a section; the pools of few environments take ten
            times as many, to be timed as long.
    """
    for body in bodies:
        with ExitStack() as closing:
            contestants = engine_and_bare(body, num_envs, steps)
            contestants |= process_pools(body, 10 * steps, closing)
            print(f"{body}, {num_envs} sub-environments\n{compare(contestants, rounds)}\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
