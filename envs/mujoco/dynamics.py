"""Locomotion with hidden dynamics: masses, joints, motors, loads and floors that differ."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.mujoco.bodies import HALF_CHEETAH, HOPPER, WALKER2D, Body
from metarl.envs.mujoco.engine import Columns, ModelFields
from metarl.envs.mujoco.locomotion import HORIZON, family
from metarl.parameters import Choice, LogUniform, Uniform

Array = NDArray[Any]

MOTORS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
"""The half-cheetah's motors in the order of its actions: back leg, then front leg."""

_PAYLOAD_RADIUS = 0.08  # metres


def scale_parameters(fields: ModelFields, task: Columns) -> None:
    """Multiply masses, inertias, dampings and frictions by the task's factors."""
    model, ones = fields.model, np.ones(len(task["mass"]))
    first_hinge = model.nv - task["damping"].shape[1]  # the joints of the root have no damping

    mass = np.multiply.outer(ones, model.body_mass)
    mass[:, 1:] *= task["mass"]  # body 0 is the world
    fields.write("body_mass", mass)

    inertia = np.multiply.outer(ones, model.body_inertia)
    inertia[:, 1:] *= task["inertia"][:, :, None]
    fields.write("body_inertia", inertia)

    damping = np.multiply.outer(ones, model.dof_damping)
    damping[:, first_hinge:] *= task["damping"]
    fields.write("dof_damping", damping, constants_follow=False)

    friction = np.multiply.outer(ones, model.geom_friction)
    friction[:, :, 0] *= task["friction"]
    fields.write("geom_friction", friction, constants_follow=False)


def set_motors(fields: ModelFields, task: Columns) -> None:
    """Multiply the gear of each motor by its strength; a dead motor's becomes zero."""
    strength = task["strength"] * (task["dead"][:, None] != np.array(MOTORS))
    fields.write("actuator_gear", fields.model.actuator_gear * strength[:, :, None])


def set_payload(fields: ModelFields, task: Columns) -> None:
    """Set the mass in kg and the place in m of the last body, a ball on the torso."""
    model, mass = fields.model, task["mass"]
    masses = np.repeat(model.body_mass[None], len(mass), axis=0)
    masses[:, -1] = mass
    inertias = np.repeat(model.body_inertia[None], len(mass), axis=0)
    inertias[:, -1] = 0.4 * mass[:, None] * _PAYLOAD_RADIUS**2  # of a solid ball
    places = np.repeat(model.body_pos[None], len(mass), axis=0)
    places[:, -1, 0] = task["place"]
    fields.write("body_mass", masses)
    fields.write("body_inertia", inertias)
    fields.write("body_pos", places)


def set_friction(fields: ModelFields, task: Columns) -> None:
    """Give all surfaces the task's coefficient of sliding friction.

    Setting that of the floor is not enough: a contact uses the greater of the two surfaces' ones.
    """
    friction = np.repeat(fields.model.geom_friction[None], len(task["friction"]), axis=0)
    friction[:, :, 0] = task["friction"][:, None]
    fields.write("geom_friction", friction, constants_follow=False)


def _add_payload(spec: Any) -> None:
    import mujoco

    ball = spec.body("torso").add_body(name="payload", pos=[0.0, 0.0, 0.1])
    ball.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[_PAYLOAD_RADIUS, 0.0, 0.0],
        mass=0.0,  # the default task carries nothing
        contype=0,
        conaffinity=0,
        rgba=[0.2, 0.3, 0.8, 1.0],
    )


def _random_parameters(name: str, body: Body, horizon: int) -> TaskDistribution:
    # Known beforehand, as a family is declared without loading the model.
    num_bodies, num_hinges = {"walker2d": (7, 6), "hopper": (4, 3)}[name]
    distribution = partial(LogUniform, 1.5**-3, 1.5**3, nominal=1.0)
    allowed = partial(LogUniform, 0.1, 10.0, nominal=1.0)
    shapes = {"mass": num_bodies, "inertia": num_bodies, "friction": num_bodies + 1}
    damping = LogUniform(1.3**-3, 1.3**3, (num_hinges,), nominal=1.0)
    return family(
        f"{name}-params",
        body,
        {**{key: distribution((size,)) for key, size in shapes.items()}, "damping": damping},
        allowed={
            **{key: allowed((size,)) for key, size in shapes.items()},
            "damping": allowed((num_hinges,)),
        },
        physics=scale_parameters,
        horizon=horizon,
        description=f"{name}: random masses, inertias, dampings and frictions",
        varying_factor="dynamics",
    )


def walker2d_params(horizon: int = HORIZON) -> TaskDistribution:
    """Walk with random masses, inertias, joint dampings and frictions.

    The distribution of rand_param_envs (used by PEARL and VariBAD): every element is multiplied by
    ``1.5^u`` (dampings: ``1.3^u``), ``u ~ U(-3, 3)``. Elements without any effect on a planar
    robot are left out: one factor scales the three inertias of a body, and only the sliding
    friction of a surface varies. Reward and end are gymnasium's.

    Args:
        horizon: The steps of an episode.
    """
    return _random_parameters("walker2d", WALKER2D, horizon)


def hopper_params(horizon: int = HORIZON) -> TaskDistribution:
    """Hop with random masses, inertias, joint dampings and frictions.

    As :func:`walker2d_params`.

    Args:
        horizon: The steps of an episode.
    """
    return _random_parameters("hopper", HOPPER, horizon)


def half_cheetah_motors(horizon: int = HORIZON) -> TaskDistribution:
    """Run forward with weak motors, of which one may be dead.

    Each motor's strength is U(0.3, 1) of its nominal one; one of the first five motors is dead,
    or none, all six cases being equally likely. Shifted splits: ``unseen_motor`` (that of the
    front foot is dead, which never happens in training, after Nagabandi et al. 2019) and ``weak``
    (strengths U(0.1, 0.3), none dead).
    Reward and end are gymnasium's.

    Args:
        horizon: The steps of an episode.
    """
    strength = Uniform(0.3, 1.0, (len(MOTORS),), nominal=1.0)
    return family(
        "half-cheetah-motors",
        HALF_CHEETAH,
        {"strength": strength, "dead": Choice(("none", *MOTORS[:-1]))},
        allowed={
            "strength": Uniform(0.0, 2.0, (len(MOTORS),), nominal=1.0),
            "dead": Choice(("none", *MOTORS)),
        },
        splits={
            "unseen_motor": {"dead": Choice((MOTORS[-1],))},
            "weak": {
                "strength": Uniform(0.1, 0.3, (len(MOTORS),)),
                "dead": Choice(("none",)),
            },
        },
        physics=set_motors,
        horizon=horizon,
        description="half-cheetah: weak motors, one of them dead",
        varying_factor="dynamics",
    )


def half_cheetah_payload(horizon: int = HORIZON) -> TaskDistribution:
    """Run forward with a load on the back.

    A ball of U(0, 5) kg (the robot has 14) sits on the torso, U(-0.5, 0.5) m from its middle.
    Shifted split: ``heavy``, U(5, 10) kg. Reward and end are gymnasium's.

    Args:
        horizon: The steps of an episode.
    """
    place = Uniform(-0.5, 0.5)
    return family(
        "half-cheetah-payload",
        HALF_CHEETAH,
        {"mass": Uniform(0.0, 5.0, nominal=0.0), "place": place},
        allowed={"mass": Uniform(0.0, 50.0, nominal=0.0), "place": place},
        splits={"heavy": {"mass": Uniform(5.0, 10.0)}},
        physics=set_payload,
        edit=_add_payload,
        horizon=horizon,
        description="half-cheetah: a load of up to 5 kg on the back",
        varying_factor="dynamics",
    )


def half_cheetah_friction(horizon: int = HORIZON) -> TaskDistribution:
    """Run forward on floors from ice to rubber.

    The coefficient of friction is log-uniform in [0.2, 1.6] (nominal 0.4). Shifted split:
    ``slippery``, [0.05, 0.2]. Reward and end are gymnasium's.

    Args:
        horizon: The steps of an episode.
    """
    return family(
        "half-cheetah-friction",
        HALF_CHEETAH,
        {"friction": LogUniform(0.2, 1.6, nominal=0.4)},
        allowed={"friction": Uniform(0.0, 10.0, nominal=0.4)},
        splits={"slippery": {"friction": LogUniform(0.05, 0.2)}},
        physics=set_friction,
        horizon=horizon,
        description="half-cheetah: floors from slippery to rough",
        varying_factor="dynamics",
    )


FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    "walker2d-params": walker2d_params,
    "hopper-params": hopper_params,
    "half-cheetah-motors": half_cheetah_motors,
    "half-cheetah-payload": half_cheetah_payload,
    "half-cheetah-friction": half_cheetah_friction,
}
