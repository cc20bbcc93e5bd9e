"""Robots with a task in every simulation: goals, hidden dynamics, and what blows up."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")

import mujoco
from mujoco.batch import SimulationError
from robots import one, random_actions

from metarl import Task, check_tasks, envs
from metarl.envs.mujoco.dynamics import FAMILIES as DYNAMICS
from metarl.envs.mujoco.locomotion import FAMILIES as LOCOMOTION
from metarl.envs.mujoco.locomotion import Disc, half_cheetah_vel
from metarl.seeding import ALL


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """MuJoCo logs its warnings in the present directory."""
    monkeypatch.chdir(tmp_path)


# The slopes differ in the body only; a ramp must be reached to matter.
@pytest.mark.parametrize(
    "name",
    [
        *(*LOCOMOTION, *DYNAMICS, "half-cheetah-slope", "half-cheetah-terrain"),
        pytest.param("half-cheetah-hills", marks=pytest.mark.slow),  # ramps, as terrain has them
    ],
)
def test_families_pass_the_check(name):
    check_tasks(envs.make(name), num_steps=200 if name.endswith(("terrain", "hills")) else 24)


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


def test_two_directions_are_trained_and_evaluated_on_which_is_declared():
    for name in ("half-cheetah-dir", "half-cheetah-dir-rllab", "ant-dir", "ant-dir-rllab"):
        family = envs.make(name)
        assert family.num_tasks("held_out") == 2
        assert family.overlap("held_out") == f"{name} is evaluated on its 2 training tasks"
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


def test_tasks_beyond_the_distribution_but_within_reason_are_accepted():
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


def test_warnings_are_not_raised_by_healthy_robots():
    env = one("ant-slope", num_envs=20, task={"degrees": 20.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for action in random_actions(env, 50):
            env.step(action)
