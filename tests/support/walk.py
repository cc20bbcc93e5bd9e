"""A tiny family on which MAML is examined, and what one iteration of it collects."""

from functools import partial

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from metarl import StepResult, TaskDistribution, TaskVectorEnv, Uniform
from metarl.agents import MAML

TINY = {"hidden_sizes": (4,), "activation": "tanh"}


class WalkEnv(TaskVectorEnv):
    """A step along a line earns action times direction. Episodes last as long as the task says."""

    def __init__(self, num_envs, discrete=False):
        super().__init__(
            num_envs,
            parameters={"direction": Uniform(-1.0, 1.0), "length": Uniform(1.0, 9.0)},
            observation_space=spaces.Box(-100.0, 100.0, (2,), np.float32),
            action_space=spaces.Discrete(3, start=-1) if discrete else spaces.Box(-1.0, 1.0, (1,)),
            horizon=9,
        )

    def set_parameters(self, columns):
        self._columns = columns
        self._time = np.zeros(self.num_envs)

    def reset_lanes(self, ids):
        self._time[ids] = 0.0
        return self._observe(ids)

    def _observe(self, ids):
        time = self._time[ids]
        return np.stack([time / 10.0, np.ones_like(time)], axis=1).astype(np.float32)

    def step_lanes(self, ids, actions):
        self._time[ids] += 1.0
        rewards = self._columns["direction"][ids] * actions.reshape(len(actions))
        ended = self._time[ids] >= self._columns["length"][ids]
        return StepResult(self._observe(ids), rewards, ended)


def walk(discrete=False, length=None):
    return TaskDistribution(
        name="walk",
        parameters={
            "direction": Uniform(-1.0, 1.0),
            "length": Uniform(1.0, 9.0) if length is None else Uniform(length, length),
        },
        env_factory=partial(WalkEnv, discrete=discrete),
    )


def make(tasks=None, **options):
    defaults = {
        "meta_batch_size": 3,
        "episodes_per_adaptation": 4,
        "policy_kwargs": TINY,
        "seed": 0,
        "device": "cpu",
    }
    agent = MAML(tasks or walk(), **{**defaults, **options})
    agent.set_logger(Logger(None, []))
    return agent


def collected(agent):
    """The rounds of one iteration; the agent is left as it was when they were collected."""
    experiences = []
    agent.update = experiences.append
    agent.learn(1)
    del agent.update
    (recorder,) = experiences
    recorder.take_batch()
    return recorder.batches
