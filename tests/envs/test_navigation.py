"""2D navigation, dense and sparse: the rules of the game, batched and single."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl import Task, Tasks, check_tasks, evaluate
from metarl.agents import reference
from metarl.envs.navigation import (
    NavigationVectorEnv,
    SparseNavigationVectorEnv,
    navigation_2d,
    navigation_sparse,
)


def goals(*points):
    return Tasks("navigation-2d", {"goal": np.array(points, dtype=float)})


def test_an_episode_by_hand():
    env = NavigationVectorEnv(2)
    env.set_tasks(goals([0.15, 0.0], [0.3, -0.4]))
    observations, _ = env.reset(seed=0)
    assert observations.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    # 5.0 is clipped to 0.1 along x; along y the move is within bounds.
    observations, rewards, terminated, truncated, _ = env.step(np.array([[5.0, 0.0], [0.1, -0.05]]))
    assert observations == pytest.approx(np.array([[0.1, 0.0], [0.1, -0.05]]))
    assert rewards == pytest.approx([-0.05, -np.hypot(0.2, 0.35)])
    assert not terminated.any()
    assert not truncated.any()
    # Within 0.01 of the goal along both axes the episode ends, and the next begins at the origin.
    observations, rewards, terminated, _, info = env.step(np.array([[0.045, 0.009], [0.0, 0.0]]))
    assert terminated.tolist() == [True, False]
    assert rewards[0] == pytest.approx(-np.hypot(0.005, 0.009))
    assert observations[0].tolist() == [0.0, 0.0]
    assert info["final_obs"][0] == pytest.approx([0.145, 0.009])


def test_one_coordinate_at_the_goal_does_not_end_the_episode():
    env = NavigationVectorEnv(1)
    env.set_tasks(goals([0.1, 0.2]))
    env.reset(seed=0)
    *_, terminated, _, _ = env.step(np.array([[0.1, 0.1]]))
    assert not terminated[0]


def test_the_squared_reward_of_the_text():
    env = navigation_2d(squared=True).make_vec(1)
    env.set_tasks([Task("navigation-2d-squared", {"goal": (0.3, 0.4)})])
    env.reset(seed=0)
    _, rewards, *_ = env.step(np.zeros((1, 2)))
    assert rewards == pytest.approx([-0.25])


def test_time_limit():
    env = navigation_2d(horizon=3).make_vec(1)
    env.reset(seed=0)
    ends = [env.step(np.zeros((1, 2)))[3][0] for _ in range(6)]
    assert ends == [False, False, True] * 2


def test_the_distribution_of_goals():
    sampled = navigation_2d().sample("train", 4000, 0).columns["goal"]
    assert sampled.shape == (4000, 2)
    assert np.abs(sampled).max() <= 0.5
    # The mean distance from the origin, which is what standing still costs per step.
    assert np.linalg.norm(sampled, axis=1).mean() == pytest.approx(0.3826, abs=0.006)


@pytest.mark.parametrize("tasks", [navigation_2d(), navigation_sparse()], ids=lambda t: t.name)
def test_batch_equals_single(tasks):
    sampled = tasks.sample("train", 5, 0)
    actions = np.random.default_rng(0).normal(0.0, 0.06, (40, 5, 2))
    batch = tasks.make_vec(5)
    batch.set_tasks(sampled)
    batch.reset(seed=0)
    rows = [batch.step(step)[:4] for step in actions]
    for lane in range(5):
        single = tasks.make_vec(1)
        single.set_tasks(sampled[lane : lane + 1])
        single.reset(seed=0)
        for step, expected in zip(actions, rows):
            got = single.step(step[lane : lane + 1])[:4]
            assert all(np.array_equal(g[0], e[lane]) for g, e in zip(got, expected))


def test_gymnasium_takes_it():
    env = gymnasium.make("metarl/Navigation2D-v0", render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    before = env.render()
    env.step(np.array([0.1, 0.1], dtype=np.float32))
    after = env.render()
    assert before.shape == (240, 240, 3)
    assert before.dtype == np.uint8
    assert (before != after).any()
    env.close()
    batch = gymnasium.make_vec("metarl/Navigation2D-v0", num_envs=3)
    assert batch.reset(seed=0)[0].shape == (3, 2)
    assert batch.render() is None
    batch.close()


# The sparse family.


def test_a_sparse_episode_by_hand():
    env = SparseNavigationVectorEnv(1)
    env.set_tasks(goals([0.6, 0.8]))
    env.reset(seed=0)
    steps = [[0.1, 0.1]] * 5 + [[0.1, 0.09], [0.0, 5.0], [0.0, 0.11]] + [[0.0, 0.0]] * 12
    rows = [env.step(np.array([step])) for step in steps]
    rewards = [float(row[1][0]) for row in rows]
    # At (0.6, 0.59) it is just too far; then straight up, by 0.1 at most.
    assert rewards[:6] == [0.0] * 6
    assert rewards[6:] == pytest.approx([0.89] + [0.99] * 13)
    assert [bool(row[3][0]) for row in rows] == [False] * 19 + [True]
    assert not any(row[2][0] for row in rows)  # to be there does not end the episode
    assert rows[-1][0].tolist() == [[0.0, 0.0]]


def test_the_distribution_of_goals_on_the_semicircle():
    tasks = navigation_sparse()
    x, y = tasks.sample("train", 4000, 0).columns["goal"].T
    assert np.hypot(x, y) == pytest.approx(1.0)
    assert y.min() >= 0.0
    angles = np.arctan2(y, x)
    assert (angles.mean(), angles.std()) == pytest.approx((np.pi / 2, np.pi / 12**0.5), abs=0.05)
    env = tasks.make_vec(1)
    for wrong in ([0.0, -1.0], [0.5, 0.5]):
        with pytest.raises(ValueError, match=r"is not allowed by Semicircle"):
            env.set_tasks(goals(wrong))


def test_checks_pass():
    # At random nothing is found in 20 steps; ten times as many lead as far as the semicircle.
    assert check_tasks(navigation_sparse(horizon=200), num_steps=600).passed


def test_what_can_be_had_when_the_goal_is_known():
    tasks = navigation_sparse()
    agent, view = reference("known-goal", tasks)
    report = evaluate(agent, view, num_tasks=200, num_episodes=2)
    goal = report.tasks.columns["goal"]
    # Along each axis the goal is approached at full speed, then met.
    left = np.maximum(np.abs(goal)[:, None] - 0.1 * np.arange(1, 21)[:, None], 0.0)
    distances = np.linalg.norm(left, axis=-1)
    best = np.where(distances <= 0.2, 1.0 - distances, 0.0).sum(axis=1)
    assert report.returns == pytest.approx(np.stack([best, best], axis=1), abs=1e-4)
    # Straight up it takes eight steps to the rim of the reward, slantwise fewer.
    assert 12.6 < best.min() < best.max() < 15.0
    assert evaluate(*reference("random", tasks), num_tasks=200).returns.mean() < 0.1


# Pictures.


def repainted(goal, path):
    """Paint the picture of a whole episode anew, each disc over the whole frame."""
    pixels = np.full((240, 240, 3), 255, dtype=np.uint8)
    axis = ((np.arange(240) + 0.5) / 240 * 2.0 - 1.0) * 0.8

    def disc(center, radius, color):
        pixels[np.hypot(axis - center[0], -axis[:, None] - center[1]) <= radius] = color

    disc(goal, 0.03, (0, 158, 115))
    for start, stop in itertools.pairwise(path):
        for share in np.linspace(0.0, 1.0, 8):
            disc(start + share * (stop - start), 0.008, (153, 153, 153))
    disc(path[-1], 0.02, (0, 114, 178))
    return pixels


def test_the_sparse_picture_shows_where_the_reward_is():
    env = gymnasium.make("metarl/NavigationSparse-v0", render_mode="rgb_array")
    env.reset(seed=0)  # the goal is at (0, 1)
    picture = env.render()
    pixel = {y: picture[round(120 - y * 120 / 1.3), 120].tolist() for y in (0.0, 0.5, 0.85, 1.0)}
    assert pixel == {0.0: [0, 114, 178], 0.5: [255] * 3, 0.85: [204, 236, 227], 1.0: [0, 158, 115]}
    env.close()


def test_pictures_grow_by_what_is_new():
    env = NavigationVectorEnv(2, horizon=20, render_mode="rgb_array")
    tasks = goals([0.1, 0.0], [-0.3, 0.45])
    env.set_tasks(tasks)
    assert np.array_equal(env.render()[1], repainted(tasks.columns["goal"][1], np.zeros((1, 2))))
    env.reset(seed=0)
    paths = [[np.zeros(2)], [np.zeros(2)]]
    rng = np.random.default_rng(0)
    for step in range(30):  # the second lane leaves the frame, and both begin anew
        previous = [path[-1] for path in paths]
        actions = rng.normal(0.03, 0.1, (2, 2))
        _, _, terminated, truncated, _ = env.step(actions)
        for lane, ended in enumerate(terminated | truncated):
            moved = previous[lane] + np.clip(actions[lane], -0.1, 0.1)
            paths[lane] = [np.zeros(2)] if ended else [*paths[lane], moved]
        if step % 6 == 0 or step in (19, 20):
            for lane, picture in enumerate(env.render()):
                assert np.array_equal(picture, repainted(tasks.columns["goal"][lane], paths[lane]))
