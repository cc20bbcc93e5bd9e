"""Dark rooms: grids whose goal does not show, as in the literature on learning in context."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.grids import Cell, GridVectorEnv
from metarl.seeding import Ids
from metarl.splits import TaskSet
from metarl.vector.env import StepResult

Array = NDArray[Any]

SIZE = 9
CENTER = (SIZE // 2, SIZE // 2)
CELL = Cell(SIZE)


class DarkRoomVectorEnv(GridVectorEnv):
    """A batch of rooms of 9x9 cells, in each of which one cell gives a reward and does not show.

    | | |
    |---|---|
    | Task | ``goal``: a cell (x, y), shape (2,); any of the 81 |
    | Observation | ``Box(2)``: the position (x, y), each 0 to 8 |
    | Action | ``Discrete(5)``: up (y + 1), right (x + 1), down, left, stay; walls hold |
    | Reward | 1 for each step that ends at the goal, else 0 |
    | Start | the center (4, 4) |
    | End | truncated after 20 steps; the goal does not end the episode |
    | Distribution | ``goal`` uniform over the cells of the split |

    Over all 81 goals an agent that knows the goal gets 1340/81 = 16.54. The best that an agent can
    get in its first episode is 210/81 = 2.59: each step searches one more cell, and a goal that is
    found in step t earns 21 - t.

    Source: Laskin et al. 2022 ("In-context Reinforcement Learning with Algorithm Distillation"),
    "Dark Room".

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        render_mode: ``"rgb_array"`` draws goal, visited cells and position; None draws nothing.
    """

    def __init__(self, num_envs: int, render_mode: str | None = None):
        super().__init__(num_envs, SIZE, CENTER, {"goal": CELL}, 20, render_mode)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        positions = self._move(ids, actions)
        rewards = (positions == self._goals[ids]).all(axis=1).astype(np.float64)
        never = np.zeros(len(rewards), dtype=np.bool_)
        return StepResult(positions.astype(np.float32), rewards, never)


class DarkKeyToDoorVectorEnv(GridVectorEnv):
    """A batch of rooms of 9x9 cells with a key and a door, neither of which shows.

    | | |
    |---|---|
    | Task | ``key`` and ``door``: cells (x, y), shape (2,) each; any of the 81, also the same |
    | Observation | ``Box(2)``: the position (x, y), each 0 to 8; not whether the key was found |
    | Action | ``Discrete(5)``: up (y + 1), right (x + 1), down, left, stay; walls hold |
    | Reward | 1 for the first step that ends at the key, 1 for a later one that ends at the door |
    | Start | any cell, uniformly, without the key |
    | End | terminated at the door with the key, which is a success; truncated after 50 steps |
    | Distribution | ``key`` and ``door`` uniform over the pairs of the split |

    An agent that knows both gets 2.

    Source: Laskin et al. 2022 ("In-context Reinforcement Learning with Algorithm Distillation"),
    "Dark Key-to-Door". The door ends the episode here, as nothing can be earned after it.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        render_mode: ``"rgb_array"`` draws the next of key and door, visited cells and position;
            None draws nothing.
    """

    def __init__(self, num_envs: int, render_mode: str | None = None):
        self._has_key = np.zeros(num_envs, dtype=np.bool_)
        parameters = {"key": CELL, "door": CELL}
        super().__init__(num_envs, SIZE, None, parameters, 50, render_mode)

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._keys, self._doors = columns["key"], columns["door"]
        self._goals = np.where(self._has_key[:, None], self._doors, self._keys)  # the next

    def reset_lanes(self, ids: Ids) -> Array:
        self._has_key[ids] = False
        self._goals[ids] = self._keys[ids]
        return super().reset_lanes(ids)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        positions = self._move(ids, actions)
        arrived = (positions == self._goals[ids]).all(axis=1)
        opened = arrived & self._has_key[ids]
        self._has_key[ids] |= arrived
        self._goals[ids] = np.where(self._has_key[ids, None], self._doors[ids], self._keys[ids])
        rewards = arrived.astype(np.float64)
        return StepResult(positions.astype(np.float32), rewards, opened, success=opened)


def dark_room() -> TaskDistribution:
    """The family of goals in the room: 65 cells to train on, 16 others to evaluate on."""
    parameters = {"goal": CELL}
    train, held_out = TaskSet.product(parameters).split(0.8, seed=0)
    return TaskDistribution(
        name="dark-room",
        parameters=parameters,
        env_factory=DarkRoomVectorEnv,
        splits={"train": train, "held_out": held_out},
        episodes_per_trial=4,
        statistic="mean",
        references=("random", "known-goal"),
        description="a dark 9x9 room: find the goal, then go straight there and stay",
        varying_factor="goal",
        built_in=True,
    )


def dark_key_to_door() -> TaskDistribution:
    """The family of keys and doors: 5,249 pairs of cells to train on, 1,312 others to evaluate on.

    Training has every cell as a key and as a door; what is new is the pair.
    """
    parameters = {"key": CELL, "door": CELL}
    train, held_out = TaskSet.product(parameters).split(0.8, seed=0)
    return TaskDistribution(
        name="dark-key-to-door",
        parameters=parameters,
        env_factory=DarkKeyToDoorVectorEnv,
        splits={"train": train, "held_out": held_out},
        episodes_per_trial=4,
        statistic="mean",
        references=("random",),
        description="a dark 9x9 room: find the key, then the door",
        varying_factor="goal",
        built_in=True,
    )


FAMILIES = {"dark-room": dark_room, "dark-key-to-door": dark_key_to_door}
