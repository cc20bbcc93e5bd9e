"""Gymnasium's robots as data: observation, reward weights, health and start of the v5 bodies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = Mapping[str, Array]
"""Fields of ``mujoco.MjData`` by name, each of shape (n, ...)."""


def never_falls(state: State) -> Array:
    """Call every robot healthy: episodes end only with the horizon."""
    return np.ones(len(state["qpos"]), dtype=np.bool_)


def _root_x(state: State) -> Array:
    return state["qpos"][:, :1]


def _root_xy(state: State) -> Array:
    return state["qpos"][:, :2]


def _torso_xy(state: State) -> Array:
    # The body's frame, not the joint: MuJoCo computes it before the last substep is integrated,
    # and gymnasium measures the ant's speed there.
    return state["xpos"][:, 1, :2]


def _mass_centre_xy(state: State) -> Array:
    return state["subtree_com"][:, 0, :2]


@dataclass(frozen=True)
class Body:
    """One of gymnasium's robots, read from the XML that gymnasium ships.

    Attributes:
        xml: The file in gymnasium's ``envs/mujoco/assets``.
        frame_skip: Simulator steps per control step.
        hidden: How many leading positions are left out of the observation.
        reset_noise: The start state's deviation from the model's: positions are uniform in
            +-reset_noise.
        normal_velocities: Whether start velocities are normal with that deviation rather than
            uniform.
        velocity_clip: Velocities are clipped to this magnitude in the observation.
        extras: Derived fields that end the observation, each with the number of its leading rows
            that are left out.
        position: Where the robot is, as (n, 1) or (n, 2) metres: its change gives the speed.
        needs: The derived fields that ``position`` reads.
        healthy: Which robots have not fallen, as (n,) booleans. An episode ends with a fall.
        speed_weight: The weight of the part of the reward that the task determines, which is a
            speed in m/s for gymnasium's own task.
        healthy_reward: The reward for each step without a fall.
        control_cost: The cost of the sum of squared actions.
    """

    xml: str
    frame_skip: int
    hidden: int
    reset_noise: float
    position: Callable[[State], Array]
    normal_velocities: bool = False
    velocity_clip: float | None = None
    extras: tuple[tuple[str, int], ...] = ()
    needs: tuple[str, ...] = ()
    healthy: Callable[[State], Array] = never_falls
    speed_weight: float = 1.0
    healthy_reward: float = 0.0
    control_cost: float = 0.0


def _ant_stands(state: State) -> Array:
    z = state["qpos"][:, 2]
    return (z >= 0.2) & (z <= 1.0)


def _hopper_stands(state: State) -> Array:
    z, angle = state["qpos"][:, 1], state["qpos"][:, 2]
    # All positions after x and z, and all velocities, lie within +-100.
    sane = (np.abs(state["qpos"][:, 2:]) < 100.0).all(1) & (np.abs(state["qvel"]) < 100.0).all(1)
    return sane & (z > 0.7) & (np.abs(angle) < 0.2)


def _walker_stands(state: State) -> Array:
    z, angle = state["qpos"][:, 1], state["qpos"][:, 2]
    return (z > 0.8) & (z < 2.0) & (np.abs(angle) < 1.0)


def _humanoid_stands(state: State) -> Array:
    z = state["qpos"][:, 2]
    return (z > 1.0) & (z < 2.0)


HALF_CHEETAH = Body(
    xml="half_cheetah.xml",
    frame_skip=5,
    hidden=1,
    reset_noise=0.1,
    normal_velocities=True,
    position=_root_x,
    control_cost=0.1,
)
ANT = Body(
    xml="ant.xml",
    frame_skip=5,
    hidden=2,
    reset_noise=0.1,
    normal_velocities=True,
    position=_torso_xy,
    needs=("xpos",),
    healthy=_ant_stands,
    healthy_reward=1.0,
    control_cost=0.5,
)
HOPPER = Body(
    xml="hopper.xml",
    frame_skip=4,
    hidden=1,
    reset_noise=5e-3,
    velocity_clip=10.0,
    position=_root_x,
    healthy=_hopper_stands,
    healthy_reward=1.0,
    control_cost=1e-3,
)
WALKER2D = Body(
    xml="walker2d_v5.xml",
    frame_skip=4,
    hidden=1,
    reset_noise=5e-3,
    velocity_clip=10.0,
    position=_root_x,
    healthy=_walker_stands,
    healthy_reward=1.0,
    control_cost=1e-3,
)
SWIMMER = Body(
    xml="swimmer.xml",
    frame_skip=4,
    hidden=2,
    reset_noise=0.1,
    position=_root_xy,
    control_cost=1e-4,
)
HUMANOID = Body(
    xml="humanoid.xml",
    frame_skip=5,
    hidden=2,
    reset_noise=1e-2,
    extras=(("cinert", 1), ("cvel", 1), ("qfrc_actuator", 6)),
    position=_mass_centre_xy,
    needs=("subtree_com",),
    healthy=_humanoid_stands,
    speed_weight=1.25,
    healthy_reward=5.0,
    control_cost=0.1,
)
