"""Speed and memory of the locomotion engine: ``python -m metarl.experiments.benchmarks.mujoco``.

800 sub-environments with random actions and a different slope in each, against

- bare ``mujoco.batch`` that steps the same models from the same states with the same actions:
  what is missing to 100% is the price of observations, rewards, ends and resets;
- gymnasium's ``AsyncVectorEnv`` and SB3's ``SubprocVecEnv`` of gymnasium's own environments, one
  process per core.

The timed sections alternate, so that noise of the machine hits all alike; the medians are shown.
"""

import os
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from metarl import envs
from metarl.envs.mujoco.engine import MujocoVectorEnv

GYMNASIUM: dict[str, tuple[str, dict[str, Any]]] = {
    "half-cheetah": ("HalfCheetah-v5", {}),
    "ant": ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0}),
}


@dataclass
class Options:
    """What to measure."""

    bodies: tuple[str, ...] = ("half-cheetah", "ant")
    num_envs: int = 800
    """Sub-environments of the engine."""
    rounds: int = 10
    """Timed sections of each contestant."""
    steps: int = 20
    """Steps of all sub-environments in a section."""
    processes: bool = True
    """Whether to measure gymnasium's and SB3's process pools too."""


@dataclass
class Contestant:
    """Something that steps environments; ``run(steps)`` returns (seconds, env steps)."""

    name: str
    run: Callable[[int], tuple[float, int]]
    rates: list[float] = field(default_factory=list)


def _engine_and_bare(body: str, num_envs: int) -> list[Contestant]:
    from mujoco.batch import Batch

    tasks = envs.make(f"{body}-slope")
    env = tasks.make_vec(num_envs)
    assert isinstance(env, MujocoVectorEnv)
    env.set_tasks(tasks.sample("train", num_envs, 0))
    env.reset(seed=0)
    bare = Batch(env.batch.model, num_envs, nthread=env.batch.nthread)
    bare.expand("opt.gravity")[...] = env.batch.expand("opt.gravity")
    rng = np.random.default_rng(0)
    space: Any = env.action_space
    frame_skip = env.body.frame_skip
    actions: list[Any] = []

    def run_engine(steps: int) -> tuple[float, int]:
        actions[:] = rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)
        bare.state[...] = env.batch.state  # the same work for the bare batch, which runs next
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        return time.perf_counter() - start, steps * num_envs

    def run_bare(steps: int) -> tuple[float, int]:
        controls = bare.bind("ctrl")
        start = time.perf_counter()
        for action in actions:
            controls[...] = action
            bare.step(nstep=frame_skip)
        return time.perf_counter() - start, steps * num_envs

    return [Contestant("metarl", run_engine), Contestant("bare mujoco.batch", run_bare)]


def _stepping(vector_env: Any, num_envs: int, space: Any) -> Callable[[int], tuple[float, int]]:
    rng = np.random.default_rng(0)
    vector_env.reset()

    def run(steps: int) -> tuple[float, int]:
        steps *= 10  # of few environments, for a section long enough to be timed
        actions = rng.uniform(space.low, space.high, (steps, num_envs, *space.shape))
        actions = actions.astype(np.float32)
        start = time.perf_counter()
        for action in actions:
            vector_env.step(action)
        return time.perf_counter() - start, steps * num_envs

    return run


def _process_pools(body: str, closing: ExitStack) -> list[Contestant]:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    name, settings = GYMNASIUM[body]
    make = partial(gymnasium.make, name, **settings)
    num_envs = os.cpu_count() or 1
    contestants = []
    for label, pool in (
        ("gymnasium AsyncVectorEnv", gymnasium.vector.AsyncVectorEnv([make] * num_envs)),
        ("SB3 SubprocVecEnv", SubprocVecEnv([make] * num_envs)),
    ):
        closing.callback(pool.close)
        space = gymnasium.make(name).action_space
        contestants.append(Contestant(label, _stepping(pool, num_envs, space)))
    return contestants


def _memory() -> float:
    """Return the most memory this process has held so far, in MB, with all libraries."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def measure(body: str, options: Options) -> Table:
    """Measure one body and return the table of rates."""
    with ExitStack() as closing:
        contestants = _engine_and_bare(body, options.num_envs)
        if options.processes:
            contestants += _process_pools(body, closing)
        for _ in range(options.rounds):
            for contestant in contestants:
                seconds, num_steps = contestant.run(options.steps)
                contestant.rates.append(num_steps / seconds)
    table = Table(title=f"{body}: {options.num_envs} sub-environments, {_memory():.0f} MB at most")
    for column in ("", "env steps/s", "of bare", "times slower than metarl"):
        table.add_column(column, justify="left" if not column else "right")
    ours, bare = (np.array(contestant.rates) for contestant in contestants[:2])
    for contestant in contestants:
        rates = np.array(contestant.rates)
        table.add_row(
            contestant.name,
            f"{np.median(rates):,.0f}",
            f"{np.median(rates / bare):.1%}",
            f"{np.median(ours / rates):.1f}",
        )
    return table


def main() -> None:
    """Measure all bodies."""
    options = tyro.cli(Options, description=__doc__)
    for body in options.bodies:
        Console().print(measure(body, options))


if __name__ == "__main__":
    main()
