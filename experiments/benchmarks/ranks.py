"""Env steps per second of ``learn()``: several processes that train together against one.

Each process has one thread of PyTorch and its share of the cores for simulations; the one process
has one thread of PyTorch and, for simulations, all cores or, with ``--one-core``, a single core.
Trials, tasks and minibatches are the same in sum. They take turns, so that a busy machine slows
both; of each the first iteration, which warms up, is not timed.

Run: ``python -m metarl.experiments.benchmarks.ranks``.
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
import tyro

from metarl import envs
from metarl.agents import AGENTS, OnlineLearner
from metarl.agents.presets import find_preset
from metarl.agents.training.ranks import init_distributed
from metarl.experiments.benchmarks.turns import compare, in_a_process
from metarl.experiments.cli.overrides import parse_overrides

MODULE = "metarl.experiments.benchmarks.ranks"
Overrides = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set")]
CASES = ("rl2:bandit-100x5", "rl2:half-cheetah-dir", "maml:half-cheetah-dir-rllab")


def main(
    cases: Annotated[tuple[str, ...], tyro.conf.Positional] = CASES,
    processes: int = 2,
    rounds: int = 3,
    seconds: float = 10.0,
    one_core: bool = False,
    overrides: Overrides = (),
) -> None:
    """Print rates and their ratio.

    Args:
        cases: What to train, as AGENT:FAMILY.
        processes: How many processes train together.
        rounds: How many times each is timed.
        seconds: How long it is timed.
        one_core: Keep the single process to one core, its simulations too.
        overrides: A hyperparameter other than the preset's, as for ``metarl train``.
    """
    together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launchers = {
        f"{processes} processes": [sys.executable, *together],
        "one process": [*(["taskset", "-c", "0"] if one_core else []), sys.executable],
    }
    # The same setting for both; torchrun would set it and print that.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for case in cases:
        words = ["measure", case, str(seconds), *overrides]
        contestants = {
            name: partial(in_a_process, MODULE, *words, launcher=launcher, env=environment)
            for name, launcher in launchers.items()
        }
        print(f"{case}\n{compare(contestants, rounds)}\n", flush=True)


def measure(case: str, seconds: float, overrides: Sequence[str]) -> None:
    """Train for some seconds, alone or among the processes started with this one; print the rate.

    Args:
        case: What to train.
        seconds: For how long at least.
        overrides: Hyperparameters other than the preset's.
    """
    torch.set_num_threads(1)
    name, family = case.split(":")
    hyperparameters = dict(find_preset(name, family).hyperparameters)
    if name == "rl2":  # whole trials from the first iteration on, so that every iteration is alike
        hyperparameters["first_episodes_per_trial"] = None
    hyperparameters |= parse_overrides(AGENTS[name], overrides)
    with init_distributed() as ranks:
        agent = AGENTS[name](envs.make(family), **hyperparameters, seed=0)
        assert isinstance(agent, OnlineLearner)
        agent.learn(1)
        before, started = agent.num_timesteps, time.perf_counter()
        going = True
        while going:
            agent.learn(1, reset_num_timesteps=False)
            going = time.perf_counter() - started < seconds
            going = ranks.broadcast(b"1" if going else b"") == b"1"
        rate = (agent.num_timesteps - before) / (time.perf_counter() - started)
        if ranks.is_main:
            print(rate)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
    else:
        tyro.cli(main)
