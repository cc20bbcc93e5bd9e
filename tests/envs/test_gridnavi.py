"""GridNavi: the rules by hand, the best search, and the figures that are known of it."""

import itertools

import gymnasium
import numpy as np
import pytest

from metarl import Task, Tasks, envs, evaluate
from metarl.agents import reference
from metarl.agents.classical.grid_search import search_walks
from metarl.agents.classical.navigation import GridSearch, KnownGoal
from metarl.envs.gridnavi import GridNaviVectorEnv
from metarl.envs.grids import MOVES

UP, RIGHT, DOWN, LEFT, STAY = range(5)


def grids(*goals):
    env = GridNaviVectorEnv(len(goals))
    env.set_tasks(Tasks("gridnavi", {"goal": np.array(goals)}))
    env.reset(seed=0)
    return env


def test_an_episode_by_hand():
    env = grids([2, 0], [0, 2])
    seen, paid = [], []
    for action in (LEFT, RIGHT, RIGHT, STAY, UP, DOWN):
        observations, rewards, terminated, truncated, _ = env.step(np.array([action, UP]))
        assert not (terminated | truncated).any()
        seen.append(observations.tolist())
        paid.append(rewards.tolist())
    first, second = zip(*seen)
    assert first == ([0, 0], [1, 0], [2, 0], [2, 0], [2, 1], [2, 0])  # the wall on the left holds
    assert second == ([0, 1], [0, 2], [0, 3], [0, 4], [0, 4], [0, 4])  # and the one above
    first, second = zip(*paid)
    assert first == (-0.1, -0.1, 1.0, 1.0, -0.1, 1.0)
    assert second == (-0.1, 1.0, -0.1, -0.1, -0.1, -0.1)


def test_fifteen_steps_and_back_to_the_corner():
    env = grids([4, 4])
    ends = []
    for _ in range(31):
        observations, _, _, truncated, info = env.step(np.array([RIGHT]))
        ends.append(bool(truncated[0]))
        if truncated[0]:
            assert observations.tolist() == [[0.0, 0.0]]
            assert info["final_obs"].tolist() == [[4.0, 0.0]]
    assert np.flatnonzero(ends).tolist() == [14, 29]


def test_the_goal_is_one_of_21_cells():
    tasks = envs.make("gridnavi")
    assert tasks.num_tasks("train") == tasks.num_tasks("held_out") == 21
    # A set is drawn to its end before a goal comes again: 42 tasks have each goal twice.
    goals, counts = np.unique(tasks.sample("train", 42, 0).columns["goal"], axis=0, return_counts=1)
    near = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {tuple(goal) for goal in goals} == set(itertools.product(range(5), repeat=2)) - near
    assert (counts == 2).all()
    drawn = tasks.parameters["goal"].sample(np.random.default_rng(0), 500)
    assert len(np.unique(drawn, axis=0)) == 21
    env = tasks.make_vec(1)
    for wrong in ((1, 1), (5, 0), (2.5, 0), (-1, 2)):
        with pytest.raises(ValueError, match="is not allowed by Cell"):
            env.set_tasks([Task("gridnavi", {"goal": wrong})])


def test_evaluated_on_the_tasks_of_training_and_says_so():
    overlap = "gridnavi is evaluated on its 21 training tasks"
    assert envs.make("gridnavi").overlap("held_out") == overlap
    unseen = envs.make("gridnavi-unseen")
    assert unseen.overlap("held_out") is None
    assert (unseen.num_tasks("train"), unseen.num_tasks("held_out")) == (16, 5)


# By each of the 21 cells once, so these are expectations, not estimates. What other players get: at
# random -1.2 in every episode; that never finds the goal -1.5; a search that is as good in the
# first episode but leaves cells that are no way to each other about 10.8 in the second; one that
# does not remember the goal 4.00 in each.
def test_the_best_search():
    tasks = envs.make("gridnavi")
    agent, view = reference("bayes-optimal", tasks)
    report = evaluate(agent, view, num_tasks=21)
    known = 16.1 - 1.1 * 96 / 21  # the distances of the 21 cells sum to 96
    assert report.returns.mean(axis=0) == pytest.approx([4.0, known, known, known])
    assert report.returns.sum(axis=1).mean() == pytest.approx(37.214, abs=5e-4)
    # Lanes do not disturb each other, and what one adaptation has found no other knows.
    again = evaluate(agent, view, num_tasks=42, num_episodes=2, seed=1)
    assert again.returns.mean(axis=0) == pytest.approx([4.0, known])


def test_the_goal_known():
    tasks = envs.make("gridnavi")
    agent, view = reference("known-goal", tasks)
    assert view.label == "gridnavi (oracle)"
    report = evaluate(agent, view, num_tasks=21, num_episodes=2)
    assert report.returns.mean(axis=0) == pytest.approx([11.0714, 11.0714], abs=5e-5)


def steps_off_the_goal(walks, goal, start, size):
    """Walk a search until it meets the goal, which is gone to directly from then on."""
    total, found = 0, False
    for walk in walks:
        if found:
            total += abs(goal[0] - start[0]) + abs(goal[1] - start[1]) - 1
            continue
        cell = np.array(start)
        for action in walk:
            cell = np.clip(cell + MOVES[action], 0, size - 1)
            found = tuple(cell) == goal
            if found:
                break
            total += 1
    return total


@pytest.mark.parametrize(
    ("goals", "start", "horizon", "num_episodes"),
    [
        (((2, 2), (1, 2), (0, 2), (2, 0)), (0, 0), 4, 1),
        pytest.param(((2, 2), (1, 2), (0, 2), (2, 0)), (0, 0), 4, 2, marks=pytest.mark.slow),
        (((0, 0), (2, 2), (0, 2), (2, 0)), (1, 1), 3, 2),
        pytest.param(
            ((2, 2), (1, 2), (0, 2), (2, 1), (1, 0)), (0, 0), 2, 3, marks=pytest.mark.slow
        ),
        (((2, 2), (0, 0)), (0, 1), 2, 2),  # one of them is out of reach
    ],
)
def test_no_walk_is_better_than_the_search(goals, start, horizon, num_episodes):
    best = search_walks(goals, start, 3, horizon, num_episodes)
    assert best.shape == (num_episodes, horizon)

    def cost(walks):
        return sum(steps_off_the_goal(walks, goal, start, 3) for goal in goals)

    walks = list(itertools.product(range(5), repeat=horizon))
    if len(walks) ** num_episodes > 5_000:  # too many to try them all
        rng = np.random.default_rng(0)
        every = rng.integers(5, size=(5_000, num_episodes, horizon)).tolist()
    else:
        every = itertools.product(walks, repeat=num_episodes)
    assert cost(best) <= min(map(cost, every))


def test_who_cannot_seek():
    with pytest.raises(ValueError, match=r"give it tasks.oracle\(\), got 'gridnavi'"):
        KnownGoal(envs.make("gridnavi"))
    with pytest.raises(ValueError, match=r"KnownGoal needs goals.*'bandit-10x5' has \['p'\]"):
        KnownGoal(envs.make("bandit-10x5").oracle())
    with pytest.raises(ValueError, match=r"the five actions of a grid; 'navigation-2d' has"):
        GridSearch(envs.make("navigation-2d"))


def test_batch_equals_single():
    tasks = envs.make("gridnavi")
    sampled = tasks.sample("train", 5, 0)
    actions = np.random.default_rng(0).integers(5, size=(40, 5))
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


def test_pictures():
    env = gymnasium.make("metarl/GridNavi-v0", render_mode="rgb_array")
    env.unwrapped.set_task(Task("gridnavi", {"goal": (2, 0)}))
    env.reset(seed=0)
    goal, agent = (0, 158, 115), (0, 114, 178)

    def cells(color):
        """Return the cells (x, y) whose picture has the colour in its middle."""
        middle = env.render()[32:230:44, 32:230:44]
        rows, columns = np.nonzero((middle == color).all(axis=2))
        return {(int(x), 4 - int(y)) for x, y in zip(columns, rows)}

    assert env.render().shape == (240, 240, 3)
    assert (cells(agent), cells(goal), cells((204, 204, 204))) == ({(0, 0)}, {(2, 0)}, set())
    for action in (UP, RIGHT):
        env.step(action)
    assert (cells(agent), cells(goal)) == ({(1, 1)}, {(2, 0)})
    assert cells((204, 204, 204)) == {(0, 0), (0, 1)}
    env.reset()
    assert cells((204, 204, 204)) == set()
    env.close()
    batch = gymnasium.make_vec("metarl/GridNavi-v0", num_envs=3)
    batch.reset(seed=0)
    assert batch.render() is None
