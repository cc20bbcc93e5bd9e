"""Slow environments in worker processes, against the same in one process, in the same run.

Run: ``python -m metarl.experiments.benchmarks.workers``
"""

import time
from functools import partial

import gymnasium
import numpy as np
import tyro
from gymnasium import spaces

from metarl import Uniform, with_workers
from metarl.envs import from_gymnasium
from metarl.experiments.benchmarks.turns import compare, stepping_rate


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
    """Time several processes and one in turn.

    Args:
        milliseconds: How long a step takes.
        num_envs: The environments of a batch.
        num_workers: The worker processes.
        rounds: How often both are timed.
    """
    distribution = {"milliseconds": Uniform(milliseconds, milliseconds + 1e-9)}
    alone = from_gymnasium(Slow, distribution, name="slow", horizon=1000)
    envs = {
        f"{num_workers} workers": with_workers(alone, num_workers).make_vec(num_envs),
        "one process": alone.make_vec(num_envs),
    }
    for env in envs.values():
        env.reset(seed=0)
    actions = np.zeros((20, num_envs, 2), np.float32)
    contestants = {name: partial(stepping_rate, env, actions) for name, env in envs.items()}
    print(compare(contestants, rounds))
    for env in envs.values():
        env.close()


if __name__ == "__main__":
    tyro.cli(main)
