"""Navigation in the plane, with a dense or a sparse reward."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least, check_at_most
from metarl.parameters import Parameter, Uniform
from metarl.seeding import Ids
from metarl.vector.env import MAX_HORIZON, StepResult, TaskVectorEnv

Array = NDArray[Any]

HORIZON = 100
SPARSE_HORIZON = 20
MAX_STEP = 0.1
GOAL_RADIUS = 0.01
REWARD_RADIUS = 0.2

_FRAME = 240  # pixels
_CENTERS = (np.arange(_FRAME) + 0.5) / _FRAME * 2.0 - 1.0


@dataclass(frozen=True)
class Semicircle(Parameter):
    """Points of the plane on the upper half of the unit circle, all angles equally likely."""

    shape: tuple[int, ...] = (2,)

    @property
    def default(self) -> Any:
        return [0.0, 1.0]

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        angles = rng.uniform(0.0, math.pi, num_tasks)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def contains(self, values: Array) -> NDArray[np.bool_]:
        # Sine and cosine err by an ulp.
        on_circle = np.abs(np.linalg.norm(values, axis=1) - 1.0) < 1e-9
        upper: NDArray[np.bool_] = on_circle & (values[:, 1] > -1e-9)
        return upper

    def encode(self, values: Array) -> NDArray[np.float32]:
        return values.astype(np.float32)


GOAL = Uniform(-0.5, 0.5, (2,), nominal=0.3)


class NavigationVectorEnv(TaskVectorEnv):
    """A batch of points in the plane, each moving to a hidden goal.

    | | |
    |---|---|
    | Task | ``goal``: shape (2,), in [-0.5, 0.5] |
    | Observation | ``Box(2)``: the position |
    | Action | ``Box(2)``: the displacement, clipped to [-0.1, 0.1] along each axis |
    | Reward | minus the distance to the goal after the step; its square if ``squared`` |
    | Start | the origin |
    | End | terminated when both coordinates are within 0.01 of the goal's; truncated after 100 \
steps |
    | Distribution | ``goal ~ U[-0.5, 0.5]^2`` |

    Source: Finn et al. 2017, section 5.3, with the settings of the authors' code (github.com,
    cbfinn/maml_rl, ``maml_examples/point_env_randgoal.py``, commit 725c800), which rewards the
    plain distance where the text says squared.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        squared: Whether the reward is the squared distance of the paper's text.
        horizon: After how many steps an episode is truncated.
        render_mode: ``"rgb_array"`` draws goal, path and position; None draws nothing.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }
    goal: Parameter = GOAL
    view = 0.8
    """A picture shows [-view, view] along both axes."""

    def __init__(
        self,
        num_envs: int,
        squared: bool = False,
        horizon: int = HORIZON,
        render_mode: str | None = None,
    ):
        self.squared = squared
        self._positions = np.zeros((num_envs, 2))
        self._drawings: list[Any] = [None] * num_envs  # only with a render mode
        farthest = MAX_STEP * (horizon + 1)  # beyond reach: rounding cannot leave the space
        super().__init__(
            num_envs,
            parameters={"goal": self.goal},
            observation_space=spaces.Box(-farthest, farthest, (2,), np.float32),
            action_space=spaces.Box(-MAX_STEP, MAX_STEP, (2,), np.float32),
            horizon=horizon,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._goals = columns["goal"]
        self._restart_drawings(slice(None))

    def reset_lanes(self, ids: Ids) -> Array:
        self._positions[ids] = 0.0
        self._restart_drawings(ids)
        return self._positions[ids].astype(np.float32)

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        positions = self._positions[ids] + np.clip(actions, -MAX_STEP, MAX_STEP)
        self._positions[ids] = positions
        if self.render_mode is not None:
            for index, position in zip(np.arange(self.num_envs)[ids], positions):
                self._drawings[index].move(position)
        rewards, terminated = self._outcome(positions - self._goals[ids])
        return StepResult(positions.astype(np.float32), rewards, terminated)

    def _outcome(self, offsets: Array) -> tuple[Array, Array]:
        """Return rewards and ``terminated`` of steps that end so far from the goal."""
        rewards = -np.square(offsets).sum(axis=1)
        if not self.squared:
            rewards = -np.sqrt(-rewards)
        return rewards, np.all(np.abs(offsets) < GOAL_RADIUS, axis=1)

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture of each sub-environment, of shape (240, 240, 3); None without mode."""
        if self.render_mode is None:
            return None
        return tuple(drawing.picture() for drawing in self._drawings)

    def _restart_drawings(self, ids: Ids) -> None:
        if self.render_mode is not None:
            for index in np.arange(self.num_envs)[ids]:
                self._drawings[index] = self._draw(self._goals[index])

    def _draw(self, goal: Array) -> "_Drawing":
        """Begin the picture of an episode."""
        return _Drawing(self.view, goal)


class SparseNavigationVectorEnv(NavigationVectorEnv):
    """A batch of points in the plane, rewarded only where the goal is close.

    | | |
    |---|---|
    | Task | ``goal``: shape (2,), on the upper half of the unit circle |
    | Observation | ``Box(2)``: the position |
    | Action | ``Box(2)``: the displacement, clipped to [-0.1, 0.1] along each axis |
    | Reward | 1 minus the distance to the goal after the step if that is at most 0.2, else 0 |
    | Start | the origin |
    | End | truncated after 20 steps; the goal does not end the episode |
    | Distribution | the angle of ``goal`` ~ U[0, pi] |

    Source: Rakelly et al. 2019 (PEARL), the sparse 2D navigation, with the settings of the
    authors' code (github.com, katerakelly/oyster, ``rlkit/envs/point_robot.py`` and
    ``configs/sparse-point-robot.json``, commit ee4fe88). There 100 evenly spaced goals are divided
    into 80 for training and 20 for evaluation; agents train on minus the distance and adapt to the
    sparse reward. Here the goals are a continuum and the reward is always sparse.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        horizon: After how many steps an episode is truncated.
        render_mode: ``"rgb_array"`` draws goal, where it is rewarded, path and position; None draws
            nothing.
    """

    goal: Parameter = Semicircle()
    view = 1.3

    def __init__(
        self, num_envs: int, horizon: int = SPARSE_HORIZON, render_mode: str | None = None
    ):
        super().__init__(num_envs, horizon=horizon, render_mode=render_mode)

    def _outcome(self, offsets: Array) -> tuple[Array, Array]:
        distances = np.sqrt(np.square(offsets).sum(axis=1))
        rewards = np.where(distances <= REWARD_RADIUS, 1.0 - distances, 0.0)
        return rewards, np.zeros(len(rewards), dtype=np.bool_)

    def _draw(self, goal: Array) -> "_Drawing":
        return _Drawing(self.view, goal, REWARD_RADIUS)


class _Drawing:
    """The picture of one episode; a step paints its own part of the path and nothing else.

    Args:
        view: The picture shows [-view, view] along both axes.
        goal: The goal.
        zone: How far from it there is a reward to be shown.
    """

    def __init__(self, view: float, goal: Array, zone: float = 0.0):
        self._canvas = np.full((_FRAME, _FRAME, 3), 255, dtype=np.uint8)
        self._view = view
        self._position: Array = np.zeros(2)
        _paint_disc(self._canvas, goal / view, zone / view, (204, 236, 227))
        _paint_disc(self._canvas, goal / view, 0.0375, (0, 158, 115))

    def move(self, position: Array) -> None:
        """Paint the way to the next position (grey)."""
        for share in np.linspace(0.0, 1.0, 8):
            place = self._position + share * (position - self._position)
            _paint_disc(self._canvas, place / self._view, 0.01, (153, 153, 153))
        self._position = position

    def picture(self) -> NDArray[np.uint8]:
        """Return goal (green), path (grey) and position (blue)."""
        pixels = self._canvas.copy()
        _paint_disc(pixels, self._position / self._view, 0.025, (0, 114, 178))
        return pixels


def _paint_disc(
    pixels: NDArray[np.uint8], center: Array, radius: float, color: tuple[int, int, int]
) -> None:
    """Paint a disc, in units of half the picture; only the square of pixels around is looked at."""
    middle = _FRAME * (1.0 + center * (1.0, -1.0)) / 2.0
    reach = _FRAME * radius / 2.0 + 1.0
    (left, top), (right, bottom) = np.clip([middle - reach, middle + reach], 0, _FRAME).astype(int)
    x, y = _CENTERS[left:right] - center[0], -_CENTERS[top:bottom, None] - center[1]
    pixels[top:bottom, left:right][np.hypot(x, y) <= radius] = color


def navigation_2d(squared: bool = False, horizon: int = HORIZON) -> TaskDistribution:
    """The family of goals in the plane (Finn et al. 2017).

    Args:
        squared: Whether the reward is the squared distance of the paper's text, not the plain
            distance of the authors' code.
        horizon: The steps of an episode.

    Raises:
        TypeError: If ``horizon`` is no integer.
        ValueError: If ``horizon`` is below 1 or above 1,000,000.
    """
    check_at_least(1, horizon=horizon)
    check_at_most(MAX_HORIZON, horizon=horizon)
    return TaskDistribution(
        name="navigation-2d-squared" if squared else "navigation-2d",
        parameters={"goal": GOAL},
        env_factory=functools.partial(NavigationVectorEnv, squared=squared, horizon=horizon),
        episodes_per_trial=3,
        description="a point in the plane: find the hidden goal"
        + (", rewarded by the squared distance" if squared else ""),
        varying_factor="goal",
        built_in=True,
    )


def navigation_sparse(horizon: int = SPARSE_HORIZON) -> TaskDistribution:
    """The family of goals on a semicircle that are rewarded only from close by (PEARL).

    A single episode is too short to search the whole semicircle, so the search must continue in the
    next episode. The source explores for five episodes.

    Args:
        horizon: The steps of an episode.

    Raises:
        ValueError: If ``horizon`` is below 1.
    """
    check_at_least(1, horizon=horizon)
    return TaskDistribution(
        name="navigation-sparse",
        parameters={"goal": Semicircle()},
        env_factory=functools.partial(SparseNavigationVectorEnv, horizon=horizon),
        episodes_per_trial=5,
        references=("random", "known-goal"),
        description="a point in the plane: a goal on a semicircle, rewarded from close by",
        varying_factor="goal",
        built_in=True,
    )


FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    "navigation-2d": navigation_2d,
    "navigation-2d-squared": functools.partial(navigation_2d, squared=True),
    "navigation-sparse": navigation_sparse,
}
