"""Locomotion with a hidden goal: a speed, a direction or a place to run to."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.bodies import HALF_CHEETAH, Body
from metarl.envs.mujoco_engine import Columns, MujocoVectorEnv
from metarl.errors import check_at_least, check_names
from metarl.parameters import Choice, Parameter, Uniform
from metarl.tasks import TaskDistribution

Array = NDArray[Any]

HORIZON = 200
"""Steps of an episode in ProMP, PEARL, VariBAD and MAML; gymnasium's own bodies run 1000."""

FORWARD_OR_BACKWARD = Choice((1.0, -1.0))


def along(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward the speed along x in the task's direction, +1 or -1."""
    speed: Array = task["direction"] * velocities[:, 0]
    return speed


def at_speed(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward a speed along x close to the task's, in m/s."""
    closeness: Array = -np.abs(velocities[:, 0] - task["speed"])
    return closeness


def family(
    name: str,
    body: Body,
    parameters: Mapping[str, Parameter],
    *,
    horizon: int = HORIZON,
    splits: Mapping[str, Mapping[str, Parameter]] | None = None,
    description: str,
    **options: Any,
) -> TaskDistribution:
    """Declare a family of tasks for a robot.

    Args:
        name: The family's name.
        body: The robot.
        parameters: The law of every task parameter.
        horizon: The steps of an episode.
        splits: The shifted splits.
        description: One line for lists.
        options: Passed to :class:`MujocoVectorEnv`; ``allowed`` holds the parameters with all
            values that the environment can take, where these are more than the law's.
    """
    allowed = options.pop("allowed", parameters)
    check_at_least(1, horizon=horizon)
    return TaskDistribution(
        name=name,
        parameters=parameters,
        env_factory=partial(
            MujocoVectorEnv, body=body, parameters=allowed, horizon=horizon, **options
        ),
        shifted_splits=splits or {},
        episodes_per_trial=2,
        description=description,
    )


def _named(name: str, variant: str) -> str:
    check_names([variant], ["gymnasium", "rllab"], "variant")
    return name if variant == "gymnasium" else f"{name}-{variant}"


def _cheetah(variant: str) -> Body:
    frame_skip = 1 if variant == "rllab" else HALF_CHEETAH.frame_skip
    return replace(HALF_CHEETAH, frame_skip=frame_skip, control_cost=0.05)


def half_cheetah_dir(variant: str = "gymnasium", horizon: int = HORIZON) -> TaskDistribution:
    """Run forward or backward.

    Reward ``direction * v_x - 0.05 * sum(action^2)``: Finn et al. 2017 (MAML), Rothfuss et al.
    2019 (ProMP), Rakelly et al. 2019 (PEARL), Zintgraf et al. 2020 (VariBAD).

    Args:
        variant: "gymnasium" has control steps of 0.05 s (ProMP, PEARL, VariBAD), "rllab" of
            0.01 s (MAML): 200 steps last 2 s there, and returns do not compare. rllab itself
            also observes the torso's centre of mass and starts with less noise; here both
            variants have gymnasium's observation and start.
        horizon: The steps of an episode.
    """
    return family(
        _named("half-cheetah-dir", variant),
        _cheetah(variant),
        {"direction": FORWARD_OR_BACKWARD},
        progress=along,
        horizon=horizon,
        description="half-cheetah: run forward or backward",
    )


def half_cheetah_vel(
    max_speed: float | None = None, variant: str = "gymnasium", horizon: int = HORIZON
) -> TaskDistribution:
    """Run at a given speed.

    Reward ``-|v_x - speed| - 0.05 * sum(action^2)`` with ``speed ~ U(0, max_speed)``.

    Args:
        max_speed: In m/s. None takes the variant's: 3 (ProMP, PEARL, VariBAD) or 2 (MAML).
        variant: As in :func:`half_cheetah_dir`.
        horizon: The steps of an episode.
    """
    if max_speed is None:
        max_speed = 2.0 if variant == "rllab" else 3.0
    return family(
        _named("half-cheetah-vel", variant),
        _cheetah(variant),
        {"speed": Uniform(0.0, max_speed)},
        progress=at_speed,
        horizon=horizon,
        description=f"half-cheetah: run at a speed between 0 and {max_speed:g} m/s",
    )


LOCOMOTION: dict[str, Callable[..., TaskDistribution]] = {
    "half-cheetah-dir": half_cheetah_dir,
    "half-cheetah-vel": half_cheetah_vel,
    "half-cheetah-dir-rllab": partial(half_cheetah_dir, variant="rllab"),
    "half-cheetah-vel-rllab": partial(half_cheetah_vel, variant="rllab"),
}
