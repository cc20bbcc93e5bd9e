"""Histories from and to Minari; skipped where it is not installed."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import Choice, envs
from metarl.agents import AD
from metarl.agents.classical.navigation import KnownGoal, NearestUnvisited
from metarl.agents.classical.random_actions import RandomActions
from metarl.data import Histories, from_minari, record, to_minari
from metarl.envs import from_gymnasium
from metarl.errors import MissingPackageError

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def _own_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_histories_come_back_from_minari_byte_by_byte(tmp_path):
    tasks = envs.make("dark-room")
    source, labels = NearestUnvisited(tasks), KnownGoal(tasks.oracle())
    record(source, tasks, tmp_path / "data", num_tasks=4, num_episodes=3, labels=labels)
    histories = Histories(tmp_path / "data")
    to_minari(histories, "dark-room/searches-v0", tasks)
    dataset = minari.load_dataset("dark-room/searches-v0")
    assert dataset.total_episodes == 12
    assert dataset.total_steps == 4 * 3 * 20
    episode = dataset[4]  # the second one of the second history
    steps = slice(20, 40)
    np.testing.assert_array_equal(episode.observations[:-1], histories[1].observations[steps])
    np.testing.assert_array_equal(episode.observations[-1], histories[1].final_observations[1])
    np.testing.assert_array_equal(episode.actions, histories[1].actions[steps])
    np.testing.assert_array_equal(
        episode.infos["best_actions"][:-1], histories[1].best_actions[steps]
    )
    assert episode.truncations.tolist() == [False] * 19 + [True]
    from_minari(dataset, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "data")


class Parts(gymnasium.Env):
    """Nested observations with an image, and nested actions; episodes of several lengths."""

    observation_space = spaces.Dict(
        {
            "at": spaces.Discrete(5),
            "seen": spaces.Tuple([spaces.Box(0, 255, (32, 32, 3), np.uint8)]),
        }
    )
    action_space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple([spaces.Discrete(2)])})

    def __init__(self, step):
        self.size, self.at = step, 0

    def _observation(self):
        pixels = np.random.default_rng(self.at).integers(256, size=(32, 32, 3), dtype=np.uint8)
        return {"at": self.at % 5, "seen": (pixels,)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self._observation(), {}

    def step(self, action):
        self.at += self.size
        return self._observation(), 1.0, action["a"] == 2, False, {}


def test_observations_and_actions_keep_their_parts(tmp_path):
    tasks = from_gymnasium(
        Parts, {"step": Choice([1, 2])}, name="parts", horizon=4, shares_tasks=True
    )
    options = {"num_tasks": 3, "num_episodes": 2, "labels": RandomActions(tasks.oracle())}
    record(RandomActions(tasks), tasks, tmp_path / "data", **options)
    histories = Histories(tmp_path / "data")
    assert len(set(histories.lengths.ravel())) > 1
    dataset = to_minari(histories, "parts-v0", tasks, author="a walker")
    assert set(dataset[0].actions) == {"a", "b"}
    assert dataset.storage.metadata["author"] == {"a walker"}
    from_minari(dataset, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "data")


def foreign(num_episodes):
    """Return a data set that metarl had no part in: walks in a dark room."""
    rng = np.random.default_rng(0)
    episodes = [
        minari.data_collector.EpisodeBuffer(
            observations=rng.integers(9, size=(length + 1, 2)).astype(np.float32),
            actions=rng.integers(5, size=length),
            rewards=rng.random(length),
            terminations=np.zeros(length, bool),
            truncations=np.zeros(length, bool),  # just cut off
        )
        for length in range(1, num_episodes + 1)
    ]
    with pytest.warns(UserWarning, match="None"):
        return minari.create_dataset_from_buffers(
            "walks-v0",
            episodes,
            observation_space=spaces.Box(0.0, 8.0, (2,), np.float32),
            action_space=spaces.Discrete(5),
            algorithm_name="walks",
        )


def test_a_data_set_of_minari_trains_an_agent(tmp_path):
    dataset = foreign(12)
    from_minari(dataset, tmp_path / "data", num_episodes=3)
    histories = Histories(tmp_path / "data")
    assert len(histories) == 4
    assert histories.info["agent"] == "walks"
    np.testing.assert_array_equal(histories[2].actions[:7], dataset[6].actions)
    np.testing.assert_array_equal(np.flatnonzero(histories[2].truncated), [6, 14, 23])
    agent = AD(envs.make("dark-room"), seed=0, num_episodes=3, policy_kwargs={"hidden_size": 8})
    agent.learn(histories, total_gradient_steps=2)
    assert agent.num_gradient_steps == 2


def test_what_minari_cannot_give(tmp_path, monkeypatch):
    dataset = foreign(12)
    with pytest.raises(ValueError, match=r"does not say which episodes .* pass num_episodes"):
        from_minari(dataset, tmp_path / "data")
    with pytest.raises(ValueError, match=r"12 episodes, .* no whole number of .*num_episodes=5"):
        from_minari(dataset, tmp_path / "data", num_episodes=5)
    from_minari(dataset, tmp_path / "data", num_episodes=4)
    with pytest.raises(ValueError, match="holds histories already"):
        from_minari(dataset, tmp_path / "data", num_episodes=4)
    with pytest.raises(ValueError, match="whose observation_space is not that of bandit-10x5"):
        to_minari(Histories(tmp_path / "data"), "other-v0", envs.make("bandit-10x5"))
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'metarl-suite\[minari\]'"):
        to_minari(Histories(tmp_path / "data"), "other-v0", envs.make("dark-room"))
