"""Grids on which an agent sees its position alone: what families of hidden cells share."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.parameters import Parameter
from metarl.seeding import Ids
from metarl.vector.env import TaskVectorEnv

Array = NDArray[Any]

MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)])
"""What each action adds to the position: up, right, down, left, stay."""

_CELL, _MARGIN = 44, 10  # pixels
_GOAL, _AGENT, _VISITED, _EMPTY = (0, 158, 115), (0, 114, 178), (204, 204, 204), (255, 255, 255)


@dataclass(frozen=True)
class Cell(Parameter):
    """A cell (x, y) of a grid, all of them equally likely.

    Attributes:
        size: The cells along each side.
        nearest: The least that the larger of x and y is; 0 allows every cell.
    """

    size: int
    nearest: int = 0
    shape: tuple[int, ...] = (2,)

    @property
    def default(self) -> Any:
        return [self.size - 1, self.size - 1]

    @property
    def finite_values(self) -> Sequence[Any]:
        cells = itertools.product(range(self.size), repeat=2)
        return [list(cell) for cell in cells if max(cell) >= self.nearest]

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        cells = np.array(self.finite_values)
        return cells[rng.integers(len(cells), size=num_tasks)]

    def contains(self, values: Array) -> NDArray[np.bool_]:
        inside = (values == np.round(values)) & (values >= 0) & (values < self.size)
        allowed: NDArray[np.bool_] = inside.all(axis=1) & (values.max(axis=1) >= self.nearest)
        return allowed

    def encode(self, values: Array) -> NDArray[np.float32]:
        return (2.0 * values / (self.size - 1) - 1.0).astype(np.float32)


class GridVectorEnv(TaskVectorEnv):
    """A batch of grids in which only the position is seen; what a step earns is the subclass's.

    Args:
        num_envs: The number of sub-environments.
        size: The cells along each side.
        start: Where every episode starts; None draws a cell for each.
        parameters: The task's parameters.
        horizon: The steps of an episode.
        render_mode: ``"rgb_array"`` draws goal, visited cells and position; None draws nothing.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        num_envs: int,
        size: int,
        start: tuple[int, int] | None,
        parameters: Mapping[str, Parameter],
        horizon: int,
        render_mode: str | None,
    ):
        self._size, self._start = size, start
        self._positions = np.zeros((num_envs, 2), dtype=np.int64)
        self._visited = np.zeros((num_envs, size, size), dtype=np.bool_)
        super().__init__(
            num_envs,
            parameters=parameters,
            observation_space=spaces.Box(0.0, size - 1.0, (2,), np.float32),
            action_space=spaces.Discrete(len(MOVES)),
            horizon=horizon,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._goals = columns["goal"]

    def reset_lanes(self, ids: Ids) -> Array:
        if self.render_mode is not None:
            self._visited[ids] = False
        drawn = self._start is None
        cells = (
            np.floor(self._size * self.random.uniform(ids, 2)) if drawn else np.array(self._start)
        )
        return self._place(ids, cells).astype(np.float32)

    def _move(self, ids: Ids, actions: Array) -> Array:
        """Take a step; walls hold. Returns the positions after it, of shape (len(ids), 2)."""
        return self._place(ids, np.clip(self._positions[ids] + MOVES[actions], 0, self._size - 1))

    def _place(self, ids: Ids, positions: Array) -> Array:
        self._positions[ids] = positions
        placed: Array = self._positions[ids]
        if self.render_mode is not None:
            self._visited[np.arange(self.num_envs)[ids], placed[:, 0], placed[:, 1]] = True
        return placed

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture of each sub-environment; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(map(picture, self._goals.astype(int), self._visited, self._positions))


def picture(goal: Array, visited: Array, position: Array) -> NDArray[np.uint8]:
    """Paint visited cells (grey), the goal (green) and the position (blue); y points up.

    Args:
        goal: A cell, of shape (2,).
        visited: Where the agent was, of shape (size, size).
        position: The agent's cell, of shape (2,).

    Returns:
        Pixels, of shape (44 * size + 20, 44 * size + 20, 3).
    """
    size = len(visited)
    colors = np.where(visited[..., None], _VISITED, _EMPTY).astype(np.uint8)
    colors[tuple(goal)] = _GOAL
    pixels = grid_picture(colors)
    gap = _CELL // 4
    left = _MARGIN + _CELL * position[0] + gap
    top = _MARGIN + _CELL * (size - 1 - position[1]) + gap
    pixels[top : top + _CELL - 2 * gap, left : left + _CELL - 2 * gap] = _AGENT
    return pixels


def grid_picture(colors: Array) -> NDArray[np.uint8]:
    """Paint the cells of a grid, with lines between them; y points up.

    Args:
        colors: The cells' colors, of shape (size, size, 3), by x and y.

    Returns:
        Pixels, of shape (44 * size + 20, 44 * size + 20, 3).
    """
    pixels = colors.swapaxes(0, 1)[::-1].repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    for line in (*range(0, len(pixels), _CELL), -1):
        pixels[line] = pixels[:, line] = 0
    return np.pad(pixels, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
