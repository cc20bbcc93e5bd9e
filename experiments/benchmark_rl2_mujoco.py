"""How fast RL² learns on MuJoCo, beside the simulator alone.

    python -m metarl.experiments.benchmark_rl2_mujoco [--family half-cheetah-dir]

Trains with the family's preset, rollout and update. After each iteration ``mujoco.batch`` alone
repeats the same controls from the same states.
"""

import time

import numpy as np
import torch
import tyro
from stable_baselines3.common.logger import Logger

from metarl import envs
from metarl.agents import RL2
from metarl.agents.presets import find_preset
from metarl.envs.mujoco_engine import MujocoVectorEnv
from metarl.errors import InvalidValueError
from metarl.experiments.tape import Tape


def main(family: str = "half-cheetah-dir", iterations: int = 4, threads: int = 2) -> None:
    """Print env steps per second of ``learn()`` and of the simulator alone.

    Args:
        family: A family on MuJoCo.
        iterations: How many iterations are timed.
        threads: PyTorch threads.
    """
    torch.set_num_threads(threads)
    agent = RL2(envs.make(family), **find_preset("rl2", family).hyperparameters, seed=0)
    agent.set_logger(Logger(None, []))
    agent.learn(1)
    env = agent.get_env()
    if not isinstance(env, MujocoVectorEnv):
        raise InvalidValueError(f"--family must be one on MuJoCo, got {family!r}")
    print(f"{family}: {agent.n_envs} trials side by side, {threads} threads; env steps per second")
    shares = []
    tape = Tape(env)
    for _ in range(iterations):
        before, started = agent.num_timesteps, time.perf_counter()
        agent.learn(1, reset_num_timesteps=False)
        seconds, bare = time.perf_counter() - started, tape.repeat()
        steps = agent.num_timesteps - before
        shares.append(bare / seconds)
        print(f"  learn() {steps / seconds:,.0f}   simulator alone {steps / bare:,.0f}")
    print(f"learn() runs at {np.median(shares):.0%} of the simulator's rate")


if __name__ == "__main__":
    tyro.cli(main)
