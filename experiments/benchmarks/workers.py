"""Slow environments in worker processes, against the same in one process, in the same run.

Run: ``python -m metarl.experiments.benchmarks.workers``
"""

import time

import gymnasium
import numpy as np
import tyro
from gymnasium import spaces

from metarl import TaskVectorEnv, Uniform, with_workers
from metarl.envs import from_gymnasium


class Slow(gymnasium.Env[np.ndarray, np.ndarray]):
    """Keeps a core busy for some milliseconds in each step."""

    observation_space = spaces.Box(-1.0, 1.0, (8,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, milliseconds: float):
        self._seconds = milliseconds / 1000.0

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        """Start an episode."""
        super().reset(seed=seed)
        return np.zeros(8, np.float32), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        """Work, and return nothing of note."""
        # CPU time, so that a busy machine does not shorten the work.
        end = time.process_time() + self._seconds
        while time.process_time() < end:
            pass
        return np.zeros(8, np.float32), 0.0, False, False, {}


def main(
    milliseconds: float = 5.0, num_envs: int = 16, num_workers: int = 2, rounds: int = 5
) -> None:
    """Time one process and several in turn.

    Args:
        milliseconds: How long a step takes.
        num_envs: The environments of a batch.
        num_workers: The worker processes.
        rounds: How often both are timed.
    """
    distribution = {"milliseconds": Uniform(milliseconds, milliseconds + 1e-9)}
    alone = from_gymnasium(Slow, distribution, name="slow", horizon=1000)
    rates: list[list[float]] = []
    envs = [tasks.make_vec(num_envs) for tasks in (alone, with_workers(alone, num_workers))]
    for env in envs:
        env.reset(seed=0)
    for round_ in range(rounds):
        rates.append([_rate(env) for env in envs])
        one, several = rates[-1]
        print(
            f"round {round_ + 1}: one process {one:,.0f} env steps/s, {num_workers} workers "
            f"{several:,.0f}: {several / one:.2f} times"
        )
    ratios = sorted(several / one for one, several in rates)
    print(f"median: {ratios[len(ratios) // 2]:.2f} times")
    for env in envs:
        env.close()


def _rate(env: TaskVectorEnv, num_steps: int = 20) -> float:
    actions = np.zeros((env.num_envs, 2), np.float32)
    start = time.perf_counter()
    for _ in range(num_steps):
        env.step(actions)
    return float(num_steps * env.num_envs / (time.perf_counter() - start))


if __name__ == "__main__":
    tyro.cli(main)
