"""Speed of families of tasks: ``python -m metarl.experiments.benchmarks.families [FAMILY ...]``.

A batch of 1,024 sub-environments with random actions and a different task in each, beside a Python
loop over single environments of the same family, as ``gymnasium.make`` gives them without its
checker. The timed sections alternate, so that noise of the machine hits both alike; the medians
are shown. Actions are drawn beforehand; autoreset and the loop's resets count.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any

import gymnasium
import tyro

from metarl import TaskDistribution, envs
from metarl.errors import check_at_least
from metarl.experiments.benchmarks.turns import compare, stepping_rate
from metarl.vector.env import TaskEnv

NUM_SINGLES = 4
"""The loop's environments. Its speed does not depend on their number, but sections of like duration
are disturbed alike."""


def default_families() -> list[str]:
    """Return the first family of each kind of batch; the robots have a benchmark of their own."""
    first: dict[Any, str] = {}
    for name in envs.names():
        tasks = envs.make(name)
        if tasks.simulator != "mujoco":
            first.setdefault(getattr(tasks.env_factory, "func", tasks.env_factory), name)
    return list(first.values())


def batch(tasks: TaskDistribution, num_envs: int, steps: int) -> Callable[[], float]:
    """Return a timed section of a batch."""
    env = tasks.make_vec(num_envs)
    env.set_tasks(tasks.sample("train", num_envs, 0))
    env.reset(seed=0)
    env.action_space.seed(0)
    return lambda: stepping_rate(env, [env.action_space.sample() for _ in range(steps)])


def loop(tasks: TaskDistribution, steps: int) -> Callable[[], float]:
    """Return a timed section of single environments."""
    singles = []
    for index, task in enumerate(tasks.sample("train", NUM_SINGLES, 0)):
        single = TaskEnv(tasks.make_vec(1))
        single.set_task(task)
        env = gymnasium.wrappers.OrderEnforcing(single)
        env.reset(seed=index)
        env.action_space.seed(index)
        singles.append(env)

    def run() -> float:
        actions = [[env.action_space.sample() for env in singles] for _ in range(steps)]
        start = time.perf_counter()
        for row in actions:
            for env, action in zip(singles, row):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
        return steps * NUM_SINGLES / (time.perf_counter() - start)

    return run


def main(
    families: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    num_envs: int = 1024,
    rounds: int = 10,
    steps: int = 100,
) -> None:
    """Measure families, and print a table of each.

    Args:
        families: Their names; by default the first of each kind of batch, without the robots.
        num_envs: Sub-environments of the batch.
        rounds: Timed sections of each contestant.
        steps: Steps of every environment in a section.
    """
    check_at_least(1, num_envs=num_envs, rounds=rounds, steps=steps)
    for family in families or default_families():
        tasks = envs.make(family)
        contestants = {
            f"batch of {num_envs}": batch(tasks, num_envs, steps),
            "loop over single environments": loop(tasks, steps),
        }
        print(f"{family}\n{compare(contestants, rounds)}\n", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
