"""Locomotion on hidden slopes, and all families of terrain.

Slopes are tilted gravity, seen in the frame of the slope: the floor stays the plane z = 0 and
gravity leans back by the slope's angle. This is exact, and it changes one vector per task: there
is no geometry to rebuild, height above ground and speed along the slope are plain coordinates, and
on level ground everything equals gymnasium. Rotating the floor instead gives the same motion
(tested).

The robot observes what it could sense: its joints, its height above the ground and (on a
slope) its pitch relative to the ground, as range sensors under the belly measure them; not its
altitude, and on a slope no inertial sensor, which would reveal the angle at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.mujoco.bodies import ANT, HALF_CHEETAH, HOPPER, WALKER2D, Body
from metarl.envs.mujoco.engine import Columns, ModelFields
from metarl.envs.mujoco.locomotion import HORIZON, family
from metarl.envs.mujoco.ramps import HILLS, half_cheetah_terrain
from metarl.parameters import Choice, LogUniform, Parameter, Uniform

Array = NDArray[Any]


def tilt_gravity(fields: ModelFields, task: Columns) -> None:
    """Lean gravity back, against x, by the task's angle in degrees; uphill is positive."""
    angle = np.deg2rad(task["degrees"])
    strength = np.linalg.norm(fields.model.opt.gravity)
    direction = np.stack([-np.sin(angle), np.zeros_like(angle), -np.cos(angle)], axis=1)
    fields.write("opt.gravity", strength * direction, constants_follow=False)


def slope(
    name: str, body: Body, train: float, shifted: float, steep: float, horizon: int = HORIZON
) -> TaskDistribution:
    """Run up or down a constant slope, given in degrees; uphill is positive.

    Reward, end and observation are gymnasium's, in the frame of the slope: speed along the
    slope, height above it, pitch relative to it.

    Splits: ``train`` and ``held_out`` U(-train, train), ``uphill`` U(train, shifted),
    ``downhill`` U(-shifted, -train), ``steep`` U(shifted, steep), ``any`` U(-steep, steep).

    Args:
        name: The name of the robot.
        body: The robot.
        train: The greatest angle in training, in degrees.
        shifted: The greatest angle of ``uphill`` and ``downhill``.
        steep: The greatest angle of ``steep``.
        horizon: The steps of an episode.
    """
    return _sloping(
        f"{name}-slope",
        body,
        Uniform(-train, train, nominal=0.0),
        _steeper(train, shifted, steep),
        horizon=horizon,
        description=f"{name}: a slope of up to {train:g} degrees, up or down",
    )


def flat(
    name: str, body: Body, train: float, shifted: float, steep: float, horizon: int = HORIZON
) -> TaskDistribution:
    """The robot of :func:`slope`, trained on level ground: its return on slopes is zero-shot.

    Splits: ``train`` and ``held_out`` are the one task of level ground, ``gentle`` is
    U(-train, train), the others are those of :func:`slope`.

    Args:
        name: The name of the robot.
        body: The robot.
        train: The greatest angle in the training of :func:`slope`, in degrees.
        shifted: The greatest angle of ``uphill`` and ``downhill``.
        steep: The greatest angle of ``steep``.
        horizon: The steps of an episode.
    """
    return _sloping(
        f"{name}-flat",
        body,
        Choice((0.0,)),
        {"gentle": Uniform(-train, train, nominal=0.0), **_steeper(train, shifted, steep)},
        shares_tasks=True,
        horizon=horizon,
        description=f"{name}: level ground, evaluated on slopes",
    )


def flat_varied(
    name: str, body: Body, train: float, shifted: float, steep: float, horizon: int = HORIZON
) -> TaskDistribution:
    """The robot of :func:`flat`, with a hidden body that differs between tasks.

    The masses of all parts are multiplied by U(0.7, 1.4), the strength of all motors by
    U(0.7, 1.2), all friction by a factor that is log-uniform in [0.5, 2]: heavy or weak on level
    ground feels a little like uphill. The splits are those of :func:`flat`, with such bodies on
    their slopes, too; ``train`` and ``held_out`` are different bodies on level ground.

    Args:
        name: The name of the robot.
        body: The robot.
        train: The greatest angle in the training of :func:`slope`, in degrees.
        shifted: The greatest angle of ``uphill`` and ``downhill``.
        steep: The greatest angle of ``steep``.
        horizon: The steps of an episode.
    """
    allowed = LogUniform(0.1, 10.0, nominal=1.0)
    return _sloping(
        f"{name}-flat-varied",
        body,
        Choice((0.0,)),
        {"gentle": Uniform(-train, train, nominal=0.0), **_steeper(train, shifted, steep)},
        bodies={
            "mass": Uniform(0.7, 1.4, nominal=1.0),
            "strength": Uniform(0.7, 1.2, nominal=1.0),
            "friction": LogUniform(0.5, 2.0, nominal=1.0),
        },
        allowed=dict.fromkeys(("mass", "strength", "friction"), allowed),
        physics=vary_and_tilt,
        horizon=horizon,
        description=f"{name}: level ground and varying bodies, evaluated on slopes",
    )


def vary_and_tilt(fields: ModelFields, task: Columns) -> None:
    """Multiply masses, motors and friction by the task's factors, and tilt gravity."""
    model = fields.model
    mass, strength, friction = (task[name][:, None] for name in ("mass", "strength", "friction"))
    fields.write("body_mass", model.body_mass * mass)
    fields.write("body_inertia", model.body_inertia * mass[:, :, None])
    fields.write("actuator_gear", model.actuator_gear * strength[:, :, None])
    surfaces = np.repeat(model.geom_friction[None], len(friction), axis=0)
    surfaces[:, :, 0] *= friction
    fields.write("geom_friction", surfaces, constants_follow=False)
    tilt_gravity(fields, task)


def climb(
    name: str, body: Body, train: float, shifted: float, steep: float, horizon: int = HORIZON
) -> TaskDistribution:
    """Run uphill, which may be ahead or behind.

    The task of :func:`slope`, but for the reward: gymnasium's, with the speed uphill in place of
    the speed along x. A robot can sense which way is up, or infer it from the reward; running the
    wrong way gives a negative reward.

    Splits: ``train`` and ``held_out`` are slopes of U(1, train) degrees, ``uphill``
    U(train, shifted), ``steep`` U(shifted, steep), ``any`` U(1, steep); up is ahead or behind,
    equally likely.

    Args:
        name: The name of the robot.
        body: The robot.
        train: The greatest angle in training, in degrees.
        shifted: The greatest angle of ``uphill``.
        steep: The greatest angle of ``steep``.
        horizon: The steps of an episode.
    """
    return _sloping(
        f"{name}-climb",
        body,
        EitherSide(1.0, train),
        {
            "uphill": EitherSide(train, shifted),
            "steep": EitherSide(shifted, steep),
            "any": EitherSide(1.0, steep),
        },
        progress=upwards,
        horizon=horizon,
        description=f"{name}: run up a slope of up to {train:g} degrees, ahead or behind",
    )


def upwards(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward the speed along the slope, uphill."""
    speed: Array = np.where(task["degrees"] < 0.0, -1.0, 1.0) * velocities[:, 0]
    return speed


@dataclass(frozen=True)
class EitherSide(Parameter):
    """Numbers with a magnitude uniform in [low, high] and a random sign.

    Attributes:
        low: The least magnitude.
        high: The greatest.
    """

    low: float
    high: float
    shape: tuple[int, ...] = ()

    @property
    def default(self) -> float:
        return 0.5 * (self.low + self.high)

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        magnitudes = rng.uniform(self.low, self.high, num_tasks)
        return np.asarray(magnitudes * rng.choice((-1.0, 1.0), num_tasks))

    def contains(self, values: Array) -> NDArray[np.bool_]:
        return np.asarray((np.abs(values) >= self.low) & (np.abs(values) <= self.high))

    def encode(self, values: Array) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = (values / self.high).astype(np.float32)
        return scaled[:, None]


def _steeper(train: float, shifted: float, steep: float) -> dict[str, Parameter]:
    """Return the distribution of each split with slopes that are not in training."""
    return {
        "any": Uniform(-steep, steep, nominal=0.0),
        "uphill": Uniform(train, shifted),
        "downhill": Uniform(-shifted, -train),
        "steep": Uniform(shifted, steep),
    }


def _sloping(
    name: str,
    body: Body,
    distribution: Parameter,
    splits: Mapping[str, Parameter],
    *,
    bodies: Mapping[str, Parameter] | None = None,
    allowed: Mapping[str, Parameter] | None = None,
    physics: Callable[[ModelFields, Columns], None] = tilt_gravity,
    **options: Any,
) -> TaskDistribution:
    return family(
        name,
        body,
        {"degrees": distribution, **(bodies or {})},
        allowed={"degrees": Uniform(-60.0, 60.0, nominal=0.0), **(allowed or {})},
        splits={split: {"degrees": own} for split, own in splits.items()},
        physics=physics,
        varying_factor="terrain",
        **options,
    )


# The half-cheetah's feet slide above 21.8 degrees (friction 0.4), and the hopper counts as
# fallen at 11.5 degrees from upright.
_ANGLES = {
    "half-cheetah": (HALF_CHEETAH, 10.0, 15.0, 20.0),
    "walker2d": (WALKER2D, 10.0, 15.0, 20.0),
    "ant": (ANT, 10.0, 15.0, 20.0),
    "hopper": (HOPPER, 4.0, 7.0, 10.0),
}
FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    **{f"{name}-slope": partial(slope, name, *angles) for name, angles in _ANGLES.items()},
    **{f"{name}-flat": partial(flat, name, *angles) for name, angles in _ANGLES.items()},
    **{
        f"{name}-flat-varied": partial(flat_varied, name, *_ANGLES[name])
        for name in ("half-cheetah", "walker2d")
    },
    **{f"{name}-climb": partial(climb, name, *_ANGLES[name]) for name in ("half-cheetah", "ant")},
    "half-cheetah-terrain": half_cheetah_terrain,
    **HILLS,
}
