"""Random tabular MDPs: the rules of the game, and the distribution of the tasks."""

import math

import numpy as np
import pytest

from metarl import Tasks, check_tasks, envs
from metarl.envs.tabular import TabularVectorEnv, tabular_mdp


def ring(num_envs=1, num_states=3):
    """Action 0 stays and pays nothing; action 1 moves one state on and pays 100 times the state."""
    stay, move = np.eye(num_states), np.roll(np.eye(num_states), 1, axis=1)
    transitions = np.stack([stay, move], axis=1)
    rewards = np.stack([np.zeros(num_states), 100.0 * np.arange(num_states)], axis=1)
    columns = {"transitions": transitions, "rewards": rewards}
    return Tasks("ring", {name: np.stack([c] * num_envs) for name, c in columns.items()})


def test_an_episode_by_hand():
    env = TabularVectorEnv(2, num_states=3, num_actions=2, horizon=4)
    env.set_tasks(ring(2))
    observations, _ = env.reset(seed=0)
    assert observations.tolist() == [0, 0]
    seen, paid, cut = [], [], []
    for actions in ([1, 0], [1, 1], [0, 1], [1, 1], [1, 0]):
        observations, rewards, terminated, truncated, info = env.step(np.array(actions))
        assert not terminated.any()
        assert truncated[0] == truncated[1]
        ended = truncated[0]
        seen.append((info["final_obs"] if ended else observations).tolist())
        assert not ended or observations.tolist() == [0, 0]
        paid.append(np.round(rewards, -2).tolist())  # the noise is far below 50
        cut.append(bool(ended))
    assert seen == [[1, 0], [2, 1], [2, 2], [0, 0], [1, 0]]
    assert paid == [[0, 0], [100, 0], [0, 100], [200, 200], [0, 0]]
    assert cut == [False, False, False, True, False]


def test_next_states_and_rewards_have_the_distributions_of_the_task():
    num_envs = 40_000
    tasks = tabular_mdp(1, num_states=4, num_actions=2, horizon=2)
    (task,) = tasks.sample("train", 1, seed=0)
    env = tasks.make_vec(num_envs)
    env.set_tasks([task] * num_envs)
    states, _ = env.reset(seed=0)
    for _ in range(2):
        actions = np.arange(num_envs) % 2
        following, rewards, _, _, info = env.step(actions)
        following = info.get("final_obs", following)
        for state in np.unique(states):
            for action in (0, 1):
                rows = (states == state) & (actions == action)
                chances = np.array(task["transitions"][state][action])
                shares = np.bincount(following[rows], minlength=4) / rows.sum()
                errors = np.sqrt(chances * (1 - chances) / rows.sum())
                assert (np.abs(shares - chances) < 4 * errors).all()
                # Reward and next state are drawn independently of each other.
                noise = rewards[rows] - task["rewards"][state][action]
                assert abs(noise.mean()) < 4 / math.sqrt(rows.sum())
                assert abs(noise.std() - 1) < 4 / math.sqrt(2 * rows.sum())
                moved = following[rows] - following[rows].mean()
                correlation = (noise * moved).mean() / (noise.std() * moved.std())
                assert abs(correlation) < 4 / math.sqrt(rows.sum())
        states = following


def test_the_distribution_of_the_tasks():
    columns = envs.make("tabular-mdp-10").sample("held_out", 2000, seed=0).columns
    transitions, rewards = columns["transitions"], columns["rewards"]
    assert transitions.shape == (2000, 10, 5, 10)
    assert rewards.shape == (2000, 10, 5)
    np.testing.assert_allclose(transitions.sum(axis=-1), 1.0)
    # Each chance is Beta(1, 9): its mean is 0.1, its variance 9 / 1100.
    assert transitions.var() == pytest.approx(9 / 1100, rel=0.01)
    assert rewards.mean() == pytest.approx(1.0, abs=0.02)
    assert rewards.std() == pytest.approx(1.0, abs=0.02)


def test_families_differ_in_the_number_of_episodes_only():
    short, long = envs.make("tabular-mdp-10"), envs.make("tabular-mdp-33")
    assert (short.episodes_per_trial, long.episodes_per_trial) == (10, 33)
    drawn, again = short.sample("held_out", 3, seed=5), long.sample("held_out", 3, seed=5)
    np.testing.assert_array_equal(drawn.columns["rewards"], again.columns["rewards"])
    assert "tabular-mdp-100" in envs.names()


def test_the_family_passes_all_checks():
    assert check_tasks(envs.make("tabular-mdp-10")).passed


def test_an_oracle_is_given_everything():
    view = envs.make("tabular-mdp-10", oracle=True)
    env = view.make_vec(2)
    tasks = view.sample("train", 2, seed=0)
    env.set_tasks(tasks)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (2, 10 + 500 + 50)
    assert observations[:, :10].tolist() == [[1.0] + [0.0] * 9] * 2
    rewards = view.parameters["rewards"].decode(observations[:, 510:])
    np.testing.assert_allclose(rewards, tasks.columns["rewards"], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: envs.make("tabular-mdp-0"), "num_episodes must be at least 1, got 0"),
        (lambda: tabular_mdp(1, num_states=1), "num_states must be at least 2, got 1"),
        (lambda: tabular_mdp(1, num_actions=1), "num_actions must be at least 2"),
        (lambda: tabular_mdp(1, horizon=0), "horizon must be at least 1"),
        (lambda: TabularVectorEnv(1, num_actions=0), "num_actions must be at least 2"),
        (lambda: envs.make("tabular-mdp"), "unknown family 'tabular-mdp'"),
    ],
)
def test_bad_sizes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_transitions_must_be_probabilities():
    env = TabularVectorEnv(1, num_states=3, num_actions=2)
    tasks = ring()
    half = {**tasks.columns, "transitions": 0.5 * tasks.columns["transitions"]}
    with pytest.raises(ValueError, match=r"task 0: transitions=.*is not allowed by Dirichlet"):
        env.set_tasks(Tasks("ring", half))
