"""Your own gymnasium environment: which mistakes are found, and when, and how they are told."""

import gymnasium
import numpy as np
import pytest
from custom_envs import (
    ENDS,
    GRAVITY,
    Stub,
    TaskCartPole,
    by_factory,
    by_set_task,
    make_env,
    stubs,
)
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

from metarl import Choice, Task, TaskSet, Uniform
from metarl.envs import from_gymnasium


class Worded(Stub):
    observation_space = spaces.Dict({"seen": spaces.Discrete(2), "said": spaces.Text(9)})


class Wide(Stub):
    observation_space = spaces.Box(0.0, 99.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("env", "laws", "options", "error", "match"),
    [
        ("CartPol-v1", GRAVITY, {}, ValueError, "Did you mean: `CartPole`"),
        ("CartPole-v1", {"gravty": Uniform(5.0, 15.0)}, {}, ValueError, "mean 'gravity'"),
        ("CartPole-v1", {}, {}, ValueError, "at least one parameter"),
        ("CartPole-v1", GRAVITY, {"horizon": 0}, ValueError, "horizon must be at least 1"),
        (make_env, {"lenght": Uniform(0.1, 1.0), **GRAVITY}, {}, ValueError, "mean 'length'"),
        (CartPoleEnv, GRAVITY, {}, ValueError, r"needs a method set_task\(task\), or the factory"),
        (CartPoleEnv(), GRAVITY, {}, TypeError, "pass `lambda: MyEnv"),
        (lambda gravity: None, {"gravity": Uniform(5.0, 15.0)}, {}, TypeError, "got None"),
        (TaskCartPole, GRAVITY, {}, ValueError, "no time limit: pass horizon="),
        (by_set_task, GRAVITY, {"horizon": 900}, ValueError, "beyond the time limit .* 500 steps"),
        (Worded, ENDS, {"horizon": 9}, ValueError, r"FilterObservation\(env, \['seen'\]\)"),
        (by_factory, GRAVITY, {"splits": {"up": {"gravit": Uniform(1, 2)}}}, ValueError,
         "mean 'gravity'"),
        (by_factory, GRAVITY, {"episodes_per_trial": 0}, ValueError, "at least 1, got 0"),
        (by_factory, None, {}, ValueError, "parameters, or a TaskSet for each of the splits"),
        (by_factory, TaskSet.product({"gravity": Choice((1.0, 2.0))}), {}, TypeError,
         "pass sets of tasks as splits="),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(env, laws, options, error, match):
    with pytest.raises(error, match=match):
        from_gymnasium(env, laws, **options)


class Broken(Stub):
    """Does in its second step what ``fault`` says."""

    def __init__(self, fault, end=99, cut=99):
        super().__init__(end, cut)
        self.fault = fault

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.steps == 2:
            if self.fault == "raise":
                raise ZeroDivisionError("the wheel fell off")
            if self.fault == "exit":
                raise SystemExit(0)
            if self.fault == "old":
                return observation, reward, terminated, info
            if self.fault == "none":
                reward = None
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ("raise", ZeroDivisionError, "the wheel fell off"),
        ("exit", RuntimeError, r"called sys.exit\(0\) in step 2 of an episode of Task\(stub"),
        ("old", ValueError, r"step must return \(observation, reward, terminated, truncated, info"),
        ("none", ValueError, "a number as the reward, got None"),
    ],
)
def test_an_environment_that_fails_says_where(fault, error, match):
    env = from_gymnasium(
        lambda end, cut: Broken(fault, 99, 99), ENDS, name="stub", horizon=5
    ).make_vec(1)
    env.reset(seed=0)
    env.step(np.zeros((1, 1)))
    with pytest.raises(error, match=match) as caught:
        env.step(np.zeros((1, 1)))
    if fault == "raise" and hasattr(caught.value, "__notes__"):
        assert caught.value.__notes__[0].startswith("in step 2 of an episode of Task(stub")


def test_an_environment_that_cannot_be_built_is_not_taken_for_the_one_before():
    def moody(end):
        if end == 3:
            raise OSError("no such level")
        return Stub(end)

    env = from_gymnasium(moody, {"end": Choice((2, 3))}, horizon=9).make_vec(1)
    env.reset(seed=0)
    env.set_tasks([Task("stub", {"end": 3})])
    for _ in range(2):
        with pytest.raises(OSError, match="no such level"):
            env.reset()


def test_a_batch_is_no_environment():
    with pytest.raises(TypeError, match=r"the batch .* from_vector_env, .* is a metarl.TaskVec"):
        from_gymnasium(lambda: gymnasium.make_vec("CartPole-v1", 2), GRAVITY, name="poles")


def test_observations_of_the_wrong_shape():
    env = from_gymnasium(Wide, ENDS, horizon=5).make_vec(1)
    with pytest.raises(ValueError, match=r"shape \(1,\), but its observation space is Box"):
        env.reset(seed=0)


def test_tasks_of_every_split_are_allowed_and_no_others():
    splits = {"moon": {"gravity": Uniform(1.0, 2.0)}, "weak": {"force_mag": Choice((5.0,))}}
    env = from_gymnasium("CartPole-v1", GRAVITY, splits=splits).make_vec(1)
    for gravity, force in ((1.0, 5.0), (15.0, -10.0), (3.0, 10.0)):
        env.set_tasks([Task("pole", {"gravity": gravity, "force_mag": force})])
    for gravity, force in ((0.9, 5.0), (15.0, 6.0)):
        with pytest.raises(ValueError, match="is not allowed by"):
            env.set_tasks([Task("pole", {"gravity": gravity, "force_mag": force})])


def test_pictures_need_a_reset():
    env = stubs().make_vec(2, render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\) before render\(\)"):
        env.render()
