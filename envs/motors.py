"""Gymnasium's pendulums and arm with motors of unknown wiring: families as a user would bring them.

Each motor may turn the other way, and be weaker or stronger than it should. Once the motors are
known it is clear what to do; a policy without a memory cannot know them. As in
:mod:`metarl.envs.classic_control`, all are made by :func:`metarl.envs.from_gymnasium` of single
environments. The preset of new families was not chosen on the three that run on MuJoCo.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import from_gymnasium
from metarl.parameters import Choice, Uniform


class _Wired(gymnasium.ActionWrapper[Any, Any, Any]):
    """Multiplies the command of each motor by a factor of its own."""

    def __init__(self, env: gymnasium.Env[Any, Any], factors: list[float]):
        super().__init__(env)
        self._factors = np.array(factors, dtype=np.float32)

    def action(self, action: Any) -> Any:
        space: Any = self.action_space
        return np.clip(action * self._factors, space.low, space.high)


def _pendulum(env_id: str, direction: float, gain: float, render_mode: str | None = None) -> Any:
    return _Wired(gymnasium.make(env_id, render_mode=render_mode), [direction * gain])


def _reacher(shoulder: float, elbow: float, gain: float, render_mode: str | None = None) -> Any:
    env = gymnasium.make("Reacher-v5", render_mode=render_mode)
    return _Wired(env, [shoulder * gain, elbow * gain])


_DIRECTION = Choice((1.0, -1.0))
_GAIN = Uniform(0.6, 1.4)
_ONE_MOTOR = {"direction": _DIRECTION, "gain": _GAIN}
_TWO_MOTORS = {"shoulder": _DIRECTION, "elbow": _DIRECTION, "gain": _GAIN}


def pendulum() -> TaskDistribution:
    """Pendulums to be swung up by a motor that may turn the other way."""
    make = partial(_pendulum, "Pendulum-v1")
    tasks = from_gymnasium(make, _ONE_MOTOR, name="pendulum-motor", horizon=200)
    return _listed(tasks, "swing a pendulum up by a motor that may turn the other way")


def inverted_pendulum() -> TaskDistribution:
    """Poles to be kept up by a cart that may run the other way."""
    make = partial(_pendulum, "InvertedPendulum-v5")
    tasks = from_gymnasium(make, _ONE_MOTOR, name="inverted-pendulum-motor", horizon=200)
    return _listed(tasks, "keep a pole up by a cart that may run the other way")


def double_pendulum() -> TaskDistribution:
    """Two poles, one on the other, to be kept up by a cart that may run the other way."""
    make = partial(_pendulum, "InvertedDoublePendulum-v5")
    tasks = from_gymnasium(make, _ONE_MOTOR, name="double-pendulum-motor", horizon=200)
    return _listed(tasks, "keep two poles up by a cart that may run the other way")


def reacher() -> TaskDistribution:
    """An arm that reaches for points in view, with joints of which each may turn the other way."""
    tasks = from_gymnasium(_reacher, _TWO_MOTORS, name="reacher-motors", horizon=50)
    return _listed(tasks, "reach for points by an arm whose joints may turn the other way")


def _listed(tasks: TaskDistribution, description: str) -> TaskDistribution:
    return replace(tasks, description=description, varying_factor="dynamics", built_in=True)


FAMILIES = {
    "pendulum-motor": pendulum,
    "inverted-pendulum-motor": inverted_pendulum,
    "double-pendulum-motor": double_pendulum,
    "reacher-motors": reacher,
}
