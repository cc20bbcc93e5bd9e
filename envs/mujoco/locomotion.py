"""Locomotion with a hidden goal: a speed, a direction or a place to run to."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.mujoco.bodies import ANT, HALF_CHEETAH, HUMANOID, Body, never_falls
from metarl.envs.mujoco.engine import Columns, MujocoVectorEnv
from metarl.errors import check_at_least, check_names
from metarl.parameters import Choice, Parameter, Uniform
from metarl.splits import TaskSampler

Array = NDArray[Any]

HORIZON = 200
"""Steps of an episode in ProMP, PEARL, VariBAD and MAML; gymnasium's own run 1000."""

FORWARD_OR_BACKWARD = Choice((1.0, -1.0))
COMPASS = Uniform(0.0, 2.0 * math.pi, nominal=0.0)


def along(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward the speed along x in the task's direction, +1 or -1."""
    speed: Array = task["direction"] * velocities[:, 0]
    return speed


def at_speed(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward a speed along x close to the task's, in m/s."""
    closeness: Array = -np.abs(velocities[:, 0] - task["speed"])
    return closeness


def towards(velocities: Array, positions: Array, task: Columns) -> Array:
    """Reward the speed towards the task's compass angle, in radians from the x axis."""
    angle = task["angle"]
    speed: Array = np.cos(angle) * velocities[:, 0] + np.sin(angle) * velocities[:, 1]
    return speed


def near(velocities: Array, positions: Array, task: Columns) -> Array:
    """Penalize the distance to the task's goal, summed over both axes, in metres."""
    closeness: Array = -np.abs(positions - task["goal"]).sum(axis=1)
    return closeness


@dataclass(frozen=True)
class Disc(Parameter):
    """Points in the plane, drawn uniformly from a disc around the origin.

    Attributes:
        radius: In metres. The default point lies on the rim, straight ahead along x.
    """

    radius: float
    shape: tuple[int, ...] = (2,)

    @property
    def default(self) -> Any:
        return [self.radius, 0.0]

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        radius = self.radius * np.sqrt(rng.uniform(size=num_tasks))
        angle = rng.uniform(0.0, 2.0 * math.pi, num_tasks)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def contains(self, values: Array) -> NDArray[np.bool_]:
        # A point on the rim may miss it by an ulp.
        inside: NDArray[np.bool_] = np.linalg.norm(values, axis=1) <= self.radius * (1 + 1e-12)
        return inside

    def encode(self, values: Array) -> NDArray[np.float32]:
        return (values / self.radius).astype(np.float32)


def family(
    name: str,
    body: Body,
    parameters: Mapping[str, Parameter],
    *,
    description: str,
    varying_factor: str = "goal",
    horizon: int = HORIZON,
    allowed: Mapping[str, Parameter] | None = None,
    splits: Mapping[str, TaskSampler | Mapping[str, Parameter]] | None = None,
    shares_tasks: bool = False,
    env_class: type[MujocoVectorEnv] = MujocoVectorEnv,
    **options: Any,
) -> TaskDistribution:
    """Declare a family of tasks for a robot.

    Args:
        name: The family's name.
        body: The robot.
        parameters: The distribution of every task parameter.
        description: One line for lists.
        varying_factor: What differs between tasks, in a word.
        horizon: The steps of an episode.
        allowed: The parameters with all values that the environment accepts, where these are
            more than those in ``parameters``.
        splits: The splits, as in :class:`~metarl.TaskDistribution`.
        shares_tasks: Whether training and evaluation use the same tasks on purpose.
        env_class: The environment, a :class:`MujocoVectorEnv`.
        options: Passed to the environment.
    """
    check_at_least(1, horizon=horizon)
    return TaskDistribution(
        name=name,
        parameters=parameters,
        env_factory=partial(
            env_class, body=body, parameters=allowed or parameters, horizon=horizon, **options
        ),
        splits=splits or {},
        shares_tasks=shares_tasks,
        episodes_per_trial=2,
        simulator="mujoco",
        description=description,
        varying_factor=varying_factor,
        built_in=True,
    )


def _named(name: str, variant: str) -> str:
    check_names([variant], ["gymnasium", "rllab"], "variant")
    return name if variant == "gymnasium" else f"{name}-{variant}"


def _like(variant: str) -> str:
    return "" if variant == "gymnasium" else f", as in {variant}"


def _cheetah(variant: str) -> Body:
    frame_skip = 1 if variant == "rllab" else HALF_CHEETAH.frame_skip
    return replace(HALF_CHEETAH, frame_skip=frame_skip, control_cost=0.05)


def half_cheetah_dir(variant: str = "gymnasium", horizon: int = HORIZON) -> TaskDistribution:
    """Run forward or backward: two tasks for training and evaluation, as in the sources.

    Reward ``direction * v_x - 0.05 * sum(action^2)``: Finn et al. 2017 (MAML), Rothfuss et al.
    2019 (ProMP), Rakelly et al. 2019 (PEARL), Zintgraf et al. 2020 (VariBAD).

    Args:
        variant: "gymnasium" has control steps of 0.05 s (ProMP, PEARL, VariBAD), "rllab" of
            0.01 s (MAML): 200 steps last 2 s there, and returns do not compare. rllab itself
            also observes the torso's centre of mass and starts with less noise; here both
            variants have gymnasium's observation and start state.
        horizon: The steps of an episode.
    """
    return family(
        _named("half-cheetah-dir", variant),
        _cheetah(variant),
        {"direction": FORWARD_OR_BACKWARD},
        shares_tasks=True,
        progress=along,
        horizon=horizon,
        description=f"half-cheetah: run forward or backward{_like(variant)}",
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
        description=f"half-cheetah: run at a speed between 0 and {max_speed:g} m/s{_like(variant)}",
    )


def _ant(variant: str) -> Body:
    """Return the ant with MAML's weights, and with rllab's control step in that variant."""
    frame_skip = 2 if variant == "rllab" else ANT.frame_skip
    return replace(ANT, frame_skip=frame_skip, healthy_reward=0.05, control_cost=0.005)


def ant_dir(
    variant: str = "gymnasium", any_direction: bool = False, horizon: int = HORIZON
) -> TaskDistribution:
    """Run forward or backward on four legs, or towards any compass angle.

    Reward ``v . direction + healthy - cost * sum(action^2)``; an episode ends when the torso's
    height leaves [0.2, 1.0] m. The sources charge for contact forces too; ProMP has no lower
    bound on the height; VariBAD's two tasks are +-1 radian, as it reads its +-1 as an angle.

    Args:
        variant: "gymnasium" has healthy 1, cost 0.5 and control steps of 0.05 s (ProMP, PEARL,
            VariBAD); "rllab" has healthy 0.05, cost 0.005 and control steps of 0.02 s (MAML).
        any_direction: Whether the direction is uniform on the circle (PEARL) rather than forward
            or backward.
        horizon: The steps of an episode.
    """
    body = _ant(variant) if variant == "rllab" else ANT
    if any_direction:
        return family(
            _named("ant-dir-2d", variant),
            body,
            {"angle": COMPASS},
            progress=towards,
            horizon=horizon,
            description="ant: run towards a compass angle",
        )
    return family(
        _named("ant-dir", variant),
        body,
        {"direction": FORWARD_OR_BACKWARD},
        shares_tasks=True,
        progress=along,
        horizon=horizon,
        description=f"ant: run forward or backward{_like(variant)}",
    )


def ant_vel(
    max_speed: float = 3.0, variant: str = "gymnasium", horizon: int = HORIZON
) -> TaskDistribution:
    """Run at a given speed on four legs.

    Reward ``1 - |v_x - speed| + 0.05 - 0.005 * sum(action^2)`` with ``speed ~ U(0, max_speed)``
    (MAML); ends as in :func:`ant_dir`.

    Args:
        max_speed: In m/s.
        variant: "gymnasium" has control steps of 0.05 s, "rllab" of 0.02 s (MAML).
        horizon: The steps of an episode.
    """
    return family(
        _named("ant-vel", variant),
        _ant(variant),
        {"speed": Uniform(0.0, max_speed)},
        progress=_at_speed_plus_one,
        horizon=horizon,
        description=f"ant: run at a speed between 0 and {max_speed:g} m/s{_like(variant)}",
    )


def _at_speed_plus_one(velocities: Array, positions: Array, task: Columns) -> Array:
    # If an episode can end early, negative rewards would reward falling.
    return 1.0 + at_speed(velocities, positions, task)


def ant_goal(radius: float = 3.0, horizon: int = HORIZON) -> TaskDistribution:
    """Run to a hidden goal and stay there.

    Reward ``-|x - goal_x| - |y - goal_y| - 0.1 * sum(action^2)``, goals uniform in a disc; the
    ant observes where it is (x and y come first in its observation), and falls do not end the
    episode (PEARL, VariBAD, which charge for contact forces too).

    Args:
        radius: The disc's, in metres.
        horizon: The steps of an episode.
    """
    body = replace(ANT, hidden=0, healthy=never_falls, healthy_reward=0.0, control_cost=0.1)
    return family(
        "ant-goal",
        body,
        {"goal": Disc(radius)},
        progress=near,
        horizon=horizon,
        description=f"ant: run to a goal at most {radius:g} m away",
    )


def humanoid_dir(horizon: int = HORIZON) -> TaskDistribution:
    """Run towards a compass angle, drawn uniformly from the whole circle (PEARL).

    Reward ``1.25 * (v . direction) + 5 - 0.1 * sum(action^2)``, v being the speed of the centre of
    mass; ends when the height of the torso leaves (1, 2) m. The default task is gymnasium's.

    Args:
        horizon: The steps of an episode.
    """
    return family(
        "humanoid-dir",
        HUMANOID,
        {"angle": COMPASS},
        progress=towards,
        horizon=horizon,
        description="humanoid: run towards a compass angle",
    )


FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    "half-cheetah-dir": half_cheetah_dir,
    "half-cheetah-vel": half_cheetah_vel,
    "half-cheetah-dir-rllab": partial(half_cheetah_dir, variant="rllab"),
    "half-cheetah-vel-rllab": partial(half_cheetah_vel, variant="rllab"),
    "ant-dir": ant_dir,
    "ant-dir-2d": partial(ant_dir, any_direction=True),
    "ant-vel": ant_vel,
    "ant-dir-rllab": partial(ant_dir, variant="rllab"),
    "ant-vel-rllab": partial(ant_vel, variant="rllab"),
    "ant-goal": ant_goal,
    "humanoid-dir": humanoid_dir,
}
