"""How long a meta-iteration of MAML takes, and on what.

    python -m metarl.experiments.benchmarks.maml [--threads 2] [--iterations 5]

Dense 2D navigation (20 tasks; with its preset, and with a smaller policy) and half-cheetah-dir (40
tasks), each with 20 episodes of 100 steps per task before and after one inner step, update
included. The cheetah is compared with the bare simulator: after each meta-iteration
``mujoco.batch`` alone repeats it, the same controls from the same states.
"""

import functools
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
import tyro
from stable_baselines3.common.logger import Logger

from metarl import TaskDistribution
from metarl.agents import MAML
from metarl.agents.maml.adaptation import RolloutBuffer
from metarl.agents.presets import find_preset
from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.envs.mujoco.locomotion import half_cheetah_dir
from metarl.envs.navigation import navigation_2d
from metarl.experiments.benchmarks.tape import Tape

NUM_EPISODES, NUM_STEPS, NUM_ROUNDS = 20, 100, 2


@dataclass(frozen=True)
class Options:
    """Time meta-iterations of MAML."""

    threads: int = 2
    """Threads of torch."""
    iterations: int = 5
    """How many meta-iterations of each problem."""


class Stopwatch:
    """Attributes wall time to the innermost of the functions it watches.

    The outer gradient includes the inner gradients there.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack = ["other"]
        self._since = time.perf_counter()

    def lap(self) -> None:
        """Book the time since the last lap."""
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def skip(self) -> None:
        """Forget the time since the last lap."""
        self._since = time.perf_counter()

    def watch(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """Return the function, timed."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.lap()
            inner = self._stack[-1] == "outer gradient" and label == "inner gradient"
            self._stack.append("outer gradient" if inner else label)
            try:
                return function(*args, **kwargs)
            finally:
                self.lap()
                self._stack.pop()

        return timed


def measure(tasks: TaskDistribution, iterations: int, **options: Any) -> None:
    """Time meta-iterations, and print their parts and what the simulator alone would take."""
    agent = MAML(tasks, episodes_per_adaptation=NUM_EPISODES, seed=0, device="cpu", **options)
    agent.set_logger(Logger(None, []))
    agent.learn(1)
    env = agent.get_env()
    assert env is not None
    watch = Stopwatch()
    labels = {
        (env, "step"): "simulation",
        (env, "reset"): "simulation",
        (RolloutBuffer, "act"): "policy",
        (RolloutBuffer, "take_batch"): "baseline and advantages",
        (agent.inner, "step"): "inner gradient",
        (agent, "_update"): "outer gradient",
    }
    times, bare, steps = [], [], []
    with ExitStack() as stack:
        tape = Tape(env) if isinstance(env, MujocoVectorEnv) else None
        for (owner, name), label in labels.items():
            timed = watch.watch(getattr(owner, name), label)
            stack.enter_context(mock.patch.object(owner, name, timed))
        watch.lap()
        watch.seconds.clear()
        for _ in range(iterations):
            started, before = time.perf_counter(), agent.num_timesteps
            agent.learn(1, reset_num_timesteps=False)
            times.append(time.perf_counter() - started)
            steps.append(agent.num_timesteps - before)
            watch.lap()
            if tape is not None:
                bare.append(tape.repeat())
                watch.skip()
    env.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{tasks.name}: {agent.config.meta_batch_size} tasks, policy {options['policy_kwargs']}"
    )
    print(
        f"  {np.median(times):.2f} s a meta-iteration ({min(times):.2f} to {max(times):.2f}), "
        f"{np.sum(steps) / np.sum(times):,.0f} env steps/s, peak memory so far {memory:.2f} GB"
    )
    total = sum(watch.seconds.values())
    for label, part in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"  {label:24s} {part / iterations:7.3f} s {part / total:7.1%}")
    if bare:
        ratios = np.array(times) / bare
        print(
            f"  the simulator alone: {np.median(bare):.2f} s; a meta-iteration takes "
            f"{np.median(ratios):.2f} times as long ({ratios.min():.2f} to {ratios.max():.2f})"
        )


def main() -> None:
    """Measure both problems."""
    options = tyro.cli(Options)
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, load average {os.getloadavg()[0]:.1f}")
    policy = {"hidden_sizes": (64, 64), "activation": "relu"}
    preset = find_preset("maml", "navigation-2d").hyperparameters
    measure(navigation_2d(), options.iterations, **preset)
    measure(navigation_2d(), options.iterations, **{**preset, "policy_kwargs": policy})
    cheetah = half_cheetah_dir(horizon=NUM_STEPS)
    measure(cheetah, options.iterations, meta_batch_size=40, policy_kwargs=policy)


if __name__ == "__main__":
    main()
