"""RL² in training, with a record of what its environments did and what it learned from."""

import numpy as np
from toys import BOX, StrollVectorEnv, spaces, strolls

from metarl import TaskDistribution
from metarl.agents import RL2
from metarl.agents.common.ppo import trial_values

SPACES = {"box": BOX, "discrete": spaces.Discrete(3, start=2)}
SMALL = {"trials_per_iteration": 6, "trials_per_minibatch": 4, "n_epochs": 2}
NORMAL = {"normalize_observation": True, "normalize_reward": True}


class Spy(StrollVectorEnv):
    """Writes down all that happens in it."""

    def set_tasks(self, tasks):
        super().set_tasks(tasks)
        self.trials = [*getattr(self, "trials", []), []]
        self.tasks_of_trials = [*getattr(self, "tasks_of_trials", []), list(tasks)]

    def reset(self, **kwargs):
        self._present, info = super().reset(**kwargs)
        return self._present, info

    def step(self, actions, active=None):
        result = super().step(actions, active)
        observations, rewards, terminated, truncated, _ = result
        active = np.ones(self.num_envs, bool) if active is None else active.copy()
        self.trials[-1].append(
            (self._present.copy(), actions.copy(), rewards, terminated | truncated, active)
        )
        self._present = np.where(active[:, None], observations, self._present)
        return result


class Witness:
    """An agent in training, with what its environments did and what it learned from.

    For each iteration there are the ``trials`` that the environments went through, what was
    ``recorded`` of them, the ``batches`` made of that, and the critic's ``values`` in them.
    """

    def __init__(self, space="box", policy_kwargs=None, num_iterations=1, **options):
        self.env = None
        family = strolls(SPACES[space])

        def factory(num_envs):
            self.env = Spy(num_envs, SPACES[space])
            return self.env

        family = TaskDistribution(
            "strolls", family.parameters, factory, episodes_per_trial=family.episodes_per_trial
        )
        network = {"hidden_size": 8, **(policy_kwargs or {})}
        self.agent = RL2(family, seed=3, policy_kwargs=network, **{**SMALL, **options})
        self.recorded, self.batches, self.values, self.checks = [], [], [], []
        self.num_iterations = num_iterations

    def learn(self):
        def stop(locals_, globals_):
            return self.agent.iteration < self.num_iterations

        batch_of = self.agent.batch_of

        def witnessed(trials):
            batch, explained_variance = batch_of(trials)
            self.recorded.append(trials)
            self.batches.append(batch)
            values = trial_values(self.agent.network, batch.rows, batch.pixels, batch.task)
            self.values.append(values * batch.value_scale)
            for check in self.checks:
                check(batch)
            return batch, explained_variance

        self.agent.batch_of = witnessed
        self.agent.learn(10**9, callback=stop)
        self.trials = self.env.trials[: self.num_iterations]
        return self

    def steps(self, iteration, part):
        return np.stack([step[part] for step in self.trials[iteration]])
