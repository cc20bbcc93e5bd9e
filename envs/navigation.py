"""Navigation in the plane: the smallest problem in which one gradient step can find the task."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least
from metarl.parameters import Uniform
from metarl.seeding import Ids
from metarl.vector import TaskEnv, TaskVectorEnv

Array = NDArray[Any]

HORIZON = 100
MAX_STEP = 0.1
GOAL_RADIUS = 0.01
GOAL = Uniform(-0.5, 0.5, (2,), nominal=0.3)

_FRAME = 240  # pixels
_VIEW = 0.8  # the frame shows [-_VIEW, _VIEW] along both axes
_AXIS = ((np.arange(_FRAME) + 0.5) / _FRAME * 2.0 - 1.0) * _VIEW


class NavigationVectorEnv(TaskVectorEnv):
    """A batch of points in the plane, each moving to a goal that it cannot see.

    | | |
    |---|---|
    | Task | ``goal``: shape (2,), in [-0.5, 0.5] |
    | Observation | ``Box(2)``: the position |
    | Action | ``Box(2)``: the displacement, clipped to [-0.1, 0.1] along each axis |
    | Reward | minus the distance to the goal after the step; its square if ``squared`` |
    | Start | the origin |
    | End | terminated when both coordinates are within 0.01 of the goal's; truncated after 100 \
steps |
    | Task law | ``goal ~ U[-0.5, 0.5]^2`` |

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
            parameters={"goal": GOAL},
            observation_space=spaces.Box(-farthest, farthest, (2,), np.float32),
            action_space=spaces.Box(-MAX_STEP, MAX_STEP, (2,), np.float32),
            horizon=horizon,
            render_mode=render_mode,
        )

    def _set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._goals = columns["goal"]
        self._restart_drawings(slice(None))

    def _reset(self, ids: Ids) -> Array:
        self._positions[ids] = 0.0
        self._restart_drawings(ids)
        return self._positions[ids].astype(np.float32)

    def _step(self, ids: Ids, actions: Array) -> tuple[Array, Array, Array]:
        positions = self._positions[ids] + np.clip(actions, -MAX_STEP, MAX_STEP)
        self._positions[ids] = positions
        if self.render_mode is not None:
            for index, position in zip(np.arange(self.num_envs)[ids], positions):
                self._drawings[index].move(position)
        offsets = positions - self._goals[ids]
        rewards = -np.square(offsets).sum(axis=1)
        if not self.squared:
            rewards = -np.sqrt(-rewards)
        reached = (np.abs(offsets) < GOAL_RADIUS).all(axis=1)
        return positions.astype(np.float32), rewards, reached

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture of each sub-environment, of shape (240, 240, 3); None without mode."""
        if self.render_mode is None:
            return None
        return tuple(drawing.picture() for drawing in self._drawings)

    def _restart_drawings(self, ids: Ids) -> None:
        if self.render_mode is not None:
            for index in np.arange(self.num_envs)[ids]:
                self._drawings[index] = _Drawing(self._goals[index])


class _Drawing:
    """The picture of one episode; a step paints its own part of the path and nothing else."""

    def __init__(self, goal: Array):
        self._canvas = np.full((_FRAME, _FRAME, 3), 255, dtype=np.uint8)
        self._position: Array = np.zeros(2)
        _paint_disc(self._canvas, goal, 0.03, (0, 158, 115))

    def move(self, position: Array) -> None:
        """Paint the way to the next position (grey)."""
        for share in np.linspace(0.0, 1.0, 8):
            place = self._position + share * (position - self._position)
            _paint_disc(self._canvas, place, 0.008, (153, 153, 153))
        self._position = position

    def picture(self) -> NDArray[np.uint8]:
        """Return goal (green), path (grey) and position (blue)."""
        pixels = self._canvas.copy()
        _paint_disc(pixels, self._position, 0.02, (0, 114, 178))
        return pixels


def _paint_disc(
    pixels: NDArray[np.uint8], center: Array, radius: float, color: tuple[int, int, int]
) -> None:
    """Paint a disc; only the square of pixels around it is looked at."""
    middle = _FRAME * (1.0 + center * (1.0, -1.0) / _VIEW) / 2.0
    reach = _FRAME * radius / (2.0 * _VIEW) + 1.0
    (left, top), (right, bottom) = np.clip([middle - reach, middle + reach], 0, _FRAME).astype(int)
    x, y = _AXIS[left:right] - center[0], -_AXIS[top:bottom, None] - center[1]
    pixels[top:bottom, left:right][np.hypot(x, y) <= radius] = color


def navigation_env(**kwargs: Any) -> TaskEnv:
    """Make a single navigation problem: the entry point of ``metarl/Navigation2D-v0``."""
    return TaskEnv(NavigationVectorEnv(1, **kwargs))


def navigation_2d(squared: bool = False, horizon: int = HORIZON) -> TaskDistribution:
    """The family of goals in the plane (Finn et al. 2017).

    Args:
        squared: Whether the reward is the squared distance of the paper's text, not the plain
            distance of the authors' code.
        horizon: The steps of an episode.

    Raises:
        ValueError: If ``horizon`` is below 1.
    """
    check_at_least(1, horizon=horizon)
    return TaskDistribution(
        name="navigation-2d-squared" if squared else "navigation-2d",
        parameters={"goal": GOAL},
        env_factory=functools.partial(NavigationVectorEnv, squared=squared, horizon=horizon),
        episodes_per_trial=3,
        description="a point in the plane: find the hidden goal",
        varies="goal",
    )
