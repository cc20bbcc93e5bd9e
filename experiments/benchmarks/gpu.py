"""Env steps per second of ``learn()`` on a GPU and on the CPU beside it, and what makes them wait.

    python -m metarl.experiments.benchmarks.gpu [--cases glyphs cheetah-64] [--iterations 3]

Each case trains a family with its preset, some with wider networks, in turns on both devices. A
synchronisation is a moment at which the program waits for the GPU: one for each action an
environment needs is the least there can be.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import tyro

from metarl import envs
from metarl.agents import MAML, RL2
from metarl.agents.presets import find_preset
from metarl.agents.training.online import OnlineLearner
from metarl.experiments.benchmarks.turns import compare, learning_rate

WIDE_MAML = {"hidden_sizes": (1024, 1024), "activation": "relu", "output_gain": 0.1}
CASES: dict[str, tuple[type[OnlineLearner[Any]], str, dict[str, Any]]] = {
    "bandit": (RL2, "bandit-100x5", {"first_episodes_per_trial": None}),
    "cheetah-64": (RL2, "half-cheetah-dir", {}),
    "cheetah-256": (RL2, "half-cheetah-dir", {"policy_kwargs": {"hidden_size": 256}}),
    "cheetah-1024": (RL2, "half-cheetah-dir", {"policy_kwargs": {"hidden_size": 1024}}),
    "tabular": (RL2, "tabular-mdp-25", {}),
    "glyphs": (RL2, "glyphs-5way", {}),
    "maml": (MAML, "half-cheetah-dir-rllab", {}),
    "maml-1024": (MAML, "half-cheetah-dir-rllab", {"policy_kwargs": WIDE_MAML}),
}


def build(case: str, device: str) -> OnlineLearner[Any]:
    """Return the agent of a case on a device."""
    agent_class, family, changes = CASES[case]
    options = dict(find_preset(agent_class.name.lower(), family).hyperparameters)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(options.get(name), dict)
        options[name] = {**options[name], **value} if both else value
    return agent_class(envs.make(family), seed=0, device=device, **options)


def waits(agent: OnlineLearner[Any]) -> float:
    """Return how often one more iteration waits for the GPU, per vector step."""
    steps = 0

    def count(*_: object) -> bool:
        nonlocal steps
        steps += 1
        return True

    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            agent.learn(1, count, reset_num_timesteps=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA" in str(each.message) for each in caught) / steps


def main(cases: Sequence[str] = tuple(CASES), iterations: int = 3) -> None:
    """Time training on both devices in turns.

    Args:
        cases: Which of the cases.
        iterations: How many iterations of each, after a warm-up; the median counts.
    """
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a GPU that PyTorch can use (CUDA)")
    print(f"{torch.cuda.get_device_name()}; {torch.get_num_threads()} threads on the CPU")
    for case in cases:
        agents = {device: build(case, device) for device in ("cuda", "cpu")}
        contestants = {name: partial(learning_rate, agent) for name, agent in agents.items()}
        print(f"\n{case}: {CASES[case][1]}\n{compare(contestants, iterations)}")
        print(f"waits for the GPU per vector step: {waits(agents['cuda']):.2f}", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
