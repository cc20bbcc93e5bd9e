"""Env steps per second of ``learn()``: our RL² against sb3-contrib's RecurrentPPO.

Both train on the same bandit trials (100 pulls of 5 arms), with an LSTM of as many hidden units
and as many epochs, in turns in one process, so a busy machine slows both.
RecurrentPPO gets its best setting: 64 environments, stepped as one numpy batch instead of one by
one, a rollout of whole trials, the rollout as one minibatch. At its defaults it is far slower.
Both are timed over whole iterations, rollout and update.

Run: ``pip install 'metarl-suite[benchmark]'`` and ``python -m metarl.experiments.benchmarks.rl2``.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import tyro
from sb3_contrib import RecurrentPPO

from metarl import envs
from metarl.agents import RL2, TaskVecEnv
from metarl.agents.presets import find_preset


def main(
    family: str = "bandit-100x5",
    rounds: int = 3,
    num_envs: Sequence[int] = (64,),
    threads: int = 2,
    separate_critic: bool = True,
) -> None:
    """Train both in turns and print env steps per second and the ratio.

    Args:
        family: The bandits.
        rounds: How many times each is timed.
        num_envs: Numbers of environments to try for RecurrentPPO.
        threads: PyTorch threads.
        separate_critic: Whether the critic has an LSTM of its own, on both sides.
    """
    torch.set_num_threads(threads)
    tasks = envs.make(family)
    hyperparameters = dict(find_preset("rl2", family).hyperparameters)
    # Whole trials from the first iteration on: growing ones would be cheaper still.
    hyperparameters["first_episodes_per_trial"] = None
    # Both take their rollout as one minibatch, so an epoch is one gradient step on either side.
    hyperparameters |= {"trials_per_iteration": 512, "trials_per_minibatch": 512, "n_epochs": 4}
    hyperparameters["policy_kwargs"] = {
        "hidden_size": 64,
        "memory": "lstm",
        "separate_critic": separate_critic,
    }
    ours = RL2(tasks, **hyperparameters, seed=0)
    hidden = hyperparameters["policy_kwargs"]["hidden_size"]
    per_iteration = ours.n_envs * tasks.episodes_per_trial
    theirs = {}
    for count in num_envs:
        rollout = count * tasks.episodes_per_trial
        agent = RecurrentPPO(
            "MlpLstmPolicy",
            TaskVecEnv(tasks, count, episodes_per_trial=tasks.episodes_per_trial),
            n_steps=tasks.episodes_per_trial,
            batch_size=rollout,
            n_epochs=ours.config.n_epochs,
            policy_kwargs={
                "lstm_hidden_size": hidden,
                "net_arch": [],
                "enable_critic_lstm": separate_critic,
                "shared_lstm": not separate_critic,
            },
            seed=0,
            device="cpu",
        )
        theirs[count] = (agent, 2 * rollout)
    print(
        f"{family}, LSTM of {hidden} units, {ours.config.n_epochs} epochs, {threads} threads; "
        "env steps per second of learn()"
    )
    ratios = []
    for index in range(rounds + 1):
        rate = _rate(ours.learn, per_iteration)
        others = {count: _rate(agent.learn, steps) for count, (agent, steps) in theirs.items()}
        if index == 0:
            continue  # warm-up
        best = max(others.values())
        ratios.append(rate / best)
        listed = ", ".join(f"{count} envs {other:,.0f}" for count, other in others.items())
        print(f"  RL2 {rate:,.0f}   RecurrentPPO {listed}   ratio {ratios[-1]:.1f}")
    print(f"median ratio {np.median(ratios):.1f}")


def _rate(learn: Callable[..., Any], steps: int) -> float:
    started = time.perf_counter()
    learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - started)


if __name__ == "__main__":
    tyro.cli(main)
