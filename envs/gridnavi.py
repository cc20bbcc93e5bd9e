"""GridNavi: a small grid with a hidden goal, where the best exploration is known exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.grids import Cell, GridVectorEnv
from metarl.seeding import Ids
from metarl.splits import TaskSet
from metarl.vector.env import StepResult

SIZE = 5
HORIZON = 15
GOAL = Cell(SIZE, nearest=2)
"""A cell away from the start: all but (0, 0), (0, 1), (1, 0) and (1, 1)."""


class GridNaviVectorEnv(GridVectorEnv):
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

    def __init__(self, num_envs: int, render_mode: str | None = None):
        super().__init__(num_envs, SIZE, (0, 0), {"goal": GOAL}, HORIZON, render_mode)

    def step_lanes(self, ids: Ids, actions: NDArray[Any]) -> StepResult:
        positions = self._move(ids, actions)
        rewards = np.where((positions == self._goals[ids]).all(axis=1), 1.0, -0.1)
        never = np.zeros(len(rewards), dtype=np.bool_)
        return StepResult(positions.astype(np.float32), rewards, never)


def gridnavi() -> TaskDistribution:
    """The family of goals on the grid: 21 tasks for training and evaluation, as in the source."""
    every = TaskSet({"goal": np.array(GOAL.finite_values)})
    return TaskDistribution(
        name="gridnavi",
        parameters={"goal": GOAL},
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
    train, held_out = TaskSet({"goal": np.array(GOAL.finite_values)}).split(0.75, seed=0)
    return TaskDistribution(
        name="gridnavi-unseen",
        parameters={"goal": GOAL},
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
