"""Players of hidden goals in the plane and on grids: the best search, and straight to the goal."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.agents.classical.grid_search import STEPS, search_walks
from metarl.agents.classical.random_actions import NoAdaptation
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.seeding import Seed
from metarl.vector.env import TaskVectorEnv
from metarl.vector.oracle import OracleVectorEnv

Array = NDArray[Any]


class KnownGoal:
    """The oracle: it is given the goal and takes the shortest way, then stays there.

    In the plane each coordinate comes as close to the goal's at every step as its bounds allow, so
    this is optimal for rewards that decrease with the distance.

    Args:
        tasks: The oracle's view of a family, ``tasks.oracle()``: goals of two coordinates, whose
            encoding is an affine map; observations that are positions; actions that are
            displacements, or the five of a grid.

    Raises:
        ValueError: If the tasks are not the oracle's view, or not such a family.
    """

    name = "known goal"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        if not isinstance(env, OracleVectorEnv):
            raise InvalidValueError(
                f"the oracle reads the task: give it tasks.oracle(), got {tasks.name!r}"
            )
        _check_has_goals(self, tasks, env.env, grid=False)
        self.action_space: Any = env.single_action_space
        distribution = tasks.parameters["goal"]
        values = distribution.sample(np.random.default_rng(0), 100)
        self._decode, *_ = np.linalg.lstsq(_affine(distribution.encode(values)), values, rcond=None)

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; it uses neither ``seed`` nor anything it sees."""
        return NoAdaptation(self._act)

    def _act(self, observations: Array) -> Array:
        goals = _affine(observations[:, 2:]) @ self._decode
        offsets = goals - observations[:, :2]
        if isinstance(self.action_space, spaces.Discrete):
            return _grid_actions(np.round(offsets))
        actions: Array = np.clip(offsets, self.action_space.low, self.action_space.high)
        return actions


class GridSearch:
    """The Bayes-optimal player of a grid whose goal is one of some cells, all equally likely.

    Until the goal is found, the player only learns where it is not, and that follows from the walk.
    The best search is therefore a walk fixed from the start, :func:`search_walks`. Once the goal is
    found, the player takes the shortest way to it in every episode.

    Args:
        tasks: The grids. The cells are those of the parameter ``goal``.

    Raises:
        ValueError: If it is not a family of goals on a grid.
    """

    name = "Bayes-optimal"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        _check_has_goals(self, tasks, env, grid=True)
        self.start, _ = env.reset(seed=0)
        env.close()
        space: Any = env.single_observation_space
        self.size = int(space.high[0]) + 1
        self.horizon = env.horizon
        self.num_episodes = tasks.episodes_per_trial
        self.goals = tuple(
            (int(x), int(y)) for x, y in tasks.parameters["goal"].finite_values or ()
        )

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a new searcher of ``num_tasks`` grids; it is deterministic.

        Its search is planned for ``episodes_per_trial`` episodes; beyond these it repeats the last.

        Raises:
            ValueError: If ``num_tasks`` is below 1.
        """
        check_at_least(1, num_tasks=num_tasks)
        x, y = self.start[0].astype(int).tolist()
        walks = search_walks(self.goals, (x, y), self.size, self.horizon, self.num_episodes)
        return GridSearchAdaptation(walks, num_tasks)


class GridSearchAdaptation:
    """Where a :class:`GridSearch` is in its search of each grid, and what it has found.

    Args:
        walks: The actions of each episode of the search, of shape (num_episodes, horizon).
        num_tasks: The grids that are searched side by side.
    """

    def __init__(self, walks: NDArray[np.int64], num_tasks: int):
        self.walks = walks
        self.goals = np.full((num_tasks, 2), np.nan)
        self.episode = np.zeros(num_tasks, dtype=np.int64)
        self.step = np.zeros(num_tasks, dtype=np.int64)

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self.step))
        searching = self.walks[np.minimum(self.episode, len(self.walks) - 1), self.step]
        known = np.isfinite(self.goals[:, 0])
        return np.where(known, _grid_actions(self.goals - observations), searching)

    def observe(self, transition: Transition) -> None:
        active, ended = transition.active, transition.episode_end
        found = active & (transition.rewards > 0)
        self.goals[found] = transition.next_observations[found]
        self.step += active
        self.step[ended] = 0
        self.episode += ended


class NearestUnvisited:
    """A searcher of grids: it goes to the nearest cell it has not tried, until one pays.

    From then on it goes to that cell.

    Unlike :class:`GridSearch` it plans nothing ahead. So it searches grids of any size, for any
    number of episodes, and from wherever actions that are not its own have led.

    Args:
        tasks: The grids, with goals that pay for each step that ends there.

    Raises:
        ValueError: If it is not a family of goals on a grid.
    """

    name = "nearest unvisited"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        _check_has_goals(self, tasks, env, grid=True)
        space: Any = env.single_observation_space
        self.size = int(space.high[0]) + 1

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a new searcher of ``num_tasks`` grids; it is deterministic.

        Raises:
            ValueError: If ``num_tasks`` is below 1.
        """
        check_at_least(1, num_tasks=num_tasks)
        return NearestUnvisitedAdaptation(self.size, num_tasks)


class NearestUnvisitedAdaptation:
    """Which cells of each grid were tried, and the goal where it was found.

    Args:
        size: The cells along each side.
        num_tasks: The number of grids.
    """

    def __init__(self, size: int, num_tasks: int):
        axis = np.arange(size)
        self.cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        self.size = size
        self.tried = np.zeros((num_tasks, size**2), dtype=np.bool_)
        self.goals = np.full((num_tasks, 2), np.nan)

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self.goals))
        distances = np.abs(self.cells - observations[:, None]).sum(axis=-1)  # (tasks, cells)
        # To try the present cell costs a step like any other, and leads nowhere.
        distances[distances == 0] = self.size
        nearest = self.cells[np.where(self.tried, np.inf, distances).argmin(axis=1)]
        known = np.isfinite(self.goals[:, :1])
        return _grid_actions(np.where(known, self.goals, nearest) - observations)

    def observe(self, transition: Transition) -> None:
        active = np.flatnonzero(transition.active)
        places = transition.next_observations[active]
        x, y = places.astype(np.int64).T
        self.tried[active, x * self.size + y] = True
        paid = transition.rewards[active] > 0
        self.goals[active[paid]] = places[paid]


def _grid_actions(offsets: Array) -> NDArray[np.int64]:
    """Return the action that makes an offset to the goal smaller; stay where there is none."""
    dx, dy = offsets.T
    actions: NDArray[np.int64] = np.select([dx > 0, dx < 0, dy > 0, dy < 0], [1, 3, 0, 2], 4)
    return actions


def _affine(features: Array) -> Array:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _check_has_goals(agent: Any, tasks: TaskDistribution, env: TaskVectorEnv, grid: bool) -> None:
    """Raise unless tasks are goals, observations positions and actions those of plane or grid."""
    distribution, action = tasks.parameters.get("goal"), env.single_action_space
    on_grid = isinstance(action, spaces.Discrete) and action.n == len(STEPS) + 1
    fits = on_grid if grid else on_grid or action.shape == (2,)
    if (
        distribution is None
        or not distribution.shape == env.single_observation_space.shape == (2,)
        or not fits
    ):
        raise InvalidValueError(
            f"{type(agent).__name__} needs goals of two coordinates, positions as observations and "
            f"{'' if grid else 'displacements or '}the five actions of a grid; {tasks.name!r} has "
            f"{sorted(tasks.parameters)}, {env.single_observation_space} and {action}"
        )
