"""Robots with a task in every simulation: goals, hidden dynamics, slopes and terrain."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")

import mujoco
from mujoco.batch import SimulationError

from metarl import Task, check_tasks, envs
from metarl.envs.dynamics import DYNAMICS
from metarl.envs.locomotion import LOCOMOTION, Disc, half_cheetah_vel
from metarl.envs.mujoco_engine import MujocoVectorEnv
from metarl.envs.ramps import Profile, ground
from metarl.seeding import ALL


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs its warnings in the present directory."""
    monkeypatch.chdir(tmp_path)


def one(family, **options):
    """A batch of one, reset, with or without a task."""
    task = options.pop("task", None)
    env = envs.make(family).make_vec(options.pop("num_envs", 1), **options)
    if task is not None:
        env.set_tasks([Task(family, task)] * env.num_envs)
    env.reset(seed=0)
    return env


def random_actions(env, num_steps, seed=0):
    rng = np.random.default_rng(seed)
    space = env.action_space
    return rng.uniform(space.low, space.high, (num_steps, *space.shape)).astype(np.float32)


# The slopes differ in the body only; a ramp must be reached to matter.
@pytest.mark.parametrize(
    "name", [*LOCOMOTION, *DYNAMICS, "half-cheetah-slope", "half-cheetah-terrain"]
)
def test_families_pass_the_check(name):
    check_tasks(envs.make(name), num_steps=200 if name.endswith("terrain") else 24)


def test_importing_the_families_loads_no_simulator():
    code = "import sys, metarl.envs; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_old_mujoco_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    family = envs.make("half-cheetah-dir")
    assert family.sample("train", 3, 0)
    with pytest.raises(ImportError, match=r"MuJoCo 3\.17 or newer.*pip install 'mujoco>=3\.17'"):
        family.make_vec(1)


# Goals.


def test_rewards_follow_their_formulas():
    actions = np.full((1, 6), 0.5)
    effort = 0.05 * 6 * 0.25
    for family, task, expected in [
        ("half-cheetah-dir", {"direction": -1.0}, lambda v: -v - effort),
        ("half-cheetah-vel", {"speed": 1.7}, lambda v: -abs(v - 1.7) - effort),
        ("half-cheetah-vel-rllab", {"speed": 0.4}, lambda v: -abs(v - 0.4) - effort),
    ]:
        env = one(family, task=task)
        before = env._state["qpos"][0, 0]
        _, rewards, *_ = env.step(actions)
        speed = (env._state["qpos"][0, 0] - before) / (0.01 if "rllab" in family else 0.05)
        assert rewards[0] == pytest.approx(expected(speed), abs=1e-12)


def test_ant_goal_sees_its_place_and_is_paid_for_closeness():
    env = one("ant-goal", task={"goal": [1.0, -2.0]})
    observations, rewards, *_ = env.step(np.zeros((1, 8)))
    assert observations.shape == (1, 29)
    torso = env._state["xpos"][0, 1, :2]  # one substep behind the observed joint
    np.testing.assert_allclose(observations[0, :2], torso, atol=0.05)
    assert rewards[0] == pytest.approx(-abs(torso[0] - 1.0) - abs(torso[1] + 2.0))


def test_goals_fill_their_disc_evenly():
    goals = Disc(3.0).sample(np.random.default_rng(0), 20_000)
    radii = np.linalg.norm(goals, axis=1)
    assert radii.max() <= 3.0
    assert np.mean(radii < 1.5) == pytest.approx(0.25, abs=0.01)
    assert Disc(3.0).contains(goals).all()
    assert not Disc(3.0).contains(np.array([[3.0, 0.1]])).any()


def test_variants_are_arguments():
    assert half_cheetah_vel(max_speed=2.0).parameters["speed"].high == 2.0
    assert envs.make("half-cheetah-vel-rllab").parameters["speed"].high == 2.0
    assert one("half-cheetah-dir-rllab").dt == pytest.approx(0.01)
    assert one("ant-vel-rllab").dt == pytest.approx(0.02)
    with pytest.raises(ValueError, match="unknown variant 'rlab'; did you mean 'rllab'"):
        half_cheetah_vel(variant="rlab")


def test_two_directions_are_trained_and_judged_on_which_is_declared():
    for name in ("half-cheetah-dir", "half-cheetah-dir-rllab", "ant-dir", "ant-dir-rllab"):
        family = envs.make(name)
        assert family.num_tasks("held_out") == 2
        assert family.overlap("held_out") == f"{name} is judged on the 2 tasks that it trains on"
    assert envs.make("ant-dir-2d").overlap("held_out") is None


# Dynamics.


def test_a_dead_motor_is_as_good_as_no_torque():
    dead = one("half-cheetah-motors", task={"strength": [1.0] * 6, "dead": "bfoot"})
    weak = one("half-cheetah-motors", task={"strength": [1.0, 1.0, 0.5, 1, 1, 1], "dead": "none"})
    whole = one("half-cheetah-motors")
    for action in random_actions(whole, 20):
        silent, halved = action.copy(), action.copy()
        silent[:, 2] = 0.0
        halved[:, 2] *= 0.5
        state = whole._state["qpos"].copy(), whole._state["qvel"].copy()
        moves = []
        for env, torque in [(dead, action), (whole, silent), (weak, action), (whole, halved)]:
            env.set_state(ALL, *state)
            moves.append(env.step(torque)[0])
        np.testing.assert_array_equal(moves[0], moves[1])
        np.testing.assert_allclose(moves[2], moves[3], atol=1e-6)


def test_random_parameters_reach_the_models_and_do_not_pile_up():
    env = one("walker2d-params", num_envs=2)
    family = envs.make("walker2d-params")
    nominal = env.batch.model
    for seed in (1, 2):  # the second draw must replace the first, not multiply it
        tasks = family.sample("train", 2, seed)
        env.set_tasks(tasks)
    for i, task in enumerate(tasks):
        model = env.batch.get_model(i)
        np.testing.assert_allclose(model.body_mass[1:] / nominal.body_mass[1:], task["mass"])
        np.testing.assert_allclose(model.dof_damping[3:] / nominal.dof_damping[3:], task["damping"])
        ratio = model.geom_friction[:, 0] / nominal.geom_friction[:, 0]
        np.testing.assert_allclose(ratio, task["friction"])
        # Constants that MuJoCo derives from masses have followed.
        fresh = env.batch.get_model(i)
        mujoco.mj_setConst(fresh, mujoco.MjData(fresh))
        np.testing.assert_allclose(model.body_subtreemass, fresh.body_subtreemass)
        np.testing.assert_allclose(model.dof_invweight0, fresh.dof_invweight0)
    assert np.all(np.array(tasks[0]["damping"]) <= 1.3**3)


def test_a_payload_weighs():
    env = one("half-cheetah-payload", task={"mass": 3.0, "place": 0.4})
    model = env.batch.get_model(0)
    assert model.body_subtreemass[0] == pytest.approx(14.0 + 3.0)
    assert model.body_pos[-1, 0] == 0.4


# Slopes and terrain.


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


def test_flat_ground_is_for_training_and_slopes_for_judging():
    flat, slope = envs.make("hopper-flat"), envs.make("hopper-slope")
    for split in ("train", "held_out"):
        assert not flat.sample(split, 50, 0).columns["degrees"].any()
    for split in ("uphill", "downhill", "steep"):
        assert flat.law(split).parameters == slope.law(split).parameters
    assert flat.law("gentle").parameters == slope.law("train").parameters
    assert flat.overlap("held_out") == "hopper-flat has a single task: it was seen in training"
    assert flat.overlap("uphill") is None
    env = flat.make_vec(3)
    env.set_tasks(flat.sample("steep", 3, 0))
    env.reset(seed=0)
    assert (env.batch.expand("opt.gravity")[:, 0] < 0.0).all()  # it leans back


def test_ramps_are_where_the_profile_says():
    family = envs.make("half-cheetah-terrain")
    tasks = [family.sample(split, 1, 0)[0] for split in family.splits]
    env = family.make_vec(len(tasks))
    env.set_tasks(tasks)
    env.reset(seed=0)
    x = np.linspace(-20.0, 30.0, 401)
    origins = np.stack([x, np.full_like(x, 1.5), np.full_like(x, 20.0)], axis=1)  # beside the robot
    distances, _ = env.batch.ray(origins, [0.0, 0.0, -1.0])
    for task, distance in zip(tasks, distances):
        height, way = ground(x, np.repeat([task["angles"]], len(x), axis=0))
        np.testing.assert_allclose(20.0 - distance, height, atol=1e-9)
        steps = np.hypot(np.diff(x), np.diff(height))
        assert np.diff(way).sum() == pytest.approx(steps.sum(), abs=0.05)
    heights = {task_split: 20.0 - row[-1] for task_split, row in zip(family.splits, distances)}
    assert heights["steep"] == pytest.approx(18.0 * np.sin(np.deg2rad(12.5)), abs=0.1)
    assert heights["hill"] == pytest.approx(0.0, abs=1e-9)


def test_the_robot_stands_on_a_ramp_and_senses_its_height_above_it():
    env = one("half-cheetah-terrain", task={"angles": [10.0] * 9})
    qpos = np.zeros((1, 9))
    qpos[0, :3] = 6.0, 6.0 * np.sin(np.deg2rad(10.0)), -np.deg2rad(10.0)
    env.set_state(ALL, qpos, np.zeros((1, 9)))
    for _ in range(10):
        observations, *_ = env.step(np.zeros((1, 6)))
    assert env._state["qpos"][0, 1] > 0.5  # metres above the start
    assert abs(observations[0, 0]) < 0.3


def test_profiles_contain_what_they_draw():
    law = Profile((1.0, 0.0, -1.0), 10.0, 11.0)
    drawn = law.sample(np.random.default_rng(0), 100)
    assert law.contains(drawn).all()
    assert not law.contains(-drawn).any()
    assert not law.contains(drawn + np.array([0.0, 1.0, 0.0])).any()
    assert np.abs(law.encode(drawn)).max() <= 1.0


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


# Trouble.


@pytest.mark.parametrize(
    ("family", "task", "message"),
    [
        ("half-cheetah-slope", {"degrees": 95.0}, r"degrees=95\.0 is not allowed"),
        ("half-cheetah-payload", {"mass": -1.0, "place": 0.0}, r"mass=-1\.0 is not allowed"),
        ("half-cheetah-slope", {"degree": 5.0}, "did you mean 'degrees'"),
        ("half-cheetah-vel", {"speed": float("nan")}, "is not allowed"),
        ("hopper-params", {"mass": [1.0] * 4}, "lack the parameter"),
        (
            "half-cheetah-motors",
            {"strength": [1.0] * 6, "dead": "tail"},
            "dead=tail is not",
        ),
    ],
)
def test_bad_tasks_are_refused(family, task, message):
    env = envs.make(family).make_vec(1)
    with pytest.raises(ValueError, match=message):
        env.set_tasks([Task(family, task)])


def test_tasks_beyond_the_law_but_within_reason_are_accepted():
    assert one("half-cheetah-slope", task={"degrees": 35.0}).tasks[0]["degrees"] == 35.0


@pytest.mark.parametrize("speed", [1e12, np.nan, 1e7])
def test_a_simulation_that_blows_up_ends_alone(speed):
    env = envs.make("half-cheetah-vel").make_vec(3)
    env.set_tasks([Task("half-cheetah-vel", {"speed": s}) for s in (0.5, 1.5, 2.5)])
    env.reset(seed=0)
    calm = envs.make("half-cheetah-vel").make_vec(3)
    calm.set_tasks(env.tasks)
    calm.reset(seed=0)
    actions = random_actions(env, 5)
    for action in actions[:2]:
        env.step(action)
        calm.step(action)
    env._state["qvel"][1, 3] = speed
    message = r"blew up in step 3 of an episode of Task\(.*speed=1\.5\) \(sub-environment 1\)"
    with pytest.warns(RuntimeWarning, match=message):
        observations, rewards, terminated, truncated, info = env.step(actions[2])
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert rewards[1] == 0.0
    for rows in (observations, rewards, info["final_obs"]):
        assert np.isfinite(rows).all()
    expected = calm.step(actions[2])
    for action in actions[3:]:  # all go on, the two others as if nothing had happened
        np.testing.assert_array_equal(observations[[0, 2]], expected[0][[0, 2]])
        observations, expected = env.step(action)[0], calm.step(action)
        assert np.isfinite(observations).all()


def test_a_velocity_that_the_observation_clips_is_seen():
    env = one("walker2d-slope")
    env._state["qvel"][0, 0] = 1e8
    with pytest.warns(RuntimeWarning, match="blew up in step 1 of"):
        _, rewards, *_ = env.step(np.zeros((1, 6)))
    assert rewards[0] == 0.0


def test_an_error_raised_by_mujoco_ends_that_episode(monkeypatch):
    env = one("half-cheetah-dir", num_envs=3)
    step = env.batch.step

    def failing(ids=None, nstep=1):
        step(ids, nstep)
        raise SimulationError(np.array([2]), "out of memory")

    monkeypatch.setattr(env.batch, "step", failing)
    with pytest.warns(RuntimeWarning, match="sub-environment 2"):
        _, _, terminated, _, _ = env.step(np.zeros((3, 6)))
    assert terminated.tolist() == [False, False, True]


def test_actions_that_are_not_finite_are_refused():
    env = one("half-cheetah-dir")
    with pytest.raises(ValueError, match="actions must be finite"):
        env.step(np.full((1, 6), np.nan))


def test_resting_robots_are_left_alone():
    env, twin = one("hopper-params", num_envs=4), one("hopper-params", num_envs=4)
    active = np.array([True, False, True, False])
    for action in random_actions(env, 80):  # long enough for falls and restarts
        before = env.batch.state.copy()
        rows = env.step(action, active)
        expected = twin.step(action)
        np.testing.assert_array_equal(env.batch.state[~active], before[~active])
        np.testing.assert_array_equal(rows[0][active], expected[0][active])
        np.testing.assert_array_equal(rows[1][active], expected[1][active])
        assert not rows[0][~active].any()


def test_an_episode_is_as_long_as_the_horizon():
    env = one("half-cheetah-dir", horizon=5)
    ends = [env.step(np.zeros((1, 6)))[3][0] for _ in range(10)]
    assert ends == [False] * 4 + [True] + [False] * 4 + [True]
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        half_cheetah_vel(horizon=0)


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


def test_warnings_are_not_raised_by_healthy_robots():
    env = one("ant-slope", num_envs=20, task={"degrees": 20.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for action in random_actions(env, 50):
            env.step(action)
