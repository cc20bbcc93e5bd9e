"""Families over other suites: Box2D, MiniGrid, Meta-World."""

import importlib
import sys
import warnings

import numpy as np
import pytest

from metarl import check_tasks, envs, rollout
from metarl.envs.suites import metaworld
from metarl.errors import MissingPackageError

with warnings.catch_warnings():  # SWIG's own, made errors, would crash the interpreter
    warnings.simplefilter("ignore")
    importlib.import_module("Box2D")

FAMILIES = ("lunar-lander", "minigrid-doors", "minigrid-map:MiniGrid-Empty-Random-5x5-v0")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bipedal-walker", "ml1-reach")]


@pytest.mark.parametrize("name", [*FAMILIES, *SLOW])
def test_families_of_other_suites_pass_all_checks(name):
    assert check_tasks(envs.make(name), num_steps=30)


@pytest.mark.parametrize("package", ["Box2D", "minigrid", "metaworld"])
def test_a_missing_extra_is_named(package, monkeypatch):
    name = {"Box2D": "lunar-lander", "minigrid": "minigrid-doors", "metaworld": "ml10"}[package]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'metarl-suite\[{package.lower()}"):
        envs.make(name)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("ml1-reech", "Meta-World has no 'reech'; did you mean 'reach'"),
        ("minigrid-map:MiniGrid-FourRoom-v0", "did you mean 'MiniGrid-FourRooms-v0'"),
        ("lunar-landing", "unknown family 'lunar-landing'"),
    ],
)
def test_unknown_names_are_refused(name, match):
    with pytest.raises(ValueError, match=match):
        envs.make(name)


def play(tasks, choose, num_tasks=12):
    """Play an episode of each task with a policy that sees the environments."""
    env = tasks.make_vec(num_tasks)
    env.set_tasks(tasks.sample("held_out", num_tasks, 3))

    class Pilot:
        def act(self, observations):
            lanes = range(num_tasks)
            return np.array([choose(env._envs[i], observations[i]) for i in lanes])

        def observe(self, transition):
            pass

    return rollout(env, env.reset(seed=3)[0], Pilot(), 1)


def test_the_lander_succeeds_where_gymnasium_s_own_pilot_lands():
    # The pilot knows neither gravity nor wind. Random actions never land.
    from gymnasium.envs.box2d.lunar_lander import heuristic

    played = play(envs.make("lunar-lander"), lambda env, o: heuristic(env.unwrapped, o))
    assert played.successes.mean() >= 0.2
    assert played.returns[played.successes].min() > played.returns[~played.successes].mean()


def test_the_right_door_is_rewarded_and_no_other():
    def beside_the_right_one(env, observation):
        inner = env.unwrapped
        inner.agent_pos = next(
            (x, y)
            for x in range(inner.width)
            for y in range(inner.height)
            if abs(x - inner.target_pos[0]) + abs(y - inner.target_pos[1]) == 1
            and inner.grid.get(x, y) is None
        )
        return inner.actions.done

    played = play(envs.make("minigrid-doors"), beside_the_right_one)
    np.testing.assert_allclose(played.returns, 1 - 0.9 / 64)
    assert (played.lengths == 1).all()


@pytest.mark.parametrize("name", ["bipedal-walker", FAMILIES[-1]])
def test_a_map_stays_for_all_episodes_and_differs_between_tasks(name):
    tasks = envs.make(name)
    env = tasks.make_vec(3)
    env.set_tasks(tasks.sample("held_out", 3, 0))
    first, _ = env.reset(seed=0)
    again, _ = env.reset(seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1]) or not np.array_equal(first[0], first[2])
    env.close()


def test_held_out_goals_of_meta_world_are_others():
    tasks = envs.make("ml1-push")
    splits = ("train", "held_out")
    train, held_out = (tasks.sample(split, 50, 0).columns["places"] for split in splits)
    assert len(np.unique(train, axis=0)) == len(np.unique(held_out, axis=0)) == 50
    assert not (train[:, None] == held_out[None]).all(-1).any()


@pytest.mark.filterwarnings("ignore:Constant.s. may be too high")
@pytest.mark.parametrize(
    "manipulation",
    ["reach", *(pytest.param(name, marks=pytest.mark.slow) for name in ("drawer-close", "push"))],
)
def test_scripted_experts_of_meta_world_succeed(manipulation):
    # They are given the goal. Welds that are reset as Meta-World does raise on MuJoCo 3.17.
    from metarl.experiments.benchmarks.metaworld_experts import expert, succeeds

    tasks = envs.make(f"ml1-{manipulation}").sample("held_out", 3, 0)
    arm = metaworld.Arm()
    for number, task in enumerate(tasks):
        arm.set_task(task)
        assert succeeds(arm, expert(manipulation), number)
    arm.close()
