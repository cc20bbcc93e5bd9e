"""Environments of one's own: a pole in each of the three ways, and a stub that counts its steps."""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit

from metarl import Choice, Uniform
from metarl.envs import from_gymnasium

GRAVITY = {"gravity": Uniform(5.0, 15.0), "force_mag": Choice((-10.0, 10.0))}


def make_env(length, gravity, force_mag):
    env = gymnasium.make("CartPole-v1")
    pole = env.unwrapped
    pole.length, pole.gravity, pole.force_mag = length, gravity, force_mag
    pole.polemass_length = pole.masspole * length
    return env


class TaskCartPole(CartPoleEnv):
    def __init__(self, **options):
        super().__init__(**options)

    def set_task(self, task):
        self.gravity, self.force_mag = task["gravity"], task["force_mag"]


def by_set_task():
    return TimeLimit(TaskCartPole(), 500)


def by_factory(gravity, force_mag):
    return make_env(0.5, gravity, force_mag)


class Stub(gymnasium.Env):
    """Counts its steps; ends, or is cut, after as many as the task says."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(0.0, 99.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, end=99, cut=99, render_mode=None):
        self.end, self.cut, self.render_mode = end, cut, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        np.clip(action, -0.5, 0.5, out=action)
        self.steps += 1
        observation = np.array([self.steps], np.float32)
        return observation, 1, self.steps >= self.end, self.steps >= self.cut, {}

    def render(self):
        return np.full((2, 2, 3), self.steps, np.uint8)


ENDS = {"end": Choice((2, 99)), "cut": Choice((99, 3))}


def stubs(**options):
    return from_gymnasium(Stub, ENDS, **{"name": "stub", "horizon": 5, **options})
