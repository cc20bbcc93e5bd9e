"""Robots on slopes, ramps and climbs: how the ground moves them, and on what they are evaluated."""

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")

from robots import one, random_actions

from metarl import Task, envs
from metarl.envs.mujoco.engine import MujocoVectorEnv
from metarl.envs.mujoco.ramps import Profile, ground
from metarl.seeding import ALL


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs its warnings in the present directory."""
    monkeypatch.chdir(tmp_path)


def turned_floor(degrees):
    """The same slope in the world: gravity straight down, and the floor turned."""
    half = -0.5 * np.deg2rad(degrees)

    def edit(spec):
        spec.geom("floor").quat = [np.cos(half), 0.0, np.sin(half), 0.0]

    return edit


@pytest.mark.parametrize("degrees", [-12.0, 7.0, 20.0])
def test_tilted_gravity_moves_the_robot_as_a_turned_floor_does(degrees):
    tilted = one("half-cheetah-slope", task={"degrees": degrees})
    turned = MujocoVectorEnv(1, tilted.body, parameters={}, edit=turned_floor(degrees))
    turned.reset(seed=0)
    angle = np.deg2rad(degrees)
    torso_height = 0.7  # of the joints' origin

    def to_world(qpos, qvel):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        qpos, qvel = qpos.copy(), qvel.copy()
        place = turn @ (qpos[0, :2] + [0.0, torso_height])
        qpos[0, :2] = place - [0.0, torso_height]
        qpos[0, 2] -= angle  # turning about y leans the nose down
        qvel[0, :2] = turn @ qvel[0, :2]
        return qpos, qvel

    state = tilted._state
    turned.set_state(ALL, *to_world(state["qpos"], state["qvel"]))
    for action in random_actions(tilted, 30):  # chaos amplifies rounding later on
        tilted.step(action)
        turned.step(action)
        qpos, qvel = to_world(state["qpos"], state["qvel"])
        np.testing.assert_allclose(turned._state["qpos"], qpos, atol=1e-6)
        np.testing.assert_allclose(turned._state["qvel"], qvel, atol=1e-4)
    assert np.abs(state["qpos"]).max() > 0.1


def test_the_slope_is_not_in_the_observation_but_in_what_follows():
    env = envs.make("ant-slope").make_vec(3)
    env.set_tasks([Task("ant-slope", {"degrees": d}) for d in (-15.0, 0.0, 15.0)])
    env.reset(seed=0)
    qpos = np.repeat(env.batch.model.qpos0[None], 3, axis=0)
    first = env.set_state(ALL, qpos, np.zeros((3, 14)))
    assert (first == first[0]).all()
    for _ in range(20):
        env.step(np.zeros((3, 8)))
    places = env._state["qpos"][:, 0]
    assert places[0] > places[1] > places[2]  # downhill is forward, uphill backward


def test_flat_ground_is_for_training_and_slopes_for_evaluation():
    flat, slope = envs.make("hopper-flat"), envs.make("hopper-slope")
    for split in ("train", "held_out"):
        assert not flat.sample(split, 50, 0).columns["degrees"].any()
    for split in ("uphill", "downhill", "steep"):
        assert flat.sampler(split).parameters == slope.sampler(split).parameters
    assert flat.sampler("gentle").parameters == slope.sampler("train").parameters
    assert flat.overlap("held_out") == "hopper-flat has a single task: it was seen in training"
    assert flat.overlap("uphill") is None
    env = flat.make_vec(3)
    env.set_tasks(flat.sample("steep", 3, 0))
    env.reset(seed=0)
    assert (env.batch.expand("opt.gravity")[:, 0] < 0.0).all()  # it leans back


TERRAINS = {"half-cheetah-terrain": 2.0, "half-cheetah-hills": 2.0, "walker2d-hills": 0.5}


@pytest.mark.parametrize(("name", "length"), TERRAINS.items())
def test_ramps_are_where_the_profile_says(name, length):
    family = envs.make(name)
    tasks = [family.sample(split, 1, 0)[0] for split in family.splits]
    env = family.make_vec(len(tasks))
    env.set_tasks(tasks)
    env.reset(seed=0)
    profiles = zip(*env._profile(env._columns))
    x = np.linspace(-20.0, 30.0, 401)
    origins = np.stack([x, np.full_like(x, 1.5), np.full_like(x, 20.0)], axis=1)  # beside the robot
    distances, _ = env.batch.ray(origins, [0.0, 0.0, -1.0])
    for (angles, start), distance in zip(profiles, distances):
        angles, starts = np.repeat([angles], len(x), axis=0), np.full(len(x), start)
        height, way = ground(x, angles, starts, length)
        np.testing.assert_allclose(20.0 - distance, height, atol=1e-9)
        steps = np.hypot(np.diff(x), np.diff(height))
        assert np.diff(way).sum() == pytest.approx(steps.sum(), abs=0.05)
    heights = {task_split: 20.0 - row for task_split, row in zip(family.splits, distances)}
    if name == "half-cheetah-terrain":
        assert heights["steep"][-1] == pytest.approx(18.0 * np.sin(np.deg2rad(12.5)), abs=0.1)
        assert heights["hill"][-1] == pytest.approx(0.0, abs=1e-9)
    else:
        assert heights["steep"].max() == pytest.approx(
            4 * length * np.sin(np.deg2rad(tasks[list(family.splits).index("steep")]["degrees"]))
        )
        np.testing.assert_allclose([row[-1] for row in heights.values()], 0.0, atol=1e-9)
        assert heights["valley"].min() < 0.0


def test_the_robot_stands_on_a_ramp_and_senses_its_height_above_it():
    env = one("half-cheetah-terrain", task={"angles": [10.0] * 9})
    qpos = np.zeros((1, 9))
    qpos[0, :3] = 6.0, 6.0 * np.sin(np.deg2rad(10.0)), -np.deg2rad(10.0)
    env.set_state(ALL, qpos, np.zeros((1, 9)))
    for _ in range(10):
        observations, *_ = env.step(np.zeros((1, 6)))
    assert env._state["qpos"][0, 1] > 0.5  # metres above the start
    assert abs(observations[0, 0]) < 0.3


def test_hills_are_ahead_and_steeper_than_in_training():
    for name, gentle, steep, steepest in (
        ("half-cheetah-hills", 8, 13, 18),
        ("walker2d-hills", 6, 10, 14),
    ):
        tasks = envs.make(name)
        bounds = {
            "train": (0, gentle),
            "held_out": (0, gentle),
            "flat": (0, 0),
            "steep": (gentle, steep),
            "steepest": (steep, steepest),
            "valley": (-gentle, 0),
        }
        for split, (low, high) in bounds.items():
            drawn = tasks.sample(split, 500, 0).columns
            assert low <= drawn["degrees"].min() <= drawn["degrees"].max() <= high
            assert drawn["start"].min() > 0.0


def test_a_walker_falls_by_its_height_above_the_hill():
    env = one("walker2d-hills", task={"degrees": 14.0, "start": 0.5})
    top = 2.0 * np.sin(np.deg2rad(14.0))  # four ramps of half a metre
    middle = 0.5 + 2.0 * np.cos(np.deg2rad(14.0)) + 0.25
    for height, falls in ((1.25 + top, False), (0.7 + top, True), (0.7, True)):
        qpos = np.zeros((1, 9))
        qpos[0, :2] = middle, height
        observations = env.set_state(ALL, qpos, np.zeros((1, 9)))
        assert observations[0, 0] == pytest.approx(height - top, abs=1e-6)
        state, task = env._select(ALL), env._rows(ALL)
        assert env._stand(state, task)[0] != falls


def test_profiles_contain_what_they_draw():
    distribution = Profile((1.0, 0.0, -1.0), 10.0, 11.0)
    drawn = distribution.sample(np.random.default_rng(0), 100)
    assert distribution.contains(drawn).all()
    assert not distribution.contains(-drawn).any()
    assert not distribution.contains(drawn + np.array([0.0, 1.0, 0.0])).any()
    assert np.abs(distribution.encode(drawn)).max() <= 1.0


@pytest.mark.parametrize("degrees", [-8.0, 8.0])
def test_climbing_is_paid_for_going_up_on_either_side(degrees):
    along = one("half-cheetah-slope", task={"degrees": degrees})
    climb = one("half-cheetah-climb", task={"degrees": degrees})
    for action in random_actions(along, 20):
        observations, rewards, *_ = along.step(action)
        same, paid, *_ = climb.step(action)
        np.testing.assert_array_equal(observations, same)
        cost = 0.1 * np.square(action).sum(axis=1)
        np.testing.assert_allclose(paid + cost, np.sign(degrees) * (rewards + cost), atol=1e-6)


def test_climbs_lie_on_both_sides_and_shifted_ones_are_steeper():
    tasks = envs.make("half-cheetah-climb")
    bounds = {"held_out": (1, 10), "uphill": (10, 15), "steep": (15, 20), "any": (1, 20)}
    for split, (low, high) in bounds.items():
        degrees = tasks.sample(split, 1000, 0).columns["degrees"]
        assert np.abs(degrees).min() >= low
        assert np.abs(degrees).max() <= high
        assert 400 < (degrees > 0.0).sum() < 600


def test_varied_bodies_on_level_ground_are_what_their_task_says():
    task = {"degrees": 30.0, "mass": 1.3, "strength": 0.8, "friction": 0.5}
    env = one("half-cheetah-flat-varied", task=task)
    model, nominal = env.batch.get_model(0), env.batch.model
    assert model.body_subtreemass[0] == pytest.approx(1.3 * nominal.body_subtreemass[0])
    np.testing.assert_allclose(model.body_inertia, 1.3 * nominal.body_inertia)
    np.testing.assert_allclose(model.actuator_gear, 0.8 * nominal.actuator_gear)
    np.testing.assert_allclose(model.geom_friction[:, 0], 0.5 * nominal.geom_friction[:, 0])
    np.testing.assert_allclose(model.opt.gravity, 9.81 * np.array([-0.5, 0.0, -np.sqrt(0.75)]))
    tasks = envs.make("half-cheetah-flat-varied")
    assert not tasks.sample("held_out", 50, 0).columns["degrees"].any()
    uphill = tasks.sample("uphill", 50, 0).columns
    assert uphill["degrees"].min() >= 10.0
    assert np.ptp(uphill["mass"]) > 0.5


def test_pictures_show_the_slope():
    level, uphill = (
        one("half-cheetah-slope", task={"degrees": d}, render_mode="rgb_array") for d in (0.0, 15.0)
    )
    try:
        frames = [env.render()[0].astype(float) for env in (level, uphill)]
    except RuntimeError as error:
        pytest.skip(str(error))
    finally:
        level.close()
        uphill.close()
    sky = [frame.std(axis=2) < 1.0 for frame in frames]  # grey, above a greenish floor

    def horizon(column, grey):
        return int(np.argmin(grey[:, column]))

    assert horizon(5, sky[0]) == horizon(-5, sky[0])
    assert horizon(5, sky[1]) > horizon(-5, sky[1]) + 50  # rows count from the top


def test_pictures_show_the_floor_wherever_a_robot_is():
    env = one("half-cheetah-slope", task={"degrees": 0.0}, render_mode="rgb_array")
    near, far = env._state["qpos"].copy(), env._state["qpos"].copy()
    far[:, 0] += 400.0  # the floor of gymnasium's file is drawn for 40 m
    frames = []
    try:
        for qpos in (near, far):
            env.set_state(slice(None), qpos, env._state["qvel"].copy())
            frames.append(env.render()[0][-40:].astype(float))
    except RuntimeError as error:
        pytest.skip(str(error))
    finally:
        env.close()
    assert [frame.std() > 30.0 for frame in frames] == [True, True]  # black and green tiles
