"""Symbolic Alchemy: potions change stones by rules that are found out by trying."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.alchemy.chemistry import (
    COORDINATES,
    NUM_CORNERS,
    NUM_POTIONS,
    REWARDS,
    ROTATIONS,
    next_corners,
    parameters,
    splits,
)
from metarl.envs.alchemy.pictures import draw_table
from metarl.seeding import Ids
from metarl.tasks import Tasks
from metarl.tools import ToolUse
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]

STONES, POTIONS, HORIZON = 3, 12, 20
ACTIONS = 1 + STONES * (1 + POTIONS)
"""Nothing; then for each stone the cauldron, and each potion."""
_STONE, _ITEM = np.divmod(np.arange(-1, ACTIONS - 1), 1 + POTIONS)
_ALWAYS, _NEVER = STONES + POTIONS, STONES + POTIONS + 1
# What an action needs to be unused: a stone, and a potion but for the cauldron.
_NEEDS = np.array([_STONE, np.where(_ITEM > 0, STONES + _ITEM - 1, _ALWAYS)])
_NEEDS[:, 0] = _NEVER
_USED_STONE = np.array([2, 2, 2, 2, 1], dtype=np.float32)
_STONE_SIZE = len(_USED_STONE)
_FIRST_POTION = STONES * _STONE_SIZE  # where potions begin in an observation

TOOLS = ToolUse(
    things=tuple(tuple(range(_STONE_SIZE * s, _STONE_SIZE * s + 4)) for s in range(STONES)),
    looks=(*[(-1.0, 0.0, 1.0)] * 3, (-1.0, -1 / 3, 1 / 3, 1.0)),
    tools=tuple(range(_FIRST_POTION, _FIRST_POTION + 2 * POTIONS, 2)),
    kinds=tuple(color / 3 - 1 for color in range(NUM_POTIONS)),
    actions=((-1, -1), *((s, p - 1) for s in range(STONES) for p in range(1 + POTIONS))),
)
"""Actions use potions, of six colors, on stones; none is the cauldron."""


class AlchemyVectorEnv(TaskVectorEnv):
    """A batch of alchemists, each with a chemistry of its own that does not show.

    A stone is a corner of a cube, and worth what its corner is worth. A potion moves a stone along
    one dimension of the cube, if there is an edge; otherwise the stone stays. The potion is used up
    either way. What colors mean, how stones look and which edges there are is the chemistry.

    | | |
    |---|---|
    | Task | ``edges``, shape (12,): which edges the cube has; one of 109 connected graphs |
    | | ``potions``, shape (6,): for each color the dimension and direction in which such potions \
move stones, ``2 * dimension + (1 if upward)`` |
    | | ``stones``, shape (3,): a sign for each coordinate that is seen of a stone |
    | | ``rotation``, of ``alchemy-rotated`` alone: ``none``, or the axis about which the cube \
that is seen is turned by 45 degrees |
    | Observation | ``Box(39)``: for each of 3 stones the coordinates that are seen, each -1, 0 or \
1, the sum of its coordinates / 3, whether it was used; for each of 12 potions color / 3 - 1, \
whether it was used. A used stone shows 2, 2, 2, 2, 1; a used potion 1, 1 |
    | Action | ``Discrete(40)``: 0 nothing; ``1 + 13 s`` stone s into the cauldron; \
``2 + 13 s + p`` stone s into potion p; nothing if one of them was used |
    | Reward | for a stone in the cauldron the sum of its coordinates, but 15 for all +1 |
    | Start | corners of the stones and colors of the potions drawn uniformly |
    | End | truncated after 20 steps |
    | Distribution | see :func:`metarl.envs.alchemy.chemistry.splits` |

    Source: Wang et al. 2021 ("Alchemy: A benchmark and analysis toolkit for meta-reinforcement
    learning agents"), the symbolic version. What is called an episode there is a trial of 10
    episodes here. Its agents and references earn per trial, on other chemistries of the same
    distribution: V-MPO with a Transformer-XL 155, random potions about 145, the ideal observer 284.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        rotated: Whether chemistries have a rotation.
        render_mode: ``"rgb_array"`` draws stones, potions and the cube; None draws nothing.

    Attributes:
        next_corners: The corner after each potion, of shape (num_envs, 8, 6).
        meanings: The potion that each color is, of shape (num_envs, 6).
        looks: What is seen of a stone at each corner, of shape (num_envs, 8, 4).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array"],
        "render_fps": 3,
    }

    changes_within_episodes = False

    def __init__(self, num_envs: int, rotated: bool = False, render_mode: str | None = None):
        self._lanes = np.arange(num_envs)
        self._corners = np.zeros((num_envs, STONES), dtype=np.int64)
        self._colors = np.zeros((num_envs, POTIONS), dtype=np.int64)
        self._unused = np.ones((num_envs, _NEVER + 1), dtype=np.bool_)
        self._unused[:, _NEVER] = False
        self._seen = np.zeros((num_envs, _FIRST_POTION + 2 * POTIONS), dtype=np.float32)
        self._gains = np.zeros(num_envs)
        super().__init__(
            num_envs,
            parameters=parameters(rotated),
            observation_space=spaces.Box(-1.0, 2.0, (self._seen.shape[1],), np.float32),
            action_space=spaces.Discrete(ACTIONS),
            horizon=HORIZON,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._chemistries = Tasks("chemistries", columns)
        self.meanings = columns["potions"]
        self.next_corners = next_corners(columns["edges"].astype(np.bool_))
        # How a stone looks at each corner, of shape (num_envs, 8, 4).
        seen = COORDINATES * columns["stones"][:, None]
        if "rotation" in columns:
            turns = np.array([ROTATIONS[name] for name in columns["rotation"].tolist()])
            seen = np.einsum("nij,ncj->nci", turns, seen)
        sums = np.broadcast_to(COORDINATES.sum(1) / 3, (self.num_envs, NUM_CORNERS))
        self.looks = np.concatenate([seen, sums[..., None]], axis=2).astype(np.float32)

    def reset_lanes(self, ids: Ids) -> Array:
        draws = self.random.uniform(ids, STONES + POTIONS)
        corners = NUM_CORNERS * draws[:, :STONES]
        return self.begin(
            ids, corners.astype(np.int64), (NUM_POTIONS * draws[:, STONES:]).astype(np.int64)
        )

    def begin(self, ids: Ids, corners: Array, colors: Array) -> Array:
        """Begin episodes with given stones and potions; return the observations.

        Args:
            ids: The sub-environments.
            corners: Of the stones, of shape (n, 3).
            colors: Of the potions, of shape (n, 12).
        """
        self._corners[ids], self._colors[ids] = corners, colors
        self._unused[ids, :_ALWAYS] = True
        self._gains[ids] = 0.0
        seen = np.zeros((len(corners), self._seen.shape[1]), dtype=np.float32)
        looks = self.looks[self._lanes[ids][:, None], corners]  # (n, 3, 4)
        seen[:, :_FIRST_POTION].reshape(-1, STONES, _STONE_SIZE)[..., :-1] = looks
        seen[:, _FIRST_POTION::2] = colors / 3.0 - 1.0
        self._seen[ids] = seen
        return seen

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        lanes = self._lanes[ids]
        rewards = np.zeros(len(lanes))
        first, second = _NEEDS[:, actions]
        (rows,) = np.nonzero(self._unused[lanes, first] & self._unused[lanes, second])
        if len(rows):
            rewards[rows] = self._use(lanes[rows], actions[rows])
        self._gains[ids] = rewards
        return StepResult(self._seen[ids].copy(), rewards, np.zeros(len(lanes), dtype=np.bool_))

    def _use(self, lanes: Array, actions: Array) -> Array:
        """Put stones into potions or the cauldron, all unused; return the rewards."""
        stones, potions = _STONE[actions], _ITEM[actions] - 1  # -1 is the cauldron
        corners = self._corners[lanes, stones]
        sold = potions < 0
        self._unused[lanes[sold], stones[sold]] = False
        _write(self._seen, lanes[sold], _STONE_SIZE * stones[sold], _USED_STONE)
        moved = ~sold
        lane, stone, potion = lanes[moved], stones[moved], potions[moved]
        meaning = self.meanings[lane, self._colors[lane, potion]]
        after = self.next_corners[lane, corners[moved], meaning]
        self._corners[lane, stone] = after
        self._unused[lane, STONES + potion] = False
        _write(self._seen, lane, _STONE_SIZE * stone, self.looks[lane, after])
        _write(self._seen, lane, _FIRST_POTION + 2 * potion, np.ones(2, dtype=np.float32))
        return np.where(sold, REWARDS[corners], 0.0)

    def render(self) -> tuple[Any, ...] | None:
        """Return each sub-environment's picture, of shape (height, width, 3)."""
        if self.render_mode is None:
            return None
        state = zip(self._corners, self._colors, self._unused, self._seen, self._gains.tolist())
        return tuple(
            draw_table(chemistry, corners, colors, unused[:_ALWAYS], seen, gain)
            for chemistry, (corners, colors, unused, seen, gain) in zip(self._chemistries, state)
        )


def _write(seen: Array, lanes: Array, start: Array, values: Array) -> None:
    """Write values, of shape (size,) or (n, size), into rows from the columns ``start`` on."""
    seen[lanes[:, None], start[:, None] + np.arange(values.shape[-1])] = values


def alchemy(rotated: bool) -> TaskDistribution:
    """The family of chemistries: potions and stones that look different in each.

    Args:
        rotated: Whether the cube that is seen may also be turned.
    """
    return TaskDistribution(
        name="alchemy-rotated" if rotated else "alchemy",
        parameters=parameters(rotated),
        env_factory=functools.partial(AlchemyVectorEnv, rotated=rotated),
        splits=splits(rotated),
        episodes_per_trial=10,
        statistic="mean",
        visible=("stones", "rotation") if rotated else ("stones",),  # how stones look
        references=("random", "random-potions", "exact-belief", "known-chemistry"),
        description="stones and potions: find out the chemistry, then make the best stones",
        varying_factor="rules",
        tools=TOOLS,
        built_in=True,
    )


FAMILIES = {
    "alchemy": functools.partial(alchemy, rotated=False),
    "alchemy-rotated": functools.partial(alchemy, rotated=True),
}
