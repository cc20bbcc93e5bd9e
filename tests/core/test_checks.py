"""check_tasks finds each known mistake, names it, and blames nothing else."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import Choice, TaskDistribution, TaskSet, Uniform, check_tasks
from metarl.envs import from_gymnasium, make

LAWS = {"goal": Uniform(-1.0, 1.0), "gain": Uniform(0.5, 1.5)}


class Walk(gymnasium.Env):
    """Walk on a line to a goal. Correct; the classes below break one thing each."""

    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    goal, gain = 0.0, 1.0

    def set_task(self, task):
        self.goal, self.gain = task["goal"], task["gain"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return self.see(), {}

    def step(self, action):
        self.x = self.x + 0.1 * self.gain * float(action[0]) + self.noise()
        return self.see(), self.reward(), bool(abs(self.x) > 0.4), False, {}

    def see(self):
        return np.array([self.x, self.x**2], np.float32)

    def reward(self):
        return -abs(self.x - self.goal)

    def noise(self):
        return self.np_random.normal(0.0, 0.01)


def family(env, distributions=LAWS, **options):
    return from_gymnasium(env, distributions, name="walk", horizon=50, **options)


class Leaks(Walk):
    def see(self):
        return np.array([self.x, self.x - self.goal], np.float32)


class LeaksLater(Walk):
    shown = 0.0

    def see(self):
        seen, self.shown = np.array([self.x, self.shown], np.float32), self.goal
        return seen

    def reset(self, **options):
        self.shown = 0.0
        return super().reset(**options)


class LeaksCubed(LeaksLater):
    def see(self):
        x, shown = super().see()
        return np.array([x, 1.0 - 7.0 * shown**3], np.float32)


class Huge(Walk):
    def reward(self):
        return 1e7 * super().reward()


class DeadParameter(Walk):
    def set_task(self, task):
        self.goal, self.force = task["goal"], task["gain"]


class OverwrittenByReset(Walk):
    def reset(self, **options):
        self.gain = 1.0
        return super().reset(**options)


class LostAtSecondReset(Walk):
    def set_task(self, task):
        self.next = task["goal"], task["gain"]

    def reset(self, **options):
        self.goal, self.gain = self.next
        self.next = (0.0, 1.0)
        return super().reset(**options)


class LostAtAutoreset(Walk):
    def set_task(self, task):
        self.task = task

    def reset(self, *, seed=None, options=None):
        super().set_task({"goal": 0.0, "gain": 1.0} if seed is None else self.task)
        return super().reset(seed=seed)


class Redraws(Walk):
    episodes = 0

    def set_task(self, task):
        super().set_task(task)
        self.episodes = 0

    def reset(self, **options):
        result = super().reset(**options)
        self.episodes += 1
        if self.episodes > 1:
            self.goal = self.np_random.uniform(-1.0, 1.0)
        return result


class StaysBehind(Walk):
    drift = 0.0

    def noise(self):
        self.drift += 0.001
        return self.drift


class NotReplaced(Walk):
    def set_task(self, task):
        self.goal = task["goal"]
        self.gain *= task["gain"]


class Unseeded(Walk):
    def noise(self):
        return np.random.default_rng().normal(0.0, 0.01)


class NaNReward(Walk):
    def reward(self):
        return np.log(self.goal) if self.goal > 0 else 0.0

    def step(self, action):
        result = super().step(action)
        return (*result[:1], float("nan") if self.goal > 0 else result[1], *result[2:])


class NaNAtReset(Walk):
    def reset(self, **options):
        observation, info = super().reset(**options)
        return observation + (np.inf if self.goal > 0 else 0.0), info


class LeavesSpace(Walk):
    observation_space = spaces.Box(-0.1, 0.1, (2,), np.float32)


class Shared(Walk):
    def set_task(self, task):
        Walk.goal, Walk.gain = task["goal"], task["gain"]


class FromNowhere(Uniform):
    def sample(self, rng, num_tasks):
        return np.random.default_rng().uniform(self.low, self.high, num_tasks)


class Rounded(Uniform):
    def sample(self, rng, num_tasks):
        return super().sample(rng, num_tasks).round(1)


BROKEN = {
    "leaks": (family(Leaks), "task not in the observation", "(entry 1)"),
    "leaks later": (family(LeaksLater), "task not in the observation", "with it (entry 1)"),
    "leaks in disguise": (family(LeaksCubed), "task not in the observation", "with it (entry 1)"),
    "huge": (family(Huge), "size of rewards", "scale them to below 1e+06"),
    "oracle": (family(Walk).oracle(), "task not in the observation", r"tasks.oracle() shows it"),
    "dead": (family(DeadParameter), "gain matters", "nothing reads it"),
    "overwritten": (family(OverwrittenByReset), "gain matters", "or reset restores it"),
    "lost": (family(LostAtSecondReset), "task survives reset", "lost at reset"),
    "lost at autoreset": (family(LostAtAutoreset), "task survives reset", "lost at reset"),
    "redrawn": (family(Redraws), "task survives reset", "lost at reset; keep the task"),
    "stays": (family(StaysBehind), "task survives reset", "set back all state but the task"),
    "not replaced": (family(NotReplaced), "new task replaces the old", "set absolute values"),
    "unseeded": (family(Unseeded), "determinism", "only from self.np_random"),
    "nan": (family(NaNReward), "finite numbers", "the reward nan in step 1 of an episode of Task("),
    "nan at reset": (family(NaNAtReset), "finite numbers", "reset returned an observation"),
    "space": (family(LeavesSpace), "spaces", "is not in the observation space Box(-0.1, 0.1"),
    "shared": (family(Shared), "batched equals single", "share no state"),
    "refused": (
        TaskDistribution("walk", {**LAWS, "goal": Uniform(0.0, 9.0)}, family(Walk).env_factory),
        "tasks fit the environment",
        "is not allowed by Uniform(low=-1.0, high=1.0",
    ),
    "unseeded tasks": (
        family(Walk, {**LAWS, "goal": FromNowhere(-1.0, 1.0)}),
        "same seed, same tasks",
        "only from the generator it is given",
    ),
    "shared tasks": (
        family(
            Walk,
            {
                name: Rounded(distribution.low, distribution.high)
                for name, distribution in LAWS.items()
            },
        ),
        "splits are disjoint",
        "splits must not share tasks",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_found_and_nothing_else(name):
    tasks, check, sentence = BROKEN[name]
    report = check_tasks(tasks, num_steps=30, raise_on_failure=False)
    assert [failure.check for failure in report.failures] == [check]
    assert sentence in report.failures[0].message


def test_a_correct_family_passes():
    report = check_tasks(family(Walk), num_steps=30)
    assert report.passed
    assert all(result.passed for result in report.results)


def test_what_may_be_seen_is_declared():
    assert check_tasks(family(Leaks, visible=["goal"]), num_steps=30).passed
    assert check_tasks(family(LeaksCubed, visible=["goal"]), num_steps=30).passed
    report = check_tasks(family(Leaks, visible=["gain"]), num_steps=30, raise_on_failure=False)
    assert [failure.check for failure in report.failures] == ["task not in the observation"]
    with pytest.raises(ValueError, match="unknown visible parameter 'gaol'; did you mean 'goal'"):
        family(Leaks, visible=["gaol"])


def test_checks_are_left_out_by_name():
    report = check_tasks(family(DeadParameter), num_steps=30, skip=["gain matters"])
    assert [result.message for result in report.results if result.check == "gain matters"] == [
        "skipped, as requested"
    ]
    with pytest.raises(ValueError, match="did you mean 'gain matters'"):
        check_tasks(family(DeadParameter), skip=["gian matters"])


def test_bandits_pass():
    assert check_tasks(make("bandit-10x5"), num_steps=30).passed


def test_failures_are_raised_together():
    with pytest.raises(ValueError, match=r"walk fails 1 of 13 checks:\n- gain matters: another"):
        check_tasks(family(DeadParameter), num_steps=20)


def test_after_an_essential_failure_the_rest_is_not_checked():
    report = check_tasks(family(NaNAtReset), num_steps=20, raise_on_failure=False)
    assert [result.passed for result in report.results] == [True, False] + [None] * 11
    assert "fix first: finite numbers" in report.results[-1].message


FEW = {"goal": Choice((-1.0, 1.0)), "gain": Choice((1.0,))}


def test_few_tasks_are_not_unseen():
    with pytest.raises(
        ValueError, match=r"walk fails 1 of 13 checks:\n- splits are disjoint: 2 of"
    ):
        check_tasks(family(Walk, FEW), num_steps=30)


def test_sharing_tasks_passes_where_it_is_declared():
    report = check_tasks(family(Walk, FEW, shares_tasks=True), num_steps=30)
    results = {result.check: result for result in report.results}
    assert results["splits are disjoint"].passed
    assert "evaluated on its 2 training tasks" in results["splits are disjoint"].message
    assert results["gain matters"].passed is None


def test_a_set_of_tasks_that_is_divided_shares_none():
    every = TaskSet.product({"goal": Choice((-1.0, -0.5, 0.5, 1.0)), "gain": Choice((0.5, 1.5))})
    train, held_out = every.split(0.75, seed=0)
    report = check_tasks(
        family(Walk, None, splits={"train": train, "held_out": held_out}), num_steps=30
    )
    results = {result.check: result.message for result in report.results}
    assert results["splits are disjoint"] == (
        "6 of the 6 tasks of validation are tasks of train: some may have been seen in training"
    )
    train, validation = train.split(0.5, seed=0)
    splits = {"train": train, "held_out": held_out, "validation": validation}
    report = check_tasks(family(Walk, None, splits=splits), num_steps=30)
    results = {result.check: result.message for result in report.results}
    assert results["splits are disjoint"] == "no split shares a task with train"


def test_validation_tasks_are_never_reported():
    every = TaskSet.product({"goal": Choice((-1.0, -0.5, 0.5, 1.0)), "gain": Choice((0.5, 1.5))})
    train, held_out = every.split(0.75, seed=0)
    splits = {"train": train, "held_out": held_out, "validation": every}
    with pytest.raises(
        ValueError, match="2 of the 8 tasks of 'validation' are tasks of 'held_out'"
    ):
        check_tasks(family(Walk, None, splits=splits), num_steps=30)


def test_a_parameter_that_varies_only_in_a_shifted_split_is_checked():
    distributions = {**LAWS, "gain": Uniform(1.0, 1.0)}
    splits = {"strong": {"gain": Uniform(1.5, 2.0)}}
    with pytest.raises(ValueError, match="- gain matters"):
        check_tasks(family(DeadParameter, distributions, splits=splits), num_steps=20)
    assert check_tasks(family(Walk, distributions, splits=splits), num_steps=20).passed


def test_the_report_is_a_table():
    table = str(check_tasks(family(DeadParameter), num_steps=20, raise_on_failure=False))
    assert table.splitlines()[0] == "check of walk"
    assert "\n  FAIL  gain matters " in table
    assert "\n  pass  goal matters " in table
    assert max(map(len, table.splitlines())) <= 100


def test_num_steps_must_allow_a_step_after_a_reset():
    with pytest.raises(ValueError, match="num_steps must be at least 2, got 1"):
        check_tasks(family(Walk), num_steps=1)


@pytest.mark.parametrize("skip", [(), ("task survives reset",)])
def test_one_batch_is_open_at_a_time_and_none_stays(skip):
    opened, most = set(), []

    class Open(Walk):
        def __init__(self):
            opened.add(self)
            most.append(len(opened))

        def close(self):
            opened.remove(self)

    check_tasks(family(Open), num_steps=20, skip=skip, raise_on_failure=False)
    assert max(most) == 8
    assert not opened
