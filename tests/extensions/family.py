"""A family of one's own: faint signs of the task, and an action at the end that counts."""

import numpy as np
from gymnasium import spaces

from extensions import memory  # noqa: F401  (registers it along with the family)
from metarl import Choice, StepResult, TaskDistribution, TaskVectorEnv

LENGTH = 8
PARAMETERS = {"side": Choice((-1, 1))}


class FaintSigns(TaskVectorEnv):
    """Each observation is the side plus noise; the last action earns 1 if it names the side.

    | | |
    |---|---|
    | Task | ``side``: -1 or 1 |
    | Observation | 0 at first, then ``side + 2 * normal`` |
    | Action | ``Discrete(2)``: -1 or 1; all but the last have no effect |
    | Reward | 1 at the end if the last action is the side, else 0 |
    | End | after 8 steps |
    """

    def __init__(self, num_envs):
        self.time = np.zeros(num_envs, dtype=np.int64)
        super().__init__(
            num_envs,
            parameters=PARAMETERS,
            observation_space=spaces.Box(-np.inf, np.inf, (1,), np.float32),
            action_space=spaces.Discrete(2),
            horizon=LENGTH,
        )

    def set_parameters(self, columns):
        self.sides = columns["side"]

    def reset_lanes(self, ids):
        self.time[ids] = 0
        return np.zeros((len(self.time[ids]), 1), dtype=np.float32)

    def step_lanes(self, ids, actions):
        self.time[ids] += 1
        ended = self.time[ids] == LENGTH
        signs = self.sides[ids, None] + 2.0 * self.random.normal(ids)
        rewards = np.where(ended & (2 * actions - 1 == self.sides[ids]), 1.0, 0.0)
        return StepResult(signs.astype(np.float32), rewards, ended)


tasks = TaskDistribution(
    name="faint-signs",
    parameters=PARAMETERS,
    env_factory=FaintSigns,
    episodes_per_trial=1,
    statistic="mean",
    shares_tasks=True,
)
