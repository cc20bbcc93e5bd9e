"""Small board games whose rules are the task: a player infers them, then plays well."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.games.pictures import draw_board, write_board
from metarl.envs.games.rules import BORDER_COST, TRAP_COST, rules, splits
from metarl.errors import InvalidValueError, check_at_least
from metarl.seeding import Ids
from metarl.tasks import Tasks
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

# What a move adds to column and row: up, right, down, left.
_AHEAD = np.array([[0, 1, 0, -1], [-1, 0, 1, 0]])
_FORWARD = _AHEAD.sum(axis=0)  # 1 or -1, along the line of the move


class GameVectorEnv(TaskVectorEnv):
    """A batch of board games, each with rules of its own that the player does not know.

    A player and some objects of each kind stand on a square board. When the player reaches an
    object, it vanishes, and another of its kind appears on a free square.

    | | |
    |---|---|
    | Task | ``objects``: for each kind one of ``nothing``, ``treasure``, ``trap``, ``key`` and \
``door``; exactly one is a treasure, at most one a key, without which the treasure is worth \
nothing. The key is kept to the end of the episode. A door stays where it is and leads to a \
free square at random |
    | | ``controls``: shape (4,), the direction of each action, a permutation of 0 to 3: up, \
right, down, left |
    | | ``motion``: ``step`` by one square; ``turn``, by one square in directions that count from \
the last move's; ``slide``, to the next square level with an object, or the last before the border |
    | | ``border``: a ``wall``; a ``wrap`` to the other side, from where a slide goes on; a \
``trap``, a wall that costs |
    | | ``restless``: whether after each step an object drawn at random moves to a neighbouring \
square drawn at random, if that is free |
    | Observation | ``Box(5 + 2 k)`` for k kinds, in [-1, 1]: the player's column and row; its \
last move, along columns and rows; for each kind, how far its nearest object is away to the right \
and down: 0 in line, 1 across the board, as a square root, in which squares near the player differ \
most; 1 if the player has the key |
    | Action | ``Discrete(4)`` |
    | Reward | 1 for a treasure, -0.5 for a trap, -0.25 for moving against a border that is a trap |
    | Start | player and objects on different squares, and a last move, all drawn uniformly |
    | End | truncated after ``horizon`` steps |
    | Distribution | all games of a split are equally likely. ``train`` and ``held_out`` share no \
game. They have neither turns nor doors; controls are normal, or left and right, or up and down, \
are swapped. Held-out games are those of training with other symbols. ``unseen_controls`` are \
games with turns or with other controls, ``unseen_objects`` games with doors. Of families with \
``compositions``, ``train`` has no game with a trap and a key, nor one of slides across an open \
border: ``new_combinations`` and ``new_rules`` are these |

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        size: The number of rows, and of columns.
        num_kinds: The number of kinds of objects, k.
        num_each: The number of objects of each kind.
        horizon: After how many steps an episode is truncated.
        render_mode: ``"rgb_array"`` draws the board, ``"ansi"`` writes it, both with the rules
            below; None does neither.

    Raises:
        ValueError: If ``size`` is below 3, ``num_kinds`` not between 2 and 4, or half of the
            board is full of objects.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 3,
    }

    def __init__(
        self,
        num_envs: int,
        size: int = 7,
        num_kinds: int = 3,
        num_each: int = 2,
        horizon: int = 12,
        render_mode: str | None = None,
    ):
        check_at_least(3, size=size)
        check_at_least(1, num_each=num_each)
        parameters = rules(num_kinds)
        self.size = size
        self.num_kinds = num_kinds
        self.num_each = num_each
        self.num_objects = num_kinds * num_each
        if self.num_objects >= size * size // 2:
            raise InvalidValueError(
                f"{self.num_objects} objects must fill less than half of a board of {size} by "
                f"{size}; make num_each smaller than {num_each}"
            )
        self._rows, self._columns = np.divmod(np.arange(size * size), size)
        self._level = np.array([self._columns, self._rows])
        self._next = np.array([_neighbours(size, wraps) for wraps in (False, True)])
        self._rank, self._right, self._down = _views(size)
        # Where the player and the objects are: the player first, then the objects, kinds in turn.
        self._places = np.zeros((num_envs, 1 + self.num_objects), dtype=np.int64)
        self._heading = np.zeros(num_envs, dtype=np.int64)
        self._has_key = np.zeros(num_envs, dtype=np.bool_)
        self._gains = np.zeros(num_envs)
        self._lanes = np.arange(num_envs)
        super().__init__(
            num_envs,
            parameters=parameters,
            observation_space=spaces.Box(-1.0, 1.0, (5 + 2 * num_kinds,), np.float32),
            action_space=spaces.Discrete(4),
            horizon=horizon,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._games = Tasks("games", columns)  # an oracle's view sets these, not `tasks`
        objects = np.tile(columns["objects"], self.num_each)
        self._values = (objects == "treasure") - TRAP_COST * (objects == "trap")
        self._is_treasure = objects == "treasure"
        self._is_key = objects == "key"
        self._is_door = objects == "door"
        self._locked = self._is_key.any(axis=1)
        self._controls = columns["controls"]
        self._turns = (columns["motion"] == "turn").astype(np.int64)
        self._slides = columns["motion"] == "slide"
        self._wraps = (columns["border"] == "wrap").astype(np.int64)
        self._border_value = np.where(columns["border"] == "trap", -BORDER_COST, 0.0)
        self._restless = columns["restless"]

    def reset_lanes(self, ids: Ids) -> Array:
        draws = self.random.uniform(ids, 2 + self.num_objects)
        lanes = self._lanes[ids]
        for piece in range(1 + self.num_objects):
            free = self._free_square(self._places[lanes, :piece], draws[:, piece])
            self._places[lanes, piece] = free
        self._heading[ids] = 4.0 * draws[:, -1]
        self._has_key[ids] = False
        self._gains[ids] = 0.0
        return self._observe(ids)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        # Every step takes two draws, whatever happens, so streams do not depend on the actions.
        draws = self.random.uniform(ids, 2)
        lanes, places = self._lanes[ids], self._places[ids]
        heading = (self._controls[lanes, actions] + self._turns[ids] * self._heading[ids]) % 4
        before = places[:, 0]
        player = self._next[self._wraps[ids], heading, before]
        rewards = np.where(player == before, self._border_value[ids], 0.0)
        sliding = np.flatnonzero(self._slides[ids] & (player != before))
        if len(sliding):
            player[sliding] = self._slide(places[sliding], heading[sliding], player[sliding])
        places[:, 0] = player
        self._heading[ids] = heading

        touches = places[:, 1:] == player[:, None]
        rows, objects = np.nonzero(touches)
        if len(rows):
            hit = lanes[rows]
            useless = self._is_treasure[hit, objects] & self._locked[hit] & ~self._has_key[hit]
            rewards[rows] += np.where(useless, 0.0, self._values[hit, objects])
            self._has_key[hit] |= self._is_key[hit, objects]
            # Move the object to a free square, or the player if it went through a door.
            piece = np.where(self._is_door[hit, objects], 0, objects + 1)
            others = np.arange(self.num_objects)
            others = others + (others >= piece[:, None])
            occupied = np.take_along_axis(places[rows], others, axis=1)
            places[rows, piece] = self._free_square(occupied, draws[rows, 0])
        restless = np.flatnonzero(self._restless[ids])
        if len(restless):
            self._wander(places, restless, draws[restless, 1])
        if not isinstance(ids, slice):
            self._places[ids] = places
        self._gains[ids] = rewards
        return StepResult(self._observe(ids), rewards, np.zeros(len(rewards), dtype=np.bool_))

    def _slide(self, places: Array, heading: Array, player: Array) -> Array:
        """Move players on until they are level with an object, or the border is next."""
        upright, forward = 1 - heading % 2, _FORWARD[heading]
        line = upright * self.size**2  # whose half of the table tells the levels
        level = self._level.take(line + player)
        gaps = forward * (self._level.take(line + places.T[1:]) - level)
        gap = np.where(gaps < 0, self.size, gaps).min(axis=0)  # those behind do not count
        room = np.where(forward > 0, self.size - 1 - level, level)
        way = np.minimum(gap, room) * forward
        slid: Array = player + way * np.where(upright, self.size, 1)
        return slid

    def _wander(self, places: Array, rows: Array, draws: Array) -> None:
        """Move an object drawn at random by a square, if that is on the board and free."""
        choice = (4 * self.num_objects * draws).astype(np.int64)
        piece = 1 + choice // 4
        aim = self._next[0, choice % 4, places[rows, piece]]
        free = ~(places[rows] == aim[:, None]).any(axis=1)
        places[rows[free], piece[free]] = aim[free]

    def _free_square(self, occupied: Array, draws: Array) -> Array:
        """Return a square drawn uniformly from all but the occupied ones, which all differ.

        Args:
            occupied: Squares, of shape (n, num_occupied).
            draws: From U[0, 1), of shape (n,).
        """
        square: Array = (draws * (self.size**2 - occupied.shape[1])).astype(np.int64)
        for taken in np.sort(occupied, axis=1).T:
            square += square >= taken
        return square

    def _observe(self, ids: Ids) -> Array:
        places = self._places[ids]
        player = places[:, 0]
        ranks = self._rank.take(player[:, None] * self.size**2 + places[:, 1:])
        nearest = ranks.reshape(len(ranks), self.num_each, self.num_kinds).min(axis=1)
        observations = np.empty((len(places), 5 + 2 * self.num_kinds), dtype=np.float32)
        observations[:, 0] = 2.0 / (self.size - 1) * self._columns[player] - 1.0
        observations[:, 1] = 2.0 / (self.size - 1) * self._rows[player] - 1.0
        observations[:, 2:4] = _AHEAD.T[self._heading[ids]]
        observations[:, 4:-1:2] = self._right.take(nearest)
        observations[:, 5:-1:2] = self._down.take(nearest)
        observations[:, -1] = self._has_key[ids]
        return observations

    def render(self) -> tuple[Any, ...] | None:
        """Return each sub-environment's picture, of shape (height, width, 3), or its text."""
        if self.render_mode is None:
            return None
        paint = draw_board if self.render_mode == "rgb_array" else write_board
        state = (self._places, self._heading, self._has_key, self._gains)
        boards = zip(self._games, *(column.tolist() for column in state))
        return tuple(paint(game, self.size, *board) for game, *board in boards)


def _neighbours(size: int, wraps: bool) -> Array:
    """Return where a move leads, of shape (4, size^2): back to the square itself at a border."""
    rows, columns = np.divmod(np.arange(size * size), size)
    after = []
    for right, down in _AHEAD.T:
        row, column = rows + down, columns + right
        if wraps:
            row, column = row % size, column % size
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        after.append(np.where(inside, row * size + column, rows * size + columns))
    return np.array(after)


def _views(size: int) -> tuple[Array, Array, Array]:
    """Return how one square is seen from another, as tables of shape (size^4,).

    Returns:
        The rank of each pair (player, object) by distance, then by the object's square; and for
        each rank how far the object is away to the right, and down.
    """
    rows, columns = np.divmod(np.arange(size * size), size)
    right = np.subtract.outer(columns, columns).T.ravel()
    down = np.subtract.outer(rows, rows).T.ravel()
    order = np.argsort(np.abs(right) + np.abs(down), kind="stable")

    def seen(away: Array) -> Array:
        return (np.sign(away) * np.sqrt(np.abs(away) / (size - 1)))[order].astype(np.float32)

    return np.argsort(order), seen(right), seen(down)


def games(
    size: int, num_kinds: int, num_each: int, horizon: int, compositions: bool = False
) -> TaskDistribution:
    """The family of games on a board.

    Args:
        size: The number of rows, and of columns.
        num_kinds: The number of kinds of objects.
        num_each: The number of objects of each kind.
        horizon: The steps of an episode.
        compositions: Whether training lacks a combination of roles, and one of rules.

    Raises:
        ValueError: If a value is out of its range.
    """
    check_at_least(1, horizon=horizon)
    parameters = rules(num_kinds)
    factory = functools.partial(
        GameVectorEnv, size=size, num_kinds=num_kinds, num_each=num_each, horizon=horizon
    )
    return TaskDistribution(
        name=f"games-{size}x{size}{'-compositions' if compositions else ''}",
        parameters=parameters,
        env_factory=factory,
        splits=splits(parameters, compositions),
        episodes_per_trial=4,
        description=f"a board of {size} by {size}: find out the rules, then play",
        varying_factor="rules",
        built_in=True,
    )


_SMALL = functools.partial(games, size=5, num_kinds=3, num_each=1, horizon=10)
_LARGE = functools.partial(games, size=7, num_kinds=3, num_each=2, horizon=12)
FAMILIES = {
    "games-5x5": _SMALL,
    "games-7x7": _LARGE,
    "games-5x5-compositions": functools.partial(_SMALL, compositions=True),
    "games-7x7-compositions": functools.partial(_LARGE, compositions=True),
}
