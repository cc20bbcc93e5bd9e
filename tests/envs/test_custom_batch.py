"""Somebody else's batch of environments is a family, in which what happens is what it does."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeReward

from metarl import Uniform, check_tasks, rollout
from metarl.agents import MAML, RL2
from metarl.envs import from_gymnasium, from_vector_env

LAWS = {"slope": Uniform(1.0, 2.0), "stop": Uniform(0.0, 0.4, nominal=0.0)}


class Hill(gymnasium.Env):
    """Climbs by its slope and chance; with the chance ``stop`` an episode ends in each step."""

    observation_space = gymnasium.spaces.Box(-100.0, 100.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def set_task(self, task):
        self.slope, self.stop = float(task["slope"]), float(task.get("stop", 0.0))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal()
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place += self.slope * float(action[0]) + 0.1 * self.np_random.normal()
        ended = bool(self.np_random.uniform() < self.stop)
        info = {"success": self.place > 1.0}
        return np.array([self.place], np.float32), self.place, ended, False, info


class Hills(SyncVectorEnv):
    """A batch in gymnasium's API, stepped all at once, with tasks."""

    def __init__(self, num_envs, autoreset_mode=AutoresetMode.DISABLED):
        super().__init__([Hill] * num_envs, copy=False, autoreset_mode=autoreset_mode)

    def set_tasks(self, columns):
        for i, env in enumerate(self.envs):
            env.set_task({name: column[i] for name, column in columns.items()})


class PatientHills(Hills):
    """Some of it can be stepped while others wait."""

    def step(self, actions, active):
        infos = {"success": np.zeros(self.num_envs, dtype=bool)}
        for i in np.flatnonzero(active):
            self._env_obs[i], self._rewards[i], self._terminations[i], _, info = self.envs[i].step(
                actions[i]
            )
            self._observations[i] = self._env_obs[i]
            infos["success"][i] = info["success"]
        self._rewards[~active] = np.nan  # whoever looks at these is wrong
        return self._observations, self._rewards, self._terminations, self._truncations, infos


class DeafHills(PatientHills):
    """Resets all where some are to be reset."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)


class RestlessHills(PatientHills):
    """Steps those that have to wait."""

    def step(self, actions, active):
        return super().step(actions, np.ones_like(active))


family = functools.partial(from_vector_env, parameters=LAWS, horizon=6)


class Push:
    """Always the same; keeps all that happened."""

    def __init__(self, synchronous):
        self.synchronous = synchronous
        self.steps = []

    def act(self, observations):
        return np.full((len(observations), 1), 0.5, np.float32)

    def observe(self, step):
        some = step.active
        self.steps.append((some, step.observations[some], step.next_observations[some]))


def play(tasks, synchronous):
    """Play ten episodes in five tasks; return what happened."""
    env = tasks.make_vec(5)
    env.set_tasks(from_gymnasium(Hill, LAWS, horizon=6).sample("train", 5, 0))
    observations, _ = env.reset(seed=3)
    push = Push(synchronous)
    return rollout(env, observations, push, 10), push.steps


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_batch_does_what_its_environments_do(synchronous):
    single, single_steps = play(from_gymnasium(Hill, LAWS, horizon=6), synchronous)
    batch, batch_steps = play(family(PatientHills), synchronous)
    assert len(set(single.lengths.ravel())) > 2  # some end, some are cut, many wait
    np.testing.assert_array_equal(batch.lengths, single.lengths)
    np.testing.assert_array_equal(batch.successes, single.successes)
    np.testing.assert_allclose(batch.returns, single.returns)
    # An environment that was stepped while it waited would go on from elsewhere.
    assert len(batch_steps) == len(single_steps)
    for mine, theirs in zip(batch_steps, single_steps):
        for a, b in zip(mine, theirs):
            np.testing.assert_array_equal(a, b)


def test_episodes_of_equal_length_need_no_waiting():
    tasks = from_vector_env(Hills, {"slope": LAWS["slope"]}, horizon=6, name="hills")
    env = tasks.make_vec(3)
    env.set_tasks(tasks.sample("train", 3, 0))
    observations, _ = env.reset(seed=0)
    assert np.all(rollout(env, observations, Push(False), 4).lengths == 6)
    # That check steps some sub-environments only, which agents do not where episodes are equal.
    assert check_tasks(tasks, skip=["batched equals single"]).passed
    agent = RL2(tasks, trials_per_iteration=4, trials_per_minibatch=2, seed=0)
    assert agent.learn(1).num_timesteps == 4 * 3 * 6


def test_episodes_of_unequal_length_need_it():
    message = (
        "of 5 sub-environments must wait, as episodes differ in length, .* can only step all of "
        r"them; expected a method step\(actions, active\) .* or write a metarl.TaskVectorEnv"
    )
    with pytest.raises(ValueError, match=message):
        play(family(Hills), True)
    tasks = family(PatientHills, name="patient")
    assert check_tasks(tasks).passed
    agent = MAML(tasks, meta_batch_size=2, episodes_per_adaptation=2, seed=0).learn(1)
    assert agent.num_timesteps > 0


@pytest.mark.parametrize("make_vec", [DeafHills, RestlessHills])
def test_a_batch_that_does_not_listen_is_found_out(make_vec):
    with pytest.raises(ValueError, match=r"batched equals single: .* gave two trajectories"):
        check_tasks(family(make_vec))


class OddHills(Hills):
    """Returns what its ``change`` says: the reward, the flags, or the observations of a step."""

    change = staticmethod(lambda *returned: returned)

    def step(self, actions):
        return self.change(*super().step(actions))


def odd_step(change):
    tasks = from_vector_env(
        type("Changed", (OddHills,), {"change": staticmethod(change)}), LAWS, horizon=6
    )
    env = tasks.make_vec(3)
    env.reset(seed=0)
    return env.step(np.zeros((3, 1), np.float32))


def test_what_a_batch_returns_is_cast_where_nothing_is_lost():
    observations, rewards, terminated, truncated, _ = odd_step(
        lambda o, r, e, c, i: (
            o.astype(np.float64), [True, False, 2], e.astype(int)[:, None], [1, 0, 0], {}
        )
    )  # fmt: skip
    assert observations.dtype == np.float32
    assert rewards.tolist() == [1.0, 0.0, 2.0]
    assert terminated.tolist() == [False] * 3
    assert truncated.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o, r, e, c, i: (o * 1e300, r, e, c, i), r"float64 value .*e\+.*float32"),
        (lambda o, r, e, c, i: (o[:, :, None], r, e, c, i), r"shape \(1, 1\), but its observation"),
        (
            lambda o, r, e, c, i: (o[:2], r, e, c, i),
            r"shape \(2, 1\); expected a row for each of 3",
        ),
        (lambda o, r, e, c, i: (o, r + 0j, e, c, i), "a number as the reward, got "),
        (lambda o, r, e, c, i: (o, 1.0, e, c, i), r"1.0, of shape \(\); expected a row for each"),
        (lambda o, r, e, c, i: (o, r, e * np.nan, c, i), "True or False as terminated, got "),
        (lambda o, r, e, c, i: (o, r, e, ["no"] * 3, i), "as truncated, got np.str_"),
        (lambda o, r, e, c, i: (o, r, e, c, {"success": [2, 0, 1]}), r"as info\['success'\], got"),
    ],
)
def test_what_a_cast_would_change_is_refused(change, match):
    def in_doubles(o, *others):
        return change(o.astype(np.float64), *others)

    with pytest.raises(ValueError, match=match):
        odd_step(in_doubles)


def test_batches_get_seeds_that_older_generators_take():
    seen = []

    class Noted(Hills):
        def reset(self, *, seed=None, options=None):
            seen.append(seed)
            return super().reset(seed=seed, options=options)

    env = family(Noted, name="noted").make_vec(2)
    env.reset(seed=2**64 - 1)
    env.reset(seed=7)
    assert 0 <= seen[0] < 2**31
    assert seen[1] == 7


def with_statistics(num_envs):
    class Normalized(NormalizeReward):
        def set_tasks(self, columns):
            self.env.set_tasks(columns)

    return Normalized(Hills(num_envs))


class HillsWithStatistics(Hills):
    def __init__(self, num_envs):
        factories = [lambda: gymnasium.wrappers.NormalizeObservation(Hill())] * num_envs
        SyncVectorEnv.__init__(self, factories, autoreset_mode=AutoresetMode.DISABLED)


def without_tasks(num_envs):
    return SyncVectorEnv([Hill] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize(
    ("make_vec", "error", "message"),
    [
        (
            functools.partial(Hills, autoreset_mode=AutoresetMode.NEXT_STEP),
            ValueError,
            "begins episodes by itself .*NEXT_STEP.*; expected AutoresetMode.DISABLED",
        ),
        (
            functools.partial(Hills, autoreset_mode=AutoresetMode.SAME_STEP),
            ValueError,
            "begins episodes by itself .*SAME_STEP.*, or write a metarl.TaskVectorEnv",
        ),
        (with_statistics, ValueError, "normalises with running statistics"),
        (HillsWithStatistics, ValueError, "normalises with running statistics"),
        (without_tasks, ValueError, r"does not accept tasks; expected a method set_tasks\(columns"),
        (lambda num_envs: Hills(num_envs + 1), ValueError, "must build 2 sub-environments, got 3"),
        (lambda num_envs: Hill(), TypeError, "VectorEnv, got .*Hill.* goes to from_gymnasium"),
        (
            lambda num_envs: family(Hills).make_vec(num_envs),
            TypeError,
            "is a TaskVectorEnv already: make a metarl.TaskDistribution",
        ),
    ],
)
def test_refusals_say_why(make_vec, error, message):
    with pytest.raises(error, match=message):
        family(make_vec)
