"""Locomotion over hidden profiles of ramps.

They change along the way, so unlike slopes they fit no single frame: they are ramps in the world.
The robot observes what it could sense: its joints and its height above the ground,
not its altitude.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.mujoco.bodies import HALF_CHEETAH, State
from metarl.envs.mujoco.engine import Columns, ModelFields, MujocoVectorEnv
from metarl.envs.mujoco.locomotion import HORIZON, family
from metarl.parameters import Parameter, Uniform

Array = NDArray[Any]

# A profile: level ground, then ramps of equal length along their surface, then level ground.
NUM_RAMPS = 9
RAMP_LENGTH = 2.0  # metres
RUN_UP = 1.0  # metres of level ground before the first ramp
_LEVEL_LENGTH = 100.0  # metres of level ground at each end
_THICKNESS = 1.0  # metres, of half a ramp


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


def ground(x: Array, degrees: Array) -> tuple[Array, Array]:
    """Return the height of the ground and the distance along its surface, both in metres.

    Args:
        x: World coordinates, of shape (n,).
        degrees: The angles of the ramps, of shape (n, NUM_RAMPS).

    Returns:
        Height above the start, and distance from x = 0 along the surface, of shape (n,) each.
    """
    angles = np.deg2rad(degrees)
    widths = RAMP_LENGTH * np.cos(angles)
    starts = RUN_UP + np.cumsum(widths, axis=1) - widths
    share = np.clip(x[:, None] - starts, 0.0, widths) / widths  # of each ramp
    height = RAMP_LENGTH * (share * np.sin(angles)).sum(axis=1)
    length = x + (share * (RAMP_LENGTH - widths)).sum(axis=1)
    return height, length


def set_ramps(fields: ModelFields, task: Columns) -> None:
    """Place the boxes of the ground: level, ramps, level."""
    angles = np.deg2rad(np.pad(task["angles"], ((0, 0), (1, 1))))
    lengths = np.array([_LEVEL_LENGTH, *[RAMP_LENGTH] * NUM_RAMPS, _LEVEL_LENGTH])
    along = np.stack([np.cos(angles), np.sin(angles)], axis=2)  # (n, boxes, x and z)
    steps = lengths[:, None] * along
    ends = np.cumsum(steps, axis=1) + np.array([RUN_UP - _LEVEL_LENGTH, 0.0])
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


def _lay_boxes(spec: Any) -> None:
    """Replace the floor by boxes, one for each ramp and for the level ground at both ends.

    Per-simulation fields place and rotate boxes; a height field would need a separate model for
    every task.
    """
    import mujoco

    floor = spec.geom("floor")
    for i in range(NUM_RAMPS + 2):
        level = i in (0, NUM_RAMPS + 1)
        length = _LEVEL_LENGTH if level else RAMP_LENGTH
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
    """A planar robot on a profile of ramps, the angles of which are the task.

    It observes its height above the ground below it instead of its altitude, and is rewarded
    for speed along the surface.
    """

    def _locate(self, state: State, task: Columns) -> Array:
        return ground(state["qpos"][:, 0], task["angles"])[1][:, None]

    def _observe(self, state: State, task: Columns) -> Array:
        observations = super()._observe(state, task)
        x, z = state["qpos"][:, 0], state["qpos"][:, 1]
        observations[:, 0] = z - ground(x, task["angles"])[0]
        return observations


def _pattern(*parts: tuple[int, float]) -> tuple[float, ...]:
    return tuple(value for count, value in parts for _ in range(count))


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
    up, hill = _pattern((9, 1.0)), _pattern((4, 1.0), (1, 0.0), (4, -1.0))
    basin = tuple(-value for value in hill)
    return family(
        "half-cheetah-terrain",
        HALF_CHEETAH,
        {"angles": Uniform(-7.0, 7.0, (NUM_RAMPS,), nominal=0.0)},
        allowed={"angles": Uniform(-60.0, 60.0, (NUM_RAMPS,), nominal=0.0)},
        splits={
            "gentle": {"angles": Profile(up, 3.1, 3.3)},
            "steep": {"angles": Profile(up, 12.4, 12.6)},
            "hill": {"angles": Profile(hill, 10.0, 11.0)},
            "basin": {"angles": Profile(basin, 10.0, 11.0)},
        },
        physics=set_ramps,
        edit=_lay_boxes,
        env_class=TerrainVectorEnv,
        horizon=horizon,
        description="half-cheetah: nine ramps of up to 7 degrees, up or down",
        varying_factor="terrain",
    )
