"""How fast RL² learns on MuJoCo, beside the simulator alone and the policy without a memory.

    python -m metarl.experiments.benchmarks.rl2_mujoco [--family half-cheetah-dir]

Trains with the family's preset, rollout and update. After each iteration ``mujoco.batch`` alone
repeats the same controls from the same states, and multi-task PPO makes an iteration with its own.
"""

import time
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3.common.logger import Logger

from metarl import envs
from metarl.agents import AGENTS, OnlineLearner
from metarl.agents.presets import find_preset
from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.errors import InvalidValueError
from metarl.experiments.benchmarks.tape import Tape


def main(family: str = "half-cheetah-dir", iterations: int = 4, threads: int = 2) -> None:
    """Print env steps per second of ``learn()``, of the simulator alone, and of multi-task PPO.

    Args:
        family: A family on MuJoCo.
        iterations: How many iterations are timed.
        threads: PyTorch threads.
    """
    torch.set_num_threads(threads)
    agent, baseline = (
        AGENTS[name](envs.make(family), **find_preset(name, family).hyperparameters, seed=0)
        for name in ("rl2", "multi-task")
    )
    assert isinstance(agent, OnlineLearner)
    assert isinstance(baseline, OnlineLearner)
    for each in (agent, baseline):
        each.set_logger(Logger(None, []))
        each.learn(1)
    env = agent.get_env()
    if not isinstance(env, MujocoVectorEnv):
        raise InvalidValueError(f"--family must be one on MuJoCo, got {family!r}")
    print(f"{family}: {agent.n_envs} trials side by side, {threads} threads; env steps per second")
    shares, ratios = [], []
    tape = Tape(env)
    for _ in range(iterations):
        rate, seconds = _iteration(agent)
        bare = tape.repeat()
        other, _ = _iteration(baseline)
        shares.append(bare / seconds)
        ratios.append(other / rate)
        alone = rate * seconds / bare
        print(f"  learn() {rate:,.0f}   simulator alone {alone:,.0f}   multi-task {other:,.0f}")
    print(f"learn() runs at {np.median(shares):.0%} of the simulator's rate")
    print(f"multi-task PPO learns at {np.median(ratios):.2f} times the rate of RL²")


def _iteration(agent: OnlineLearner[Any]) -> tuple[float, float]:
    """Return the env steps per second of an iteration, and its seconds."""
    before, started = agent.num_timesteps, time.perf_counter()
    agent.learn(1, reset_num_timesteps=False)
    seconds = time.perf_counter() - started
    return (agent.num_timesteps - before) / seconds, seconds


if __name__ == "__main__":
    tyro.cli(main)
