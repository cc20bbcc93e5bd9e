"""Which memories carry what they saw once over a trial of a thousand steps.

The first observation shows a cue, -1 or 1. The others show noise instead, and the last action of
the trial pays 1 if it is the one that the cue asked for: 0.5 is guessing, 1 is recalling.

Run: ``python -m metarl.experiments.benchmarks.recall``
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tyro
from gymnasium import spaces
from numpy.typing import NDArray

from metarl import Choice, StepResult, TaskDistribution, TaskVectorEnv, evaluate
from metarl.agents import RL2
from metarl.agents.common.memory.registry import MEMORIES
from metarl.seeding import Ids

Array = NDArray[Any]


class RecallVectorEnv(TaskVectorEnv):
    """A batch of trials of one episode each.

    Args:
        num_envs: The number of lanes.
        num_steps: The steps of an episode.
    """

    def __init__(self, num_envs: int, num_steps: int):
        super().__init__(
            num_envs,
            parameters={"cue": Choice((-1, 1))},
            observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float32),
            action_space=spaces.Discrete(2),
            horizon=num_steps,
        )
        self._steps = np.zeros(num_envs, dtype=np.int64)

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._cues = columns["cue"]

    def reset_lanes(self, ids: Ids) -> Array:
        self._steps[ids] = 0
        cues = self._cues[ids]
        return np.stack([cues, np.zeros_like(cues)], -1).astype(np.float32)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        self._steps[ids] += 1
        noise = self.random.normal(ids)[:, 0]
        observations = np.stack([np.zeros_like(noise), noise], -1).astype(np.float32)
        right = 2 * actions - 1 == self._cues[ids]
        last = self._steps[ids] == self.horizon
        return StepResult(observations, np.where(last, right, 0.0), np.zeros(len(right), np.bool_))


def main(
    num_steps: int = 1000,
    memories: Sequence[str] = tuple(MEMORIES),
    total_timesteps: int = 4_000_000,
    seeds: Sequence[int] = (0, 1, 2),
) -> None:
    """Train RL² with each memory; print how often the last action is right.

    Args:
        num_steps: The steps of a trial.
        memories: The memories.
        total_timesteps: The env steps of each training.
        seeds: The seeds of each.
    """
    tasks = TaskDistribution(
        f"recall-{num_steps}",
        {"cue": Choice((-1, 1))},
        partial(RecallVectorEnv, num_steps=num_steps),
        shares_tasks=True,
        episodes_per_trial=1,
        statistic="mean",
    )
    for memory in memories:
        for seed in seeds:
            agent = RL2(
                tasks,
                seed=seed,
                trials_per_iteration=64,
                trials_per_minibatch=16,
                n_epochs=3,
                learning_rate=1e-3,
                gamma=1.0,
                gae_lambda=0.0,  # the last action alone is paid, and what it earns is known there
                ent_coef=0.0,
                policy_kwargs={"memory": memory, "hidden_size": 64},
            )
            start = time.perf_counter()
            agent.learn(total_timesteps)
            minutes = (time.perf_counter() - start) / 60
            right = evaluate(agent, tasks, num_tasks=200, num_episodes=1).returns.mean()
            print(f"{memory:12} seed {seed}  right {right:.3f}  {minutes:.1f} min", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
