"""Dark rooms: the rules by hand, and the figures that are known of them."""

import itertools

import gymnasium
import numpy as np
import pytest

from metarl import Task, Tasks, check_tasks, envs, evaluate
from metarl.agents import reference
from metarl.agents.classical.navigation import KnownGoal
from metarl.envs.dark_room import DarkKeyToDoorVectorEnv, DarkRoomVectorEnv

UP, RIGHT, DOWN, LEFT, STAY = range(5)
CELLS = np.array(list(itertools.product(range(9), repeat=2)))


def rooms(*goals):
    env = DarkRoomVectorEnv(len(goals))
    env.set_tasks(Tasks("dark-room", {"goal": np.array(goals)}))
    env.reset(seed=0)
    return env


def doors(keys, doors, starts):
    """Return rooms in which the present episode starts at the given cells."""
    env = DarkKeyToDoorVectorEnv(len(keys))
    env.set_tasks(Tasks("dark-key-to-door", {"key": np.array(keys), "door": np.array(doors)}))
    env.reset(seed=0)
    env._positions[:] = starts
    return env


def test_an_episode_in_the_room_by_hand():
    env = rooms([4, 4], [8, 5])
    seen, paid = [], []
    for action in (STAY, RIGHT, LEFT, STAY):
        observations, rewards, terminated, truncated, _ = env.step(np.array([action, RIGHT]))
        assert not (terminated | truncated).any()
        seen.append(observations.tolist())
        paid.append(rewards.tolist())
    first, second = zip(*seen)
    assert first == ([4, 4], [5, 4], [4, 4], [4, 4])
    assert second == ([5, 4], [6, 4], [7, 4], [8, 4])
    assert list(zip(*paid)) == [(1, 0, 1, 1), (0, 0, 0, 0)]
    # The wall on the right holds; the goal pays in every step that ends there.
    ends = [env.step(np.array([STAY, action])) for action in (RIGHT, UP, STAY, DOWN)]
    assert [end[0][1].tolist() for end in ends] == [[8, 4], [8, 5], [8, 5], [8, 4]]
    assert [end[1][1] for end in ends] == [0, 1, 1, 0]


def test_twenty_steps_and_back_to_the_center():
    env = rooms([0, 0])
    ends = []
    for _ in range(41):
        observations, _, terminated, truncated, _ = env.step(np.array([RIGHT]))
        ends.append(bool(truncated[0]))
        assert not terminated[0]
        if truncated[0]:
            assert observations.tolist() == [[4.0, 4.0]]
    assert np.flatnonzero(ends).tolist() == [19, 39]


def total_return(actions_of):
    """Play one episode of each of the 81 goals; return the sum of all rewards.

    Args:
        actions_of: Maps positions, of shape (81, 2), and which goals have been met to actions.
    """
    env = rooms(*CELLS)
    positions, met, total = np.full((81, 2), 4.0), np.zeros(81, dtype=bool), 0.0
    for step in range(20):
        positions, rewards, *_ = env.step(actions_of(step, positions, met))
        met |= rewards > 0
        total += rewards.sum()
    return total


def test_the_goal_known():
    # The distances of the 81 cells from the center sum to 360. A goal at distance d pays 21 - d
    # times, but the center itself 20 times, from the first step on: 81 * 21 - 360 - 1 = 1340.
    agent, view = reference("known-goal", envs.make("dark-room"))
    player = agent.adaptation(81)
    encoded = view.parameters["goal"].encode(CELLS)
    assert total_return(lambda _, p, __: player.act(np.concatenate([p, encoded], 1))) == 1340
    goals = view.sample("held_out", 16, seed=0).columns["goal"]
    expected = np.where((goals == 4).all(1), 20, 21 - np.abs(goals - 4).sum(1)).mean()
    assert evaluate(agent, view, num_tasks=16).returns.mean() == pytest.approx(expected)


def test_the_best_first_episode():
    # A spiral meets a new cell in each of its 20 steps, and stays at the goal. The goal that is met
    # in step t pays 21 - t times, so nothing else earns more: 20 + 19 + ... + 1 = 210.
    turns = zip((UP, RIGHT, DOWN, LEFT) * 2, (1, 1, 2, 2, 3, 3, 4, 4))
    spiral = [action for action, length in turns for _ in range(length)]
    assert total_return(lambda step, _, met: np.where(met, STAY, spiral[step])) == 210
    # One that goes up and stays at the wall meets four cells; whoever never moves, the center.
    assert total_return(lambda step, _, met: np.where(met, STAY, UP)) == 20 + 19 + 18 + 17
    assert total_return(lambda step, _, met: np.full(81, STAY)) == 20


def test_a_search_of_the_nearest_cells_finds_every_goal_in_six_episodes():
    tasks = envs.make("dark-room")
    given = Tasks("dark-room", {"goal": CELLS})
    searcher, _ = reference("nearest-unvisited", tasks)
    returns = evaluate(searcher, tasks, split="all", given=given, num_episodes=7).returns
    known = evaluate(
        *reference("known-goal", tasks), split="all", given=given, num_episodes=1
    ).returns[:, 0]
    np.testing.assert_array_equal(returns[:, 6], known)  # 16.54 on average
    assert (np.diff(returns, axis=1) >= 0).all()
    assert 2.3 < returns[:, 0].mean() <= 210 / 81  # the best first episode


def test_key_and_door_by_hand():
    # Key, then door; the door before the key; both in one cell; the key at the start.
    env = doors(
        keys=[[1, 0], [2, 0], [1, 0], [0, 0]],
        doors=[[2, 0], [1, 0], [1, 0], [0, 1]],
        starts=[0, 0],
    )
    rows = [env.step(np.array(step)) for step in [[RIGHT] * 3 + [STAY], [RIGHT, RIGHT, STAY, UP]]]
    assert [row[1].tolist() for row in rows] == [[1, 0, 1, 1], [1, 1, 1, 1]]
    assert [row[2].tolist() for row in rows] == [[False] * 4, [True, False, True, True]]
    assert rows[1][4]["success"].tolist() == [True, False, True, True]
    # The second has the key now, which pays once, and goes to the door.
    _, rewards, terminated, *_ = env.step(np.full(4, STAY))
    assert (rewards[1], terminated[1]) == (0, False)
    _, rewards, terminated, *_ = env.step(np.full(4, LEFT))
    assert (rewards[1], terminated[1]) == (1, True)


def test_the_key_is_lost_at_the_end_of_an_episode():
    env = doors(keys=[[0, 0]], doors=[[0, 1]], starts=[0, 0])
    rewards, truncated = zip(*(env.step(np.array([STAY]))[1:4:2] for _ in range(50)))
    assert (sum(rewards), np.flatnonzero(truncated).tolist()) == (1, [49])
    env._positions[:] = (0, 0)
    assert env.step(np.array([UP]))[1] == 0  # the door without the key
    assert env.step(np.array([DOWN]))[1] == 1


def test_whoever_knows_key_and_door_gets_two_from_anywhere():
    tasks = envs.make("dark-key-to-door")
    env = tasks.make_vec(200)
    sampled = tasks.sample("held_out", 200, 0)
    env.set_tasks(sampled)
    positions, _ = env.reset(seed=0)
    assert len(np.unique(positions, axis=0)) > 60  # of 81 cells; 74 are expected
    targets = [sampled.columns[name] for name in ("key", "door")]
    has_key, running, total = np.zeros(200, bool), np.ones(200, bool), np.zeros(200)
    for _ in range(50):
        dx, dy = (np.where(has_key[:, None], targets[1], targets[0]) - positions).T
        actions = np.select([dx > 0, dx < 0, dy > 0, dy < 0], [RIGHT, LEFT, UP, DOWN], STAY)
        positions, rewards, terminated, truncated, _ = env.step(actions)
        total += rewards * running
        has_key |= rewards > 0
        running &= ~(terminated | truncated)
    assert (total == 2).all()


def test_splits_and_what_is_refused():
    room, doors = envs.make("dark-room"), envs.make("dark-key-to-door")
    assert [room.num_tasks(split) for split in ("train", "held_out")] == [65, 16]
    assert [doors.num_tasks(split) for split in ("train", "held_out")] == [5249, 1312]
    assert room.overlap("held_out") is doors.overlap("held_out") is None
    for name in ("key", "door"):
        assert len(np.unique(doors.sampler("train").columns[name], axis=0)) == 81
    with pytest.raises(ValueError, match="is not allowed by Cell"):
        room.make_vec(1).set_tasks([Task("dark-room", {"goal": (9, 0)})])
    with pytest.raises(ValueError, match="KnownGoal needs goals of two coordinates"):
        KnownGoal(doors.oracle())


@pytest.mark.parametrize("name", ["dark-room", "dark-key-to-door"])
def test_observations_do_not_show_the_task(name):
    assert check_tasks(envs.make(name)).passed


def test_pictures():
    env = gymnasium.make("metarl/DarkKeyToDoor-v0", render_mode="rgb_array")
    env.unwrapped.set_task(Task("dark-key-to-door", {"key": (0, 0), "door": (8, 8)}))
    env.reset(seed=0)
    shown = env.render()
    assert shown.shape == (416, 416, 3)
    goal = (0, 158, 115)
    assert tuple(shown[-15, 15]) == goal  # the key, at the bottom left
    assert tuple(shown[15, -15]) == (255, 255, 255)  # the door, at the top right, is not yet next
    env.close()
