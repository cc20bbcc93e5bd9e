"""Contestants that take turns in one run, so that a busy machine slows all of them alike."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from metarl.evaluation.tables import plain_table


def compare(contestants: Mapping[str, Callable[[], float]], rounds: int) -> str:
    """Return the median rates of contestants as a table, and how the first one compares.

    Args:
        contestants: By name a function that returns env steps per second of a timed section.
        rounds: How many sections of each count, after one that warms up.
    """
    sections = [[run() for run in contestants.values()] for _ in range(rounds + 1)]
    rates = np.array(sections[1:])
    medians, ratios = np.median(rates, 0), np.median(rates[:, :1] / rates, 0)
    rows = [
        (name, f"{rate:,.0f}", f"{ratio:.2f}")
        for name, rate, ratio in zip(contestants, medians, ratios)
    ]
    return plain_table(("", "env steps/s", "the first relative to it"), rows, left=1)


def learning_rate(agent: Any) -> float:
    """Return env steps per second of one more iteration of ``learn()``, rollout and update."""
    before, started = agent.num_timesteps, time.perf_counter()
    agent.learn(1, reset_num_timesteps=False)
    return float((agent.num_timesteps - before) / (time.perf_counter() - started))


def stepping_rate(env: Any, actions: Any) -> float:
    """Return env steps per second of a vector environment that takes actions, one after another."""
    started = time.perf_counter()
    for action in actions:
        env.step(action)
    return float(len(actions) * env.num_envs / (time.perf_counter() - started))


def in_a_process(
    module: str, *words: str, launcher: Sequence[str] = (sys.executable,), **options: Any
) -> Any:
    """Run a module in a process of its own; return the JSON in the last line that it prints.

    Args:
        module: Its name.
        words: Its arguments.
        launcher: What runs it, as Python does, with ``-m``.
        options: Of :func:`subprocess.run`.
    """
    command = [*launcher, "-m", module, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, **options)
    return json.loads(done.stdout.splitlines()[-1])
