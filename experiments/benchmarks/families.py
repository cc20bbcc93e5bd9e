"""Speed of families of tasks: ``python -m metarl.experiments.benchmarks.families [FAMILY ...]``.

A batch of 1,024 sub-environments with random actions and a different task in each, beside a Python
loop over single environments of the same family, as ``gymnasium.make`` gives them without its
checker. The timed sections alternate, so that noise of the machine hits both alike; the medians
are shown. Actions are drawn beforehand; autoreset and the loop's resets count.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from metarl import envs
from metarl.errors import check_at_least
from metarl.vector.env import TaskEnv

Section = Callable[[], float]
"""A timed section; returns env steps/s."""


@dataclass
class Options:
    """What to measure."""

    families: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The families; by default the first of each kind of batch, without the robots."""
    num_envs: int = 1024
    """Sub-environments of the batch."""
    num_singles: int = 4
    """Single environments of the loop; its speed does not depend on their number, but sections of
    like duration are disturbed alike."""
    rounds: int = 10
    """Timed sections of each contestant."""
    steps: int = 100
    """Steps of every environment in a section."""


def default_families() -> list[str]:
    """Return the first family of each kind of batch; the robots have a benchmark of their own."""
    first: dict[Any, str] = {}
    for name in envs.names():
        tasks = envs.make(name)
        if tasks.simulator != "mujoco":
            first.setdefault(getattr(tasks.env_factory, "func", tasks.env_factory), name)
    return list(first.values())


def _batch(family: str, options: Options) -> Section:
    tasks = envs.make(family)
    env = tasks.make_vec(options.num_envs)
    env.set_tasks(tasks.sample("train", options.num_envs, 0))
    env.reset(seed=0)
    env.action_space.seed(0)

    def run() -> float:
        actions: list[Any] = [env.action_space.sample() for _ in range(options.steps)]
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        return options.steps * options.num_envs / (time.perf_counter() - start)

    return run


def _loop(family: str, options: Options) -> Section:
    tasks = envs.make(family)
    singles = []
    for index, task in enumerate(tasks.sample("train", options.num_singles, 0)):
        single = TaskEnv(tasks.make_vec(1))
        single.set_task(task)
        env = gymnasium.wrappers.OrderEnforcing(single)
        env.reset(seed=index)
        env.action_space.seed(index)
        singles.append(env)

    def run() -> float:
        actions = [[env.action_space.sample() for env in singles] for _ in range(options.steps)]
        start = time.perf_counter()
        for row in actions:
            for env, action in zip(singles, row):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
        return options.steps * options.num_singles / (time.perf_counter() - start)

    return run


def measure(family: str, options: Options) -> tuple[float, float, float]:
    """Return env steps/s of batch and loop, and their ratio: medians over the rounds."""
    sections = _batch(family, options), _loop(family, options)
    rates = np.array([[run() for run in sections] for _ in range(options.rounds)])
    batch, loop = np.median(rates, axis=0)
    return float(batch), float(loop), float(np.median(rates[:, 0] / rates[:, 1]))


def main() -> None:
    """Measure all families and print the table."""
    options = tyro.cli(Options, description=__doc__)
    check_at_least(1, num_envs=options.num_envs, rounds=options.rounds, steps=options.steps)
    table = Table(title=f"env steps/s: {options.num_envs} sub-environments, random actions")
    for column in ("family", "batch", "loop over single environments", "ratio"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for family in options.families or default_families():
        batch, loop, ratio = measure(family, options)
        table.add_row(family, f"{batch:,.0f}", f"{loop:,.0f}", f"{ratio:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
