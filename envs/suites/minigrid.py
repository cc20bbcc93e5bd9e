"""MiniGrid: a hidden rule, and maps that stay for the trial."""

from functools import partial
from typing import Any

import gymnasium
import minigrid  # noqa: F401 (registers the environments)
import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import Door
from minigrid.envs import GoToDoorEnv
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.custom.gym import from_gymnasium
from metarl.errors import InvalidValueError, did_you_mean
from metarl.parameters import Choice
from metarl.tasks import Task

_KINDS = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))
COLORS = ("blue", "green", "red", "yellow")
_MAPS = 10_000


class Seen(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The view as ones and zeros, (tiles x kinds) and the direction; not the mission."""

    def __init__(self, env: gymnasium.Env[Any, Any]):
        super().__init__(env)
        space: Any = env.observation_space
        tiles = np.prod(space["image"].shape[:2], dtype=int)
        self.observation_space = spaces.Box(0.0, 1.0, (int(tiles) * sum(_KINDS) + 4,), np.float32)

    def observation(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        """Encode MiniGrid's observation: an image of kinds' numbers, and a direction."""
        parts = [np.eye(n)[observation["image"][..., i]] for i, n in enumerate(_KINDS)]
        direction = np.eye(4)[observation["direction"]]
        seen = np.concatenate([np.concatenate(parts, -1).ravel(), direction])
        return seen.astype(np.float32)


class Doors(GoToDoorEnv):  # type: ignore[misc]
    """Four doors; the right one has the task's colour, at any position."""

    color = COLORS[0]

    def set_task(self, task: Task) -> None:
        """Set the colour of the right door."""
        self.color = task["color"]

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)
        # The same four colours in every task, or the view would reveal the task.
        squares = ((x, y) for x in range(width) for y in range(height))
        doors = [square for square in squares if isinstance(self.grid.get(*square), Door)]
        places = dict(zip(self._rand_subset(COLORS, len(COLORS)), doors))
        for color, square in places.items():
            self.grid.set(*square, Door(color))
        self.target_color, self.target_pos = self.color, places[self.color]


def doors() -> TaskDistribution:
    """Return the family: the mission, "go to the red door", is the task, and it is hidden.

    A room of 5 to 8 squares with four doors of different colours; `done` before the right one is
    rewarded with 1 - 0.9 t / 64, any other `done` ends the episode without reward. An agent must
    try out which colour is right, and remember it. Four tasks, for training and evaluation.
    """
    return from_gymnasium(
        _doors,
        {"color": Choice(COLORS)},
        shares_tasks=True,
        name="minigrid-doors",
        horizon=64,
        episodes_per_trial=6,
    )


def _doors(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    return Seen(Doors(size=8, max_steps=64, render_mode=render_mode))


class Map(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of MiniGrid, generated from the task's number in every episode."""

    number = 0

    def set_task(self, task: Task) -> None:
        """Set the map."""
        self.number = int(task["map"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start on the task's map."""
        return super().reset(seed=self.number, options=options)


def maps(env_id: str) -> TaskDistribution:
    """Return the maps of an environment, for example of ``MiniGrid-FourRooms-v0``.

    Walls, objects and start are the task, so they are the same in all episodes of a trial.

    Args:
        env_id: A gymnasium id that MiniGrid registers.

    Raises:
        ValueError: If there is no such id.
    """
    known = [each for each in gymnasium.registry if each.startswith(("MiniGrid", "BabyAI"))]
    if env_id not in known:
        raise InvalidValueError(f"MiniGrid has no {env_id!r}; {did_you_mean(env_id, known)}")
    return from_gymnasium(
        partial(_map, env_id),
        {"map": Choice(range(_MAPS))},
        splits={
            "train": {"map": Choice(range(_MAPS // 10, _MAPS))},
            "held_out": {"map": Choice(range(_MAPS // 10))},
        },
        name=f"minigrid-map:{env_id}",
        horizon=None if gymnasium.spec(env_id).max_episode_steps else _max_steps(env_id),
        visible=("map",),
    )


def _map(env_id: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    return Seen(Map(gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True)))


def _max_steps(env_id: str) -> int:
    env: Any = gymnasium.make(env_id, disable_env_checker=True)
    steps = int(env.unwrapped.max_steps)
    env.close()
    return steps


FAMILIES = {"minigrid-doors": doors}


def build(name: str) -> TaskDistribution:
    """Return the family of that name, for example of ``minigrid-map:MiniGrid-FourRooms-v0``."""
    return FAMILIES[name]() if name in FAMILIES else maps(name.removeprefix("minigrid-map:"))
