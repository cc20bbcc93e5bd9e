"""Families small enough that what a learner must score on them is known by hand."""

from functools import partial

import numpy as np
from gymnasium import spaces
from PIL import Image

from metarl import Choice, StepResult, TaskDistribution, TaskVectorEnv, Uniform

ONE_STEP = {"horizon": 1, "observation_space": spaces.Discrete(1)}


class OneStepVectorEnv(TaskVectorEnv):
    """One action is one episode, there is nothing to see, and the action earns ``_reward``."""

    def set_parameters(self, columns):
        self._columns = columns

    def reset_lanes(self, ids):
        return np.zeros(len(np.arange(self.num_envs)[ids]), dtype=np.int64)

    def step_lanes(self, ids, actions):
        rewards = self._reward({k: v[ids] for k, v in self._columns.items()}, actions)
        return StepResult(self.reset_lanes(ids), rewards, np.ones(len(rewards), dtype=np.bool_))


class RiskVectorEnv(OneStepVectorEnv):
    """Action 0 earns 0.55 for sure, action 1 earns 1 in every second task and else nothing."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"pays": Choice((0, 1))},
            action_space=spaces.Discrete(2),
            **ONE_STEP,
        )

    def _reward(self, task, actions):
        return np.where(actions == 1, task["pays"], 0.55)


class AimVectorEnv(OneStepVectorEnv):
    """The action aims at -1 or 1; the closer, the better. Whoever forgets earns 0 on average."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"target": Choice((-1.0, 1.0))},
            action_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
            **ONE_STEP,
        )

    def _reward(self, task, actions):
        return 1.0 - np.abs(actions[:, 0] - task["target"]).astype(np.float64)


class StrollVectorEnv(TaskVectorEnv):
    """An episode lasts ``length`` steps, or ends earlier with the chance ``stop`` in each.

    Each step earns ``worth`` and a little for the action. At most 8 steps, then it is truncated.
    """

    def __init__(self, num_envs, action_space):
        super().__init__(
            num_envs,
            parameters={
                "length": Uniform(1.0, 12.0),
                "stop": Uniform(0.0, 1.0, nominal=0.0),
                "worth": Uniform(-10.0, 10.0, nominal=1.0),
            },
            observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float32),
            action_space=action_space,
            horizon=8,
        )

    def set_parameters(self, columns):
        self._task = columns
        self._step_number = np.zeros(self.num_envs)

    def reset_lanes(self, ids):
        self._step_number[ids] = 0
        return self._see(ids)

    def _see(self, ids):
        return np.stack([self._step_number[ids], self.random.uniform(ids)[:, 0]], 1).astype("f4")

    def step_lanes(self, ids, actions):
        self._step_number[ids] += 1
        effort = 0.01 * actions.reshape(len(actions), -1).sum(axis=1)
        over = self._step_number[ids] >= self._task["length"][ids]
        over |= self.random.uniform(ids)[:, 0] < self._task["stop"][ids]
        return StepResult(self._see(ids), self._task["worth"][ids] + effort, over)


def risk(episodes_per_trial=5):
    """Safe or risky: the first risk does not pay by itself, only by what it teaches."""
    return TaskDistribution(
        name="risk",
        parameters={"pays": Choice((0, 1))},
        env_factory=RiskVectorEnv,
        shares_tasks=True,
        episodes_per_trial=episodes_per_trial,
        statistic="mean",
    )


def aim(episodes_per_trial=4):
    return TaskDistribution(
        name="aim",
        parameters={"target": Choice((-1.0, 1.0))},
        env_factory=AimVectorEnv,
        shares_tasks=True,
        episodes_per_trial=episodes_per_trial,
    )


BOX = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 4.0]), dtype=np.float64)


def strolls(action_space=BOX, *, stop=0.3, worth=(0.0, 1.0), episodes_per_trial=3, **options):
    """Episodes of unequal length, some terminated and some truncated."""
    return TaskDistribution(
        name="strolls",
        parameters={
            "length": Uniform(1.0, 12.0),
            "stop": Uniform(0.0, stop),
            "worth": Uniform(*worth),
        },
        env_factory=partial(StrollVectorEnv, action_space=action_space),
        episodes_per_trial=episodes_per_trial,
        **options,
    )


class SignpostVectorEnv(TaskVectorEnv):
    """A walk on the line from -3 to 3, one end of which pays 1; every step costs 0.02.

    Walks start at -1, 0 or 1 and end at either end. Which action leads where changes in every
    step, and the observation (place / 3, sign of action 1) tells.
    """

    def __init__(self, num_envs):
        self._places = np.zeros(num_envs, dtype=np.int64)
        self._signs = np.ones(num_envs, dtype=np.int64)
        super().__init__(
            num_envs,
            parameters={"pays": Choice((-3, 3))},
            observation_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
            action_space=spaces.Discrete(2),
            horizon=30,
        )

    def set_parameters(self, columns):
        self._pays = columns["pays"]

    def reset_lanes(self, ids):
        self._places[ids] = np.floor(3 * self.random.uniform(ids)[:, 0]) - 1
        return self._see(ids)

    def _see(self, ids):
        self._signs[ids] = np.where(self.random.uniform(ids)[:, 0] < 0.5, -1, 1)
        return np.stack([self._places[ids] / 3, self._signs[ids]], axis=1).astype(np.float32)

    def step_lanes(self, ids, actions):
        self._places[ids] += (2 * actions - 1) * self._signs[ids]
        places = self._places[ids]
        rewards = (places == self._pays[ids]) - 0.02
        return StepResult(self._see(ids), rewards, np.abs(places) == 3)


class TemptationVectorEnv(TaskVectorEnv):
    """Action 1 earns 1 and goes on, up to 20 steps; action 0 earns 2 and ends the episode."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"nothing": Choice((0, 1))},
            observation_space=spaces.Discrete(1),
            action_space=spaces.Discrete(2),
            horizon=20,
        )

    def set_parameters(self, columns):
        pass

    def reset_lanes(self, ids):
        return np.zeros(len(np.arange(self.num_envs)[ids]), dtype=np.int64)

    def step_lanes(self, ids, actions):
        rewards = np.where(actions == 1, 1.0, 2.0)
        return StepResult(self.reset_lanes(ids), rewards, actions == 0)


def temptation():
    return TaskDistribution(
        name="temptation",
        parameters={"nothing": Choice((0, 1))},
        env_factory=TemptationVectorEnv,
        shares_tasks=True,
        episodes_per_trial=3,
    )


def signposts(episodes_per_trial=3):
    return TaskDistribution(
        name="signposts",
        parameters={"pays": Choice((-3, 3))},
        env_factory=SignpostVectorEnv,
        shares_tasks=True,
        episodes_per_trial=episodes_per_trial,
    )


# Learners whose value is known.


class Toy:
    """A learner whose every adaptation is one of ``kind``, made with the toy's options."""

    episodes_per_adaptation = 1

    def __init__(self, kind, name="toy", **options):
        self.name = name
        self.kind = kind
        self.options = options
        self.made = []

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        rows = num_tasks * self.episodes_per_adaptation
        self.made.append(self.kind(rows, seed, **self.options))
        self.made[-1].deterministic = deterministic
        return self.made[-1]


class Fixed:
    """Always takes the same action."""

    def __init__(self, rows, seed, action=0):
        self.actions = np.full(rows, action)

    def act(self, observations):
        return self.actions

    def observe(self, transition):
        pass


class Counting(Fixed):
    """Writes down every call."""

    def __init__(self, rows, seed, size=1):
        self.actions = np.zeros((rows, size))
        self.calls = []

    def observe(self, transition):
        t = transition
        self.calls.append(
            (t.observations.copy(), t.rewards, t.episode_end, t.next_observations, t.active.copy())
        )


def folder_of_pictures(folder):
    """Make a folder of four classes, grey in four shades; return it."""
    for shade in (50, 100, 150, 200):
        (folder / f"grey-{shade}").mkdir()
        for number in range(5):
            Image.new("L", (20, 30), shade + number).save(
                folder / f"grey-{shade}" / f"{number}.png"
            )
    return folder
