"""Gymnasium's classic control with physics that differ: families as a user would bring them.

All are made by :func:`metarl.envs.from_gymnasium` of single environments. Agents train with the
preset of new families, for example by ``metarl train rl2 pendulum``.
"""

from dataclasses import replace
from typing import Any

import gymnasium

from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import from_gymnasium
from metarl.parameters import Choice, LogUniform, Uniform


def _cart_pole(
    length: float, gravity: float, force_mag: float, render_mode: str | None = None
) -> Any:
    env = gymnasium.make("CartPole-v1", render_mode=render_mode)
    pole: Any = env.unwrapped
    pole.length, pole.gravity, pole.force_mag = length, gravity, force_mag
    pole.polemass_length = pole.masspole * length  # CartPole derives it only once
    return env


def _pendulum(m: float, l: float, g: float, render_mode: str | None = None) -> Any:  # noqa: E741
    env = gymnasium.make("Pendulum-v1", render_mode=render_mode)
    pendulum: Any = env.unwrapped
    pendulum.m, pendulum.l, pendulum.g = m, l, g
    return env


class _Turned(gymnasium.ActionWrapper[Any, Any, Any]):
    """Turns the other way where its task says so."""

    def __init__(self, env: gymnasium.Env[Any, Any], direction: float):
        super().__init__(env)
        self._direction = direction

    def action(self, action: Any) -> Any:
        return action if self._direction > 0 else 2 - action


def _acrobot(length: float, mass: float, direction: float, render_mode: str | None = None) -> Any:
    env = gymnasium.make("Acrobot-v1", render_mode=render_mode)
    acrobot: Any = env.unwrapped
    acrobot.LINK_LENGTH_1, acrobot.LINK_MASS_2 = length, mass
    return _Turned(env, direction)


def cart_pole() -> TaskDistribution:
    """Poles of 0.5 to 3 m to be kept up for 200 steps, by a cart that may run the other way."""
    tasks = from_gymnasium(
        _cart_pole,
        {
            "length": Uniform(0.25, 1.5),
            "gravity": Uniform(5.0, 15.0),
            "force_mag": Choice((-10.0, 10.0)),
        },
        name="cart-pole-200",
        horizon=200,
    )
    return _listed(tasks, "cart-pole: poles of 0.5 to 3 m, and a cart that may run the other way")


def pendulum() -> TaskDistribution:
    """Pendulums to be swung up, some of them too heavy for it."""
    tasks = from_gymnasium(
        _pendulum,
        {"m": LogUniform(0.5, 2.0), "l": Uniform(0.5, 1.5), "g": Uniform(5.0, 15.0)},
        name="pendulum",
    )
    return _listed(tasks, "pendulum: swing it up, whatever its mass, length and gravity")


def acrobot() -> TaskDistribution:
    """Two links to be swung up above a line, by a motor that may turn the other way."""
    tasks = from_gymnasium(
        _acrobot,
        {"length": Uniform(0.7, 1.3), "mass": Uniform(0.7, 1.3), "direction": Choice((-1.0, 1.0))},
        name="acrobot",
        horizon=200,
    )
    return _listed(tasks, "acrobot: swing two links up by a motor that may turn the other way")


def _listed(tasks: TaskDistribution, description: str) -> TaskDistribution:
    return replace(tasks, description=description, varying_factor="dynamics", built_in=True)


FAMILIES = {"cart-pole-200": cart_pole, "pendulum": pendulum, "acrobot": acrobot}
