"""Locomotion over hidden profiles of ramps.

They change along the way, so unlike slopes they fit no single frame: they are ramps in the world.
The robot observes what it could sense: its joints and its height above the ground,
not its altitude.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.mujoco.bodies import HALF_CHEETAH, WALKER2D, Body, State
from metarl.envs.mujoco.engine import Columns, ModelFields, MujocoVectorEnv
from metarl.envs.mujoco.locomotion import HORIZON, family
from metarl.parameters import Choice, Parameter, Uniform

Array = NDArray[Any]

# A profile: level ground, then ramps of equal length along their surface, then level ground.
NUM_RAMPS = 9
_LEVEL_LENGTH = 100.0  # metres of level ground at each end
_THICKNESS = 1.0  # metres, of half a ramp
_FIRST_RAMP = 1.0  # metres before the first of nine different ramps
_HILL = np.array([1.0] * 4 + [0.0] + [-1.0] * 4)  # up, level, and down

Ground: TypeAlias = Callable[[Columns], tuple[Array, Array]]
"""From tasks to the angles of their ramps in degrees, of shape (n, NUM_RAMPS), and to where the
first one begins, in metres, of shape (n,)."""


def nine_ramps(task: Columns) -> tuple[Array, Array]:
    """Return the ground of tasks that name the angle of each ramp."""
    return task["angles"], np.full(len(task["angles"]), _FIRST_RAMP)


def hill(task: Columns) -> tuple[Array, Array]:
    """Return the ground of tasks with a hill that is equally steep on both sides."""
    return np.multiply.outer(task["degrees"], _HILL), task["start"]


@dataclass(frozen=True)
class Profile(Parameter):
    """Ramps of one pattern, whose steepness is drawn uniformly.

    Attributes:
        pattern: The angle of each ramp, as a multiple of the steepness; the first is not 0.
        low: The least steepness in degrees.
        high: The greatest.
    """

    pattern: tuple[float, ...]
    low: float
    high: float

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.pattern),)

    @property
    def default(self) -> Any:
        return (0.5 * (self.low + self.high) * np.array(self.pattern)).tolist()

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        return np.multiply.outer(rng.uniform(self.low, self.high, num_tasks), self.pattern)

    def contains(self, values: Array) -> NDArray[np.bool_]:
        steepness = values[:, 0] / self.pattern[0]
        follows = np.isclose(values, np.multiply.outer(steepness, self.pattern)).all(axis=1)
        inside: NDArray[np.bool_] = follows & (steepness >= self.low) & (steepness <= self.high)
        return inside

    def encode(self, values: Array) -> NDArray[np.float32]:
        return Uniform(self.low, self.high).encode(values[:, 0] / self.pattern[0])


def ground(x: Array, degrees: Array, start: Array, length: float) -> tuple[Array, Array]:
    """Return the height of the ground and the distance along its surface, both in metres.

    Args:
        x: World coordinates, of shape (n,).
        degrees: The angles of the ramps, of shape (n, NUM_RAMPS).
        start: Where the first ramp begins, of shape (n,).
        length: Of a ramp along its surface.

    Returns:
        Height above the start, and distance from x = 0 along the surface, of shape (n,) each.
    """
    angles = np.deg2rad(degrees)
    widths = length * np.cos(angles)
    starts = start[:, None] + np.cumsum(widths, axis=1) - widths
    share = np.clip(x[:, None] - starts, 0.0, widths) / widths  # of each ramp
    height = length * (share * np.sin(angles)).sum(axis=1)
    way = x + (share * (length - widths)).sum(axis=1)
    return height, way


def set_ramps(fields: ModelFields, degrees: Array, start: Array, length: float) -> None:
    """Place the boxes of the ground: level, ramps, level. The arguments are those of ground."""
    angles = np.deg2rad(np.pad(degrees, ((0, 0), (1, 1))))
    lengths = np.array([_LEVEL_LENGTH, *[length] * NUM_RAMPS, _LEVEL_LENGTH])
    along = np.stack([np.cos(angles), np.sin(angles)], axis=2)  # (n, boxes, x and z)
    steps = lengths[:, None] * along
    ends = np.cumsum(steps, axis=1)
    ends[:, :, 0] += start[:, None] - _LEVEL_LENGTH
    down = np.stack([np.sin(angles), -np.cos(angles)], axis=2)
    centres = ends - 0.5 * steps + _THICKNESS * down  # the upper faces meet at their edges

    model = fields.model
    boxes = [model.geom(f"ground{i}").id for i in range(len(lengths))]
    places = np.repeat(model.geom_pos[None], len(angles), axis=0)
    places[:, boxes, 0], places[:, boxes, 2] = centres[:, :, 0], centres[:, :, 1]
    # A rotation by -angle about y lifts the far end of a box.
    turns = np.repeat(model.geom_quat[None], len(angles), axis=0)
    turns[:, boxes] = 0.0
    turns[:, boxes, 0], turns[:, boxes, 2] = np.cos(0.5 * angles), np.sin(-0.5 * angles)
    fields.write("geom_pos", places)
    fields.write("geom_quat", turns)


def _lay_boxes(spec: Any, ramp_length: float) -> None:
    """Replace the floor by boxes, one for each ramp and for the level ground at both ends.

    Per-simulation fields place and rotate boxes; a height field would need a separate model for
    every task.

    Args:
        spec: The ``MjSpec``.
        ramp_length: In metres.
    """
    import mujoco

    floor = spec.geom("floor")
    for i in range(NUM_RAMPS + 2):
        level = i in (0, NUM_RAMPS + 1)
        length = _LEVEL_LENGTH if level else ramp_length
        spec.worldbody.add_geom(
            name=f"ground{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.5 * length, 20.0, _THICKNESS],
            contype=floor.contype,
            conaffinity=floor.conaffinity,
            condim=floor.condim,
            friction=floor.friction,
            solref=floor.solref,
            solimp=floor.solimp,
            rgba=[0.55, 0.6, 0.55, 1.0] if level or i % 2 else [0.65, 0.7, 0.65, 1.0],
        )
    spec.delete(floor)


class TerrainVectorEnv(MujocoVectorEnv):
    """A planar robot on a profile of ramps.

    It observes its height above the ground below it instead of its altitude, falls by that height,
    and is rewarded for speed along the surface.

    Args:
        num_envs: The number of sub-environments.
        body: The robot.
        ground: Makes the profiles of tasks.
        ramp_length: The length of a ramp along its surface, in metres.
        options: Passed to :class:`MujocoVectorEnv`.
    """

    def __init__(
        self, num_envs: int, body: Body, *, ground: Ground, ramp_length: float = 2.0, **options: Any
    ):
        self._profile, self._ramp_length = ground, ramp_length
        edit = partial(_lay_boxes, ramp_length=ramp_length)
        super().__init__(num_envs, body, physics=self._place_ramps, edit=edit, **options)

    def _place_ramps(self, fields: ModelFields, task: Columns) -> None:
        set_ramps(fields, *self._profile(task), self._ramp_length)

    def _ground(self, state: State, task: Columns) -> tuple[Array, Array]:
        return ground(state["qpos"][:, 0], *self._profile(task), self._ramp_length)

    def _above_ground(self, state: State, task: Columns) -> State:
        positions = state["qpos"].copy()
        positions[:, 1] -= self._ground(state, task)[0]
        return {**state, "qpos": positions}

    def _locate(self, state: State, task: Columns) -> Array:
        return self._ground(state, task)[1][:, None]

    def _stand(self, state: State, task: Columns) -> Array:
        return super()._stand(self._above_ground(state, task), task)

    def _observe(self, state: State, task: Columns) -> Array:
        return super()._observe(self._above_ground(state, task), task)


def half_cheetah_terrain(horizon: int = HORIZON) -> TaskDistribution:
    """Run over ramps: 1 m of level ground, then nine ramps of 2 m, after Nagabandi et al. 2019.

    In ``train`` and ``held_out`` every ramp's angle is U(-7, 7) degrees: the steepest of nine has
    a median of 6.5 degrees, that of the source's six random segments is 6.4. Shifted splits have
    the angles of the source's tests: ``gentle`` (3.2 degrees all the way up), ``steep`` (12.5),
    ``hill`` (up, then down, 10 to 11) and ``basin`` (down, then up). The source's ground is a
    height field with columns of 0.2 m; ours are exact planes. Pitch is relative to gravity here.

    Args:
        horizon: The steps of an episode.
    """
    up, over = (1.0,) * NUM_RAMPS, tuple(_HILL.tolist())
    basin = tuple(-value for value in over)
    return family(
        "half-cheetah-terrain",
        HALF_CHEETAH,
        {"angles": Uniform(-7.0, 7.0, (NUM_RAMPS,), nominal=0.0)},
        allowed={"angles": Uniform(-60.0, 60.0, (NUM_RAMPS,), nominal=0.0)},
        splits={
            "gentle": {"angles": Profile(up, 3.1, 3.3)},
            "steep": {"angles": Profile(up, 12.4, 12.6)},
            "hill": {"angles": Profile(over, 10.0, 11.0)},
            "basin": {"angles": Profile(basin, 10.0, 11.0)},
        },
        ground=nine_ramps,
        env_class=TerrainVectorEnv,
        horizon=horizon,
        description="half-cheetah: nine ramps of up to 7 degrees, up or down",
        varying_factor="terrain",
    )


def hills(
    name: str,
    body: Body,
    gentle: float,
    steep: float,
    steepest: float,
    start: tuple[float, float],
    ramp_length: float,
    horizon: int,
) -> TaskDistribution:
    """Run over a hill that begins ahead: level ground, then up, over the top, down, and level.

    Neither where the hill begins nor how steep it is can be seen from afar. The robot observes its
    height above the ground below it and its pitch relative to gravity, and is rewarded as in
    gymnasium, with the speed along the surface. It falls where gymnasium's does, by its height
    above the ground.

    | | |
    |---|---|
    | Task | ``degrees``: how steep both sides of the hill are |
    | | ``start``: where it begins, in metres |
    | Hill | four ramps up, one level at the top, four down, each of ``ramp_length`` metres |
    | Splits | ``train`` and ``held_out`` U(0, gentle) degrees, ``flat`` none, ``steep`` \
U(gentle, steep), ``steepest`` U(steep, steepest), ``valley`` U(-gentle, 0): first down, then up |

    Version history: v0, the first.

    Args:
        name: The name of the robot.
        body: The robot.
        gentle: The greatest angle in training, in degrees.
        steep: The greatest angle of ``steep``.
        steepest: The greatest angle of ``steepest``.
        start: The least and the greatest distance to the hill, in metres.
        ramp_length: In metres.
        horizon: The steps of an episode.
    """
    return family(
        f"{name}-hills",
        body,
        {"degrees": Uniform(0.0, gentle), "start": Uniform(*start)},
        allowed={"degrees": Uniform(-60.0, 60.0, nominal=0.0), "start": Uniform(0.0, 50.0)},
        splits={
            "flat": {"degrees": Choice((0.0,))},
            "steep": {"degrees": Uniform(gentle, steep)},
            "steepest": {"degrees": Uniform(steep, steepest)},
            "valley": {"degrees": Uniform(-gentle, 0.0)},
        },
        ground=hill,
        ramp_length=ramp_length,
        env_class=TerrainVectorEnv,
        horizon=horizon,
        description=f"{name}: a hill of up to {gentle:g} degrees that begins ahead",
        varying_factor="terrain",
    )


# A half-cheetah runs about 40 m in an episode of 10 s, a walker about 8 m in one of 4 s.
HILLS = {
    "half-cheetah-hills": partial(
        hills, "half-cheetah", HALF_CHEETAH, 8.0, 13.0, 18.0, (0.5, 6.0), 2.0, horizon=HORIZON
    ),
    "walker2d-hills": partial(
        hills, "walker2d", WALKER2D, 6.0, 10.0, 14.0, (0.1, 1.5), 0.5, horizon=500
    ),
}
