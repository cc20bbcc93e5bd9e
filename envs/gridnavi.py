"""GridNavi: a small grid with a hidden goal, where the best exploration is known exactly."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.parameters import Parameter
from metarl.seeding import Ids
from metarl.splits import TaskSet
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

SIZE = 5
HORIZON = 15
MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)])
"""What each action adds to the position: up, right, down, left, stay."""

_CELL, _MARGIN = 44, 10  # pixels
_GOAL, _AGENT, _VISITED, _EMPTY = (0, 158, 115), (0, 114, 178), (204, 204, 204), (255, 255, 255)


@dataclass(frozen=True)
class Cell(Parameter):
    """A cell of the grid, away from the start: all but (0, 0), (0, 1), (1, 0) and (1, 1)."""

    shape: tuple[int, ...] = (2,)

    @property
    def default(self) -> Any:
        return [SIZE - 1, SIZE - 1]

    @property
    def finite_values(self) -> Sequence[Any]:
        return [list(cell) for cell in itertools.product(range(SIZE), repeat=2) if max(cell) > 1]

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        cells = np.array(self.finite_values)
        return cells[rng.integers(len(cells), size=num_tasks)]

    def contains(self, values: Array) -> NDArray[np.bool_]:
        inside = (values == np.round(values)) & (values >= 0) & (values < SIZE)
        allowed: NDArray[np.bool_] = inside.all(axis=1) & (values.max(axis=1) > 1)
        return allowed

    def encode(self, values: Array) -> NDArray[np.float32]:
        return (2.0 * values / (SIZE - 1) - 1.0).astype(np.float32)


class GridNaviVectorEnv(TaskVectorEnv):
    """A batch of 5x5 grids with one hidden goal cell each.

    | | |
    |---|---|
    | Task | ``goal``: a cell (x, y), shape (2,); any of the 21 that are not the start or one of \
its 3 neighbours |
    | Observation | ``Box(2)``: the position (x, y), each 0 to 4 |
    | Action | ``Discrete(5)``: up (y + 1), right (x + 1), down, left, stay; walls hold |
    | Reward | 1 if the goal is where the step ends, else -0.1 |
    | Start | the corner (0, 0) |
    | End | truncated after 15 steps; the goal does not end the episode |
    | Distribution | ``goal`` uniform over the 21 cells |

    The best possible expected return is exactly 4.00 in the first episode, in which 14 of the 21
    cells can be searched, and 11.07 in each later one, as for an agent that knows the goal
    (:class:`metarl.agents.classical.navigation.GridSearch`).

    Source: Zintgraf et al. 2020 (VariBAD), section 5.1, with the settings of the authors' code
    (github.com, lmzintgraf/varibad, ``environments/navigation/gridworld.py``, commit 14df2d0),
    which numbers the actions from "stay".

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        render_mode: ``"rgb_array"`` draws goal, visited cells and position; None draws nothing.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(self, num_envs: int, render_mode: str | None = None):
        self._positions = np.zeros((num_envs, 2), dtype=np.int64)
        self._visited = np.zeros((num_envs, SIZE, SIZE), dtype=np.bool_)
        super().__init__(
            num_envs,
            parameters={"goal": Cell()},
            observation_space=spaces.Box(0.0, SIZE - 1.0, (2,), np.float32),
            action_space=spaces.Discrete(len(MOVES)),
            horizon=HORIZON,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._goals = columns["goal"]

    def reset_lanes(self, ids: Ids) -> Array:
        self._positions[ids] = 0
        if self.render_mode is not None:
            self._visited[ids] = False
            self._visited[ids, 0, 0] = True
        return self._positions[ids].astype(np.float32)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        positions = np.clip(self._positions[ids] + MOVES[actions], 0, SIZE - 1)
        self._positions[ids] = positions
        if self.render_mode is not None:
            self._visited[np.arange(self.num_envs)[ids], positions[:, 0], positions[:, 1]] = True
        rewards = np.where((positions == self._goals[ids]).all(axis=1), 1.0, -0.1)
        never = np.zeros(len(rewards), dtype=np.bool_)
        return StepResult(positions.astype(np.float32), rewards, never)

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture of each sub-environment, of shape (240, 240, 3); None without mode."""
        if self.render_mode is None:
            return None
        return tuple(map(_picture, self._goals.astype(int), self._visited, self._positions))


def _picture(goal: Array, visited: Array, position: Array) -> NDArray[np.uint8]:
    """Paint visited cells (grey), the goal (green) and the position (blue); y points up."""
    colors = np.where(visited[..., None], _VISITED, _EMPTY).astype(np.uint8)
    colors[tuple(goal)] = _GOAL
    pixels = colors.swapaxes(0, 1)[::-1].repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    left, top = _CELL * position[0], _CELL * (SIZE - 1 - position[1])
    gap = _CELL // 4
    pixels[top + gap : top + _CELL - gap, left + gap : left + _CELL - gap] = _AGENT
    for line in (*range(0, SIZE * _CELL, _CELL), -1):
        pixels[line] = pixels[:, line] = 0
    return np.pad(pixels, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)


def gridnavi() -> TaskDistribution:
    """The family of goals on the grid: 21 tasks for training and evaluation, as in the source."""
    every = TaskSet({"goal": np.array(Cell().finite_values)})
    return TaskDistribution(
        name="gridnavi",
        parameters={"goal": Cell()},
        env_factory=GridNaviVectorEnv,
        splits={"train": every, "held_out": every},
        shares_tasks=True,
        episodes_per_trial=4,
        statistic="mean",
        references=("random", "bayes-optimal", "known-goal"),
        description="a 5x5 grid: search it for the hidden goal, then go straight there",
        varying_factor="goal",
        built_in=True,
    )


def gridnavi_unseen() -> TaskDistribution:
    """The goals of :func:`gridnavi`, divided: 16 cells to train on, 5 that training never uses.

    An agent that has learned where goals are does not search the other cells: its return on the
    unseen goals measures how far its search generalises.
    """
    train, held_out = TaskSet({"goal": np.array(Cell().finite_values)}).split(0.75, seed=0)
    return TaskDistribution(
        name="gridnavi-unseen",
        parameters={"goal": Cell()},
        env_factory=GridNaviVectorEnv,
        splits={"train": train, "held_out": held_out},
        episodes_per_trial=4,
        statistic="mean",
        references=("random", "known-goal"),
        description="gridnavi, with 5 cells in which training never has the goal",
        varying_factor="goal",
        built_in=True,
    )


FAMILIES = {"gridnavi": gridnavi, "gridnavi-unseen": gridnavi_unseen}
