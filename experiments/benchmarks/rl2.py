"""Env steps per second of ``learn()``: our RL² against sb3-contrib's RecurrentPPO.

Both train on the same bandit trials (100 pulls of 5 arms), with an LSTM of as many hidden units
and as many epochs, in turns in one process, so a busy machine slows both.
RecurrentPPO gets its best setting: 64 environments, stepped as one numpy batch instead of one by
one, a rollout of whole trials, the rollout as one minibatch. At its defaults it is far slower.
Both are timed over whole iterations, rollout and update.

Run: ``pip install 'metarl-suite[benchmark]'`` and ``python -m metarl.experiments.benchmarks.rl2``.
"""

import torch
import tyro
from sb3_contrib import RecurrentPPO

from metarl import envs
from metarl.agents import RL2, TaskVecEnv
from metarl.agents.presets import find_preset
from metarl.experiments.benchmarks.turns import compare, learning_rate

NUM_UNITS, NUM_EPOCHS = 64, 4


def main(
    family: str = "bandit-100x5",
    rounds: int = 3,
    num_envs: int = 64,
    threads: int = 2,
    separate_critic: bool = True,
) -> None:
    """Train both in turns and print env steps per second and the ratio.

    Args:
        family: The bandits.
        rounds: How many times each is timed.
        num_envs: The environments of RecurrentPPO.
        threads: PyTorch threads.
        separate_critic: Whether the critic has an LSTM of its own, on both sides.
    """
    torch.set_num_threads(threads)
    tasks = envs.make(family)
    num_pulls = tasks.episodes_per_trial
    hyperparameters = {
        **find_preset("rl2", family).hyperparameters,
        # Whole trials from the first iteration on: growing ones would be cheaper still.
        "first_episodes_per_trial": None,
        # Both take their rollout as one minibatch, so an epoch is one gradient step on either side.
        "trials_per_iteration": 512,
        "trials_per_minibatch": 512,
        "n_epochs": NUM_EPOCHS,
        "policy_kwargs": {
            "hidden_size": NUM_UNITS,
            "memory": "lstm",
            "separate_critic": separate_critic,
        },
    }
    ours = RL2(tasks, **hyperparameters, seed=0)
    theirs = RecurrentPPO(
        "MlpLstmPolicy",
        TaskVecEnv(tasks, num_envs, episodes_per_trial=num_pulls),
        n_steps=num_pulls,
        batch_size=num_envs * num_pulls,
        n_epochs=NUM_EPOCHS,
        policy_kwargs={
            "lstm_hidden_size": NUM_UNITS,
            "net_arch": [],
            "enable_critic_lstm": separate_critic,
            "shared_lstm": not separate_critic,
        },
        seed=0,
        device="cpu",
    )

    def two_rollouts() -> float:  # theirs are shorter
        return 2 / sum(1 / learning_rate(theirs) for _ in range(2))

    print(f"{family}, LSTM of {NUM_UNITS} units, {NUM_EPOCHS} epochs, {threads} threads")
    print(compare({"RL2": lambda: learning_rate(ours), "RecurrentPPO": two_rollouts}, rounds))


if __name__ == "__main__":
    tyro.cli(main)
