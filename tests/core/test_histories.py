"""Histories: recorded while an agent adapts, and read back as a data set."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from toys import strolls

import metarl.data.recording as recording
from metarl import envs, rollout
from metarl.agents import MAML, RL2
from metarl.agents.classical.bandits import ThompsonSampling
from metarl.agents.classical.navigation import KnownGoal
from metarl.agents.classical.random_actions import RandomActions
from metarl.data import Histories, record
from metarl.seeding import stream, stream_seed


def small_shards(monkeypatch, tasks_per_shard=4):
    monkeypatch.setattr(recording, "MAX_ENVS", tasks_per_shard)


def step_by_step(agent, tasks, sampled, num_episodes, seed):
    """Return the history of each task as lists, by a loop over steps and environments."""
    found = [[] for _ in sampled]
    env = tasks.make_vec(len(sampled))
    env.set_tasks(sampled)
    observations, _ = env.reset(seed=stream_seed(seed, "env"))

    def keep(step):
        for i in np.flatnonzero(step.active):
            found[i].append(
                (
                    np.array(step.observations[i]),
                    np.array(step.actions[i]),
                    float(step.rewards[i]),
                    bool(step.terminated[i]),
                    bool(step.truncated[i]),
                    np.array(step.next_observations[i]),
                )
            )
        return True

    rollout(
        env,
        observations,
        agent.adaptation(len(sampled), seed=stream(seed, "agent")),
        num_episodes,
        keep,
    )
    return found


def test_histories_hold_every_step_in_order(tmp_path):
    tasks = strolls()  # episodes of several lengths
    agent = RandomActions(tasks)
    record(agent, tasks, tmp_path / "data", num_tasks=5, num_episodes=3, seed=2)
    histories = Histories(tmp_path / "data")
    sampled = tasks.sample("train", 5, 2)
    expected = step_by_step(agent, tasks, sampled, 3, stream(2, "histories", 0))
    assert len(histories) == 5
    assert histories.tasks == sampled
    for i, steps in enumerate(expected):
        history = histories[i]
        observations, actions, rewards, terminated, truncated, following = zip(*steps)
        np.testing.assert_array_equal(history.observations, observations)
        np.testing.assert_array_equal(history.actions, actions)
        np.testing.assert_array_equal(history.rewards, np.float32(rewards))
        np.testing.assert_array_equal(history.terminated, terminated)
        np.testing.assert_array_equal(history.truncated, truncated)
        ends = np.flatnonzero(history.terminated | history.truncated)
        np.testing.assert_array_equal(history.final_observations, np.array(following)[ends])
        np.testing.assert_array_equal(history.starts, [0, *(ends[:-1] + 1)])
    assert len({len(steps) for steps in expected}) > 1


def test_episodes_side_by_side_follow_each_other_round_by_round(tmp_path):
    tasks = envs.make("navigation-2d")
    agent = MAML(tasks, meta_batch_size=2, episodes_per_adaptation=3, seed=0)
    record(agent, tasks, tmp_path / "data", num_tasks=2, num_episodes=6, seed=1)
    history = Histories(tmp_path / "data")[1]
    assert history.returns.shape == (6,)
    env = tasks.make_vec(6)
    env.set_tasks(tasks.sample("train", 2, 1).repeat(3))
    seed = stream(1, "histories", 0)
    observations, _ = env.reset(seed=stream_seed(seed, "env"))
    played = rollout(env, observations, agent.adaptation(2, seed=stream(seed, "agent")), 2)
    np.testing.assert_allclose(history.returns, played.returns[3:].T.ravel(), rtol=1e-5)


def test_an_interrupted_recording_ends_in_the_same_bytes(tmp_path, monkeypatch):
    small_shards(monkeypatch)
    tasks = envs.make("bandit-10x5")

    def begin(folder):
        record(ThompsonSampling(tasks), tasks, folder, num_tasks=10, seed=3)

    begin(tmp_path / "whole")
    begin(tmp_path / "killed")
    (tmp_path / "killed" / "000001.safetensors").unlink()
    (tmp_path / "killed" / ".000001.safetensors.abc.part").write_bytes(b"half")
    with pytest.raises(ValueError, match="2 of 3 shards"):
        Histories(tmp_path / "killed")
    begin(tmp_path / "killed")
    names = sorted(os.listdir(tmp_path / "whole"))
    assert names == sorted(os.listdir(tmp_path / "killed"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    with pytest.raises(ValueError, match="holds histories with seed=3, not 4; choose another"):
        record(ThompsonSampling(tasks), tasks, tmp_path / "whole", num_tasks=10, seed=4)


def test_windows_take_every_so_many_episodes(tmp_path, monkeypatch):
    small_shards(monkeypatch, 2)
    tasks = strolls()
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=5, num_episodes=7)
    histories = Histories(tmp_path)
    windows = histories.windows(3, every=2)
    assert len(windows) == 5 * 3
    indices = [14, 0, 4, 7]
    batch = windows.batch(indices)
    for row, index in enumerate(indices):
        history, first = histories[index // 3], index % 3
        stops = [*history.starts[1:], len(history.rewards)]
        steps = np.concatenate(
            [np.arange(history.starts[e], stops[e]) for e in (first, first + 2, first + 4)]
        )
        assert batch.mask[row].sum() == len(steps)
        assert batch.task_ids[row] == index // 3
        for name in ("observations", "actions", "rewards", "terminated", "truncated"):
            got = getattr(batch, name)[row]
            np.testing.assert_array_equal(got[: len(steps)], getattr(history, name)[steps])
            assert not got[len(steps) :].any()
    with pytest.raises(ValueError, match="span 9 episodes; the histories have 7"):
        histories.windows(5, every=2)
    with pytest.raises(ValueError, match="from 0 to 14"):
        windows.batch([15])


def test_what_followed_each_step(tmp_path, monkeypatch):
    small_shards(monkeypatch, 2)
    tasks = strolls()
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=5, num_episodes=4)
    histories = Histories(tmp_path)
    batch = histories.windows(2, every=3).batch([4, 0, 3])
    for row, task in enumerate(batch.task_ids):
        history, expected = histories[task], []
        stops = [*history.starts[1:], len(history.rewards)]
        for episode in (0, 3):
            expected += [*history.observations[history.starts[episode] + 1 : stops[episode]]]
            expected += [history.final_observations[episode]]
        found = batch.next_observations[row][batch.mask[row]]
        np.testing.assert_array_equal(found, expected)
    assert batch.best_actions is None
    assert histories[0].best_actions is None


def test_demonstrations_become_perfect_and_hide_the_task_from_observations(tmp_path, monkeypatch):
    small_shards(monkeypatch, 16)
    tasks = envs.make("dark-room")
    oracle = KnownGoal(tasks.oracle())
    options = {"num_tasks": 40, "num_episodes": 20, "noise": (1.0, 0.0), "oracle": True}
    record(oracle, tasks, tmp_path / "data", labels=oracle, **options)
    histories = Histories(tmp_path / "data")
    batch = histories.windows(20).batch(range(40))
    assert batch.observations.shape == (40, 400, 2)
    agrees = (batch.actions == batch.best_actions).reshape(40, 20, 20).mean(axis=(0, 2))
    # Random actions are among the five by chance the best.
    expected = 1 - 0.8 * np.maximum(1 - np.arange(20) / 18, 0)
    np.testing.assert_allclose(agrees, expected, atol=0.06)
    # The best action is the oracle's in the state that was met, not in one of its own way.
    goals = histories.tasks.columns["goal"][:, None] - batch.observations
    there = (goals == 0).all(axis=-1)
    assert (batch.best_actions[there] == 4).all()
    assert (batch.best_actions[~there] != 4).all()
    # A shard that is missing is recorded again in the same bytes.
    second = tmp_path / "data" / "000001.safetensors"
    whole = second.read_bytes()
    second.unlink()
    record(oracle, tasks, tmp_path / "data", labels=oracle, **options)
    assert second.read_bytes() == whole
    with pytest.raises(ValueError, match=r"holds histories with labels='known goal', not ''"):
        record(oracle, tasks, tmp_path / "data", **options)
    with pytest.raises(ValueError, match="RL2 was made for the observation_space"):
        record(RL2(tasks, seed=0), tasks, tmp_path / "other", oracle=True)


def test_histories_are_divided_by_task(tmp_path):
    tasks = envs.make("dark-room")
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=90, num_episodes=1)
    histories = Histories(tmp_path)
    kept, held_back = histories.split(0.2, seed=0)
    assert sorted([*kept, *held_back]) == list(range(90))
    goals = histories.tasks.group_ids()
    assert not set(goals[kept]) & set(goals[held_back])
    assert len(set(goals[held_back])) == int(0.2 * len(set(goals)))
    assert not np.array_equal(held_back, histories.split(0.2, seed=1)[1])
    windows = histories.windows(1, ids=held_back)
    assert len(windows) == len(held_back)
    np.testing.assert_array_equal(windows.batch([2]).task_ids, held_back[2:3])
    assert len(histories.split(0.01, seed=0)[1]) == 0  # less than one task


def test_a_damaged_shard_is_one_sentence(tmp_path):
    tasks = envs.make("bandit-10x5")
    record(ThompsonSampling(tasks), tasks, tmp_path / "data", num_tasks=3)
    shard = tmp_path / "data" / "000000.safetensors"
    whole = shard.read_bytes()
    rng = np.random.default_rng(0)
    size = int.from_bytes(whole[:8], "little")
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, 8 + size, size=3):
            damaged[place] = rng.integers(256)
        shard.write_bytes(
            bytes(damaged[: rng.integers(len(damaged)) if rng.random() < 0.3 else None])
        )
        complaint = ""
        try:
            Histories(tmp_path / "data")[0]
        except ValueError as error:  # a change of a task's values is no damage that shows
            complaint = str(error)
        assert ("is damaged" in complaint) == bool(complaint)
        assert "\n" not in complaint
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(FileNotFoundError, match="holds no histories"):
        Histories(tmp_path / "data")


def test_no_code_in_a_file_is_run(tmp_path):
    tasks = envs.make("bandit-10x5")
    record(RandomActions(tasks), tasks, tmp_path / "data", num_tasks=3)
    code = pickle.dumps(Touch(tmp_path / "touched"))
    for name in ("000000.safetensors", "index.json"):
        (tmp_path / "data" / name).write_bytes(code)
        with pytest.raises(ValueError, match=f"{name}' is damaged"):
            Histories(tmp_path / "data")
        assert not (tmp_path / "touched").exists()
    pickle.loads(code)
    assert (tmp_path / "touched").exists()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_observations_keep_their_parts(tmp_path):
    import gymnasium
    from gymnasium import spaces

    from metarl import Choice
    from metarl.envs import from_gymnasium

    class Parts(gymnasium.Env):
        observation_space = spaces.Dict(
            {"at": spaces.Discrete(5), "seen": spaces.Tuple([spaces.Box(-9, 9, (2,))])}
        )
        action_space = spaces.Discrete(2)

        def __init__(self, step=1):
            self.size, self.at = step, 0

        def _observation(self):
            return {"at": self.at % 5, "seen": (np.full(2, self.at, np.float32),)}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = 0
            return self._observation(), {}

        def step(self, action):
            self.at += self.size
            return self._observation(), 1.0, False, False, {}

    tasks = from_gymnasium(
        Parts, {"step": Choice([1, 2])}, name="parts", horizon=3, shares_tasks=True
    )
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=2, num_episodes=2)
    history = Histories(tmp_path)[0]
    size = history.task["step"]
    np.testing.assert_array_equal(history.observations["seen"][0][:, 0], [0, size, 2 * size] * 2)
    np.testing.assert_array_equal(history.final_observations["seen"][0][:, 1], [3 * size] * 2)
    batch = Histories(tmp_path).windows(2).batch([0, 1])
    assert batch.observations["at"].shape == (2, 6)
