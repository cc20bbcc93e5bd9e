"""Your own gymnasium environment, in each of the three ways, and how often it is built."""

import pickle

import gymnasium
import numpy as np
import pytest
from custom_envs import ENDS, GRAVITY, Stub, by_factory, by_set_task, make_env, stubs
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit
from numpy.testing import assert_array_equal

from metarl import Choice, LogUniform, Task, TaskEnv, Tasks, TaskSet, Uniform, check_tasks
from metarl.envs import from_gymnasium
from metarl.parameters import hull


def trajectory(tasks, drawn, num_steps=60, oracle=False):
    env = (tasks.oracle() if oracle else tasks).make_vec(len(drawn))
    env.set_tasks(drawn)
    actions = np.random.default_rng(0).integers(2, size=(num_steps, len(drawn)))
    start, _ = env.reset(seed=7)
    rows = [env.step(action)[:4] for action in actions]
    env.close()
    return [start, *map(np.array, zip(*rows))]


# The three ways.


def test_three_ways_give_the_same_trajectories():
    ways = [from_gymnasium(env, GRAVITY) for env in ("CartPole-v1", by_set_task, by_factory)]
    assert [tasks.name for tasks in ways] == ["CartPole-v1", "by_set_task", "by_factory"]
    drawn = ways[0].sample("train", 3, seed=1)
    first, *others = (trajectory(tasks, drawn) for tasks in ways)
    assert first[3].any()  # episodes ended, and others began
    for other in others:
        for mine, theirs in zip(first, other):
            assert_array_equal(mine, theirs)


def test_a_batch_equals_gymnasium_itself():
    tasks = from_gymnasium(make_env, {"length": Uniform(0.25, 1.5), **GRAVITY})
    drawn = tasks.sample("train", 3, seed=1)
    start, observations, rewards, terminated, _ = trajectory(tasks, drawn)
    actions = np.random.default_rng(0).integers(2, size=(60, 3))
    for i, task in enumerate(drawn):
        env = make_env(**task)
        assert_array_equal(start[i], env.reset(seed=7 + i)[0])
        for t in range(60):
            observation, reward, over, _, _ = env.step(actions[t, i])
            if over:
                observation, _ = env.reset()
            assert_array_equal(observations[t, i], observation)
            assert (rewards[t, i], terminated[t, i]) == (reward, over)


def test_readme_example_passes_the_check():
    tasks = from_gymnasium(
        make_env,
        {"length": Uniform(0.25, 1.5), **GRAVITY},
        splits={"long": {"length": Uniform(1.5, 2.5)}},
    )
    assert list(tasks.splits) == ["train", "held_out", "long", "validation"]
    assert all(result.passed for result in check_tasks(tasks, num_steps=40).results)


def test_attributes_that_are_arrays_stay_arrays():
    class Arms(Stub):
        p = np.array([0.5, 0.5])

    gymnasium.register("test/Arms-v0", Arms, max_episode_steps=5)
    try:
        env = from_gymnasium("test/Arms-v0", {"p": Uniform(0.0, 1.0, (2,))}).make_vec(1)
        env.set_tasks([Task("arms", {"p": (0.25, 0.75)})])
        env.reset(seed=0)
        assert_array_equal(env._envs[0].unwrapped.p * 2, [0.5, 1.5])
    finally:
        del gymnasium.registry["test/Arms-v0"]


def test_a_rebuilt_environment_needs_no_new_seed():
    tasks = from_gymnasium(by_factory, GRAVITY)
    starts = []
    for _ in range(2):
        env = tasks.make_vec(2)
        env.reset(seed=0)
        env.set_tasks(tasks.sample("train", 2, seed=1))
        starts.append(env.reset()[0])
    assert_array_equal(*starts)
    assert not np.array_equal(starts[0][0], starts[0][1])


class Old(Stub):
    """Draws with a generator that takes seeds of 31 bits, as emulators of games do."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            assert 0 <= seed < 2**31
            self.random = np.random.RandomState(seed)
        super().reset()
        return np.array([self.random.uniform()], np.float32), {}


def test_seeds_that_older_generators_take():
    tasks = from_gymnasium(Old, ENDS, horizon=5)
    starts = []
    for seed in (2**63 + 5, 2**63 + 5, 2**63 + 6):
        env = tasks.make_vec(3)
        starts.append(env.reset(seed=seed)[0].ravel().tolist())
        env.set_tasks([Task("old", {"end": 99, "cut": 3})] * 3)
        starts[-1] += env.reset()[0].ravel().tolist()  # built anew, and seeded from a stream
    assert starts[0] == starts[1]
    assert starts[0][1:3] == starts[2][:2]  # sub-environment i is seeded with seed + i
    assert len(set(starts[0])) == 6


@pytest.mark.parametrize("env", ["CartPole-v1", by_set_task, by_factory])
def test_families_can_be_sent_to_a_worker(env):
    tasks = from_gymnasium(env, GRAVITY, splits={"moon": {"gravity": Uniform(1.0, 2.0)}})
    copy = pickle.loads(pickle.dumps(tasks))
    drawn = tasks.sample("moon", 2, seed=0)
    assert copy.sample("moon", 2, seed=0) == drawn
    for oracle in (False, True):
        for mine, theirs in zip(
            trajectory(tasks, drawn, 9, oracle), trajectory(copy, drawn, 9, oracle)
        ):
            assert_array_equal(mine, theirs)


# How often environments are built.


class Counted:
    """A factory that counts what it builds, and what of that is closed."""

    __name__ = "counted"

    def __init__(self):
        self.built = self.closed = 0

    def __call__(self, end, cut):
        self.built += 1
        env = Stub(end, cut)
        env.close = self._close
        return env

    def _close(self):
        self.closed += 1


class CountedReusable(Counted):
    def __call__(self):
        env = super().__call__(99, 99)
        env.set_task = lambda task: env.__dict__.update(task)
        return env


def tasks_ending_after(*ends):
    return [Task("stub", {"end": end, "cut": 99}) for end in ends]


@pytest.mark.parametrize("oracle", [False, True])
def test_environments_are_built_once_for_a_task(oracle):
    make_env = Counted()
    ends = {"end": Choice(range(2, 9)), "cut": Choice((99,))}
    tasks = from_gymnasium(make_env, ends, horizon=9)
    assert (make_env.built, make_env.closed) == (1, 1)  # to find mistakes
    env = (tasks.oracle() if oracle else tasks).make_vec(3)
    assert make_env.built == 2  # the first tells the spaces, with the default task
    env.set_tasks(tasks_ending_after(3, 3, 4))
    env.set_tasks(tasks_ending_after(2, 3, 4))
    env.reset(seed=0)
    assert make_env.built == 4
    env.reset()
    env.set_tasks(tasks_ending_after(2, 3, 4))
    env.reset()
    assert make_env.built == 4
    env.set_tasks(tasks_ending_after(2, 5, 4))
    env.reset()
    ends = np.array([env.step(np.zeros((3, 1)))[2] for _ in range(5)])
    assert ends.argmax(axis=0).tolist() == [1, 4, 3]
    assert make_env.built == 5
    env.close()
    assert make_env.closed == make_env.built


def test_an_environment_with_set_task_is_built_once():
    make_env = CountedReusable()
    tasks = from_gymnasium(make_env, {"end": Choice(range(2, 9)), "cut": Choice((99,))}, horizon=9)
    env = tasks.make_vec(3)
    for drawn in (tasks_ending_after(2, 3, 4), tasks_ending_after(4, 3, 2)):
        env.set_tasks(drawn)
        env.reset(seed=0)
        ends = np.array([env.step(np.zeros((3, 1)))[2] for _ in range(5)])
        assert ends.argmax(axis=0).tolist() == [task["end"] - 1 for task in drawn]
    env.close()
    assert (make_env.built, make_env.closed) == (1 + 3, 1 + 3)


def test_a_task_goes_the_same_way_whichever_was_there_before():
    tasks = from_gymnasium(by_factory, GRAVITY)
    first, second = (tasks.sample("train", 3, seed) for seed in (1, 2))
    starts = []
    for before in (first, second):  # set again, which builds nothing, or for the first time
        env = tasks.make_vec(3)
        env.set_tasks(before)
        env.reset(seed=0)
        env.set_tasks(second)
        starts.append(env.reset()[0])
    assert_array_equal(*starts)


# Sets of tasks.


def test_sets_of_tasks_need_no_parameters():
    every = TaskSet.product({"gravity": Choice((5.0, 9.8, 15.0)), "force_mag": Choice((-9, 9))})
    train, held_out = every.split(0.7, seed=0)
    splits = {"held_out": held_out, "train": train, "moon": {"gravity": Uniform(1.0, 2.0)}}
    tasks = from_gymnasium(by_factory, splits=splits, name="pole")
    assert list(tasks.parameters) == ["gravity", "force_mag"]
    first = {name: column[0] for name, column in train.columns.items()}
    assert tasks.make_vec(1).tasks[0] == Task("default", first)
    drawn = tasks.sample("train", 4, seed=0)
    assert len({*drawn, *tasks.sample("held_out", 2, seed=0)}) == 6
    env = tasks.make_vec(7)
    env.set_tasks(
        Tasks.stack([*drawn, *tasks.sample("held_out", 2, 0), *tasks.sample("moon", 1, 0)])
    )
    assert all(result.passed for result in check_tasks(tasks, num_steps=40).results)


def test_values_of_a_set_that_are_declared_are_not_guessed():
    cells = {"cell": np.array([[0, 0], [0, 1], [1, 0], [1, 1]])}

    class Cell(Stub):
        def set_task(self, task):
            self.cell = task["cell"]

    train, held_out = TaskSet(cells).split(0.5, seed=0)
    splits = {"train": train, "held_out": held_out}
    with pytest.raises(ValueError, match="declare which values it may have with parameters="):
        from_gymnasium(Cell, splits=splits, horizon=5)
    tasks = from_gymnasium(Cell, {"cell": Uniform(0.0, 1.0, (2,))}, splits=splits, horizon=5)
    env = tasks.make_vec(2)
    env.set_tasks(tasks.sample("held_out", 2, seed=0))
    env.reset(seed=0)
    assert tasks.overlap("held_out") is None


def test_training_and_evaluation_on_the_same_tasks_is_declared():
    both = TaskSet.product(ENDS)
    tasks = from_gymnasium(
        Stub, splits={"train": both, "held_out": both}, shares_tasks=True, horizon=5
    )
    assert tasks.overlap("held_out") == "Stub is evaluated on its 4 training tasks"


def test_hull():
    assert hull([Uniform(0.0, 1.0), Uniform(3.0, 4.0)]) == Uniform(0.0, 4.0, nominal=0.5)
    assert hull([LogUniform(1.0, 4.0), Choice((8, 9))]) == Uniform(1.0, 9.0, nominal=2.0)
    assert hull([Choice(("a", "b"), "b"), Choice(("c", "b"))]) == Choice(("a", "b", "c"), "b")
    assert hull([LogUniform(1.0, 4.0)] * 2) == LogUniform(1.0, 4.0)
    with pytest.raises(ValueError, match="must have the same shape"):
        hull([Uniform(0.0, 1.0), Uniform(0.0, 1.0, (2,))])
    with pytest.raises(ValueError, match="all ranges or all choices"):
        hull([Uniform(0.0, 1.0), Choice(("a",))])


# Ends of episodes.


def run_stub(end, cut, horizon=5, oracle=False):
    tasks = stubs(horizon=horizon)
    env = (tasks.oracle() if oracle else tasks).make_vec(1)
    env.set_tasks([Task("stub", {"end": end, "cut": cut})])
    env.reset(seed=0)
    steps = [env.step(np.zeros((1, 1))) for _ in range(7)]
    ends = [(t + 1, bool(s[2][0]), bool(s[3][0])) for t, s in enumerate(steps) if s[2] | s[3]]
    return ends[0]


@pytest.mark.parametrize("oracle", [False, True])
def test_each_end_is_called_by_its_name(oracle):
    assert run_stub(end=2, cut=99, oracle=oracle) == (2, True, False)
    assert run_stub(end=99, cut=3, oracle=oracle) == (3, False, True)
    assert run_stub(end=99, cut=99, oracle=oracle) == (5, False, True)
    # An end that coincides with a cut is an end: there is nothing to bootstrap from.
    assert run_stub(end=2, cut=99, horizon=2, oracle=oracle) == (2, True, False)


def test_last_observation_and_first_of_the_next():
    env = stubs().make_vec(2)
    env.set_tasks([Task("stub", {"end": 2, "cut": 99}), Task("stub", {"end": 99, "cut": 3})])
    env.reset(seed=0)
    env.step(np.zeros((2, 1)))
    observations, _, _, _, info = env.step(np.zeros((2, 1)))
    assert observations.tolist() == [[0.0], [2.0]]
    assert info["final_obs"][info["_final_obs"]].tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("env", "options", "horizon"),
    [
        ("CartPole-v1", {}, 500),
        ("CartPole-v1", {"horizon": 20}, 20),
        ("CartPole-v1", {"horizon": 900}, 900),
        (lambda gravity: make_env(0.5, gravity, 10.0), {}, 500),
        (lambda gravity: TimeLimit(CartPoleEnv(), 30), {}, 30),
        (lambda gravity: TimeLimit(CartPoleEnv(), 30), {"horizon": 20}, 20),
        (lambda gravity: CartPoleEnv(), {"horizon": 20}, 20),
        # The shortest limit ends the episode, wherever it is.
        (lambda gravity: TimeLimit(gymnasium.make("CartPole-v1"), 30), {}, 30),
        (lambda gravity: TimeLimit(TimeLimit(CartPoleEnv(), 30), 90), {}, 30),
        (lambda gravity: TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 900), {}, 900),
    ],
)
def test_horizon_is_that_of_the_environment(env, options, horizon):
    tasks = from_gymnasium(env, {"gravity": Uniform(5.0, 15.0)}, **options)
    assert tasks.make_vec(1).horizon == horizon


def test_the_time_limit_of_a_gymnasium_id_truncates():
    env = from_gymnasium("CartPole-v1", {"gravity": Uniform(5.0, 6.0)}, horizon=4).make_vec(2)
    env.reset(seed=0)
    ends = [env.step(np.array([t % 2, t % 2]))[2:4] for t in range(4)]
    assert not np.any([terminated for terminated, _ in ends])
    assert [truncated.tolist() for _, truncated in ends] == [[False] * 2] * 3 + [[True] * 2]


def test_only_the_active_step_and_actions_are_left_alone():
    env = stubs().make_vec(3)
    env.reset(seed=0)
    actions = np.ones((3, 1), np.float32)
    env.step(actions, np.array([True, False, True]))
    observations, *_ = env.step(actions)
    assert_array_equal(observations[:, 0], [0.0, 1.0, 0.0])  # the default task ends after 2
    assert_array_equal(actions, 1.0)


def test_rendering():
    env = TaskEnv(stubs().make_vec(1, render_mode="rgb_array"))
    assert env.metadata["render_fps"] == 10
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    assert env.render().max() == 1
