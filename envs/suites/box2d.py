"""Gymnasium's Box2D environments: a lander in gravity and wind, a walker on terrain."""

from typing import Any

import Box2D
import gymnasium

from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import from_gymnasium
from metarl.parameters import Choice, Uniform
from metarl.tasks import Task

Env = gymnasium.Env[Any, Any]


class Lander(gymnasium.Wrapper[Any, Any, Any, Any]):
    """LunarLander-v3 with the task's gravity and wind. Success means coming to rest."""

    def __init__(self, render_mode: str | None = None):
        super().__init__(
            gymnasium.make("LunarLander-v3", enable_wind=True, render_mode=render_mode)
        )

    def set_task(self, task: Task) -> None:
        """Set gravity and wind; they take effect at the next reset."""
        lander: Any = self.unwrapped
        lander.gravity, lander.wind_power = task["gravity"], task["wind_power"]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; a landing ends the episode with a reward of 100, a crash with -100."""
        observation, reward, terminated, truncated, info = super().step(action)
        landed = bool(terminated) and float(reward) > 0
        return observation, reward, terminated, truncated, {**info, "success": landed}


def lunar_lander() -> TaskDistribution:
    """Return the lander: gravity from -11.5 to -4, wind of power 0 to 20.

    Spaces, reward, start and end are those of LunarLander-v3; episodes have at most 400 steps.
    """
    return from_gymnasium(
        Lander,
        {"gravity": Uniform(-11.5, -4.0), "wind_power": Uniform(0.0, 20.0)},
        name="lunar-lander",
        horizon=400,
        visible=("gravity", "wind_power"),  # a reset takes a step, in which the lander falls
    )


class Walker(gymnasium.Wrapper[Any, Any, Any, Any]):
    """BipedalWalker-v3 on the terrain of the task, the same in every episode."""

    def __init__(self, render_mode: str | None = None):
        super().__init__(gymnasium.make("BipedalWalker-v3", render_mode=render_mode))
        self._terrain = 0

    def set_task(self, task: Task) -> None:
        """Set the terrain; it takes effect at the next reset."""
        walker: Any = self.unwrapped
        walker.hardcore, self._terrain = bool(task["hardcore"]), int(task["terrain"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start on the task's terrain, which is generated from its number."""
        walker: Any = self.unwrapped
        walker._destroy()
        walker.world = Box2D.b2World()  # the old one keeps the order of its contacts
        return super().reset(seed=self._terrain, options=options)


def bipedal_walker() -> TaskDistribution:
    """Return the walker: on grass or among stumps, pits and stairs; terrains are numbered.

    Spaces, reward and end are those of BipedalWalker-v3; episodes have at most 800 steps. Held-out
    terrains never occur in training.
    """
    return from_gymnasium(
        Walker,
        {"hardcore": Choice((False, True)), "terrain": Choice(range(1200))},
        splits={
            "train": {"terrain": Choice(range(1000))},
            "held_out": {"terrain": Choice(range(1000, 1200))},
        },
        name="bipedal-walker",
        horizon=800,
        visible=("hardcore", "terrain"),  # the lidar sees it
    )


FAMILIES = {"lunar-lander": lunar_lander, "bipedal-walker": bipedal_walker}


def build(name: str) -> TaskDistribution:
    """Return the family of that name."""
    return FAMILIES[name]()
