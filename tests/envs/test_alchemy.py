"""Alchemy: episodes recorded from the original, its chemistries, and the references."""

import functools
from pathlib import Path

import numpy as np
import pytest

from metarl import envs, evaluate
from metarl.agents import reference
from metarl.agents.classical.alchemy import best_plan
from metarl.envs.alchemy.chemistry import REWARDS, graphs, next_corners
from metarl.errors import InvalidValueError
from metarl.experiments.benchmarks.check_alchemy import main, replay

RECORDED = Path(__file__).parents[1] / "support" / "alchemy.npz"


@functools.cache
def family(name="alchemy"):
    return envs.make(name)


def recorded():
    """Return 24 episodes of the original, half of them rotated."""
    with np.load(RECORDED, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_episodes_of_the_original_are_repeated_exactly(capsys):
    with pytest.raises(SystemExit) as end:
        main(str(RECORDED))
    assert not end.value.code, capsys.readouterr().out


def test_a_difference_is_counted():
    data = recorded()
    data["rewards"][3, 7] += 1
    data["observations"][5, 100, 0] += 1
    env = family("alchemy-rotated").make_vec(len(data["actions"]))
    assert replay(env, data) == (1, 1)


def test_the_graphs_are_as_likely_as_in_the_original():
    _, constraints = graphs()
    assert np.bincount(constraints).tolist() == [1, 12, 48, 48]
    drawn = family().sample("train", 20_000, 0).columns["edges"]
    # Graphs differ in their number of edges: 12; 10; 8 or 9; 7.
    shares = np.bincount(drawn.sum(axis=1), minlength=13)[[12, 10, 7]] / len(drawn)
    np.testing.assert_allclose(shares, 0.25, atol=0.015)


def test_new_chemistries_and_new_graphs_are_new():
    tasks = family()
    for split in ("held_out", "unseen_graphs"):
        assert tasks.overlap(split) is None

    def drawn(split):
        return {tuple(row) for row in tasks.sampler(split).columns["edges"].tolist()}

    assert drawn("held_out") == drawn("train")
    assert len(drawn("train")) == 109 - 20
    assert len(drawn("unseen_graphs")) == 20
    assert not drawn("unseen_graphs") & drawn("train")


def best_by_trying(after, corners, meanings):
    """Return the most that can be earned, by trying every order of every action."""

    @functools.cache
    def best(stones, left):
        most = 0.0
        for number, corner in enumerate(stones):
            others = (*stones[:number], *stones[number + 1 :])
            most = max(most, REWARDS[corner] + best(others, left))
            for potion in set(left):
                rest = list(left)
                rest.remove(potion)
                to = tuple(sorted((*others, int(after[corner, potion]))))
                most = max(most, best(to, tuple(rest)))
        return most

    return best(tuple(sorted(corners.tolist())), tuple(sorted(meanings.tolist())))


def earned(after, corners, meanings, actions):
    """Return what actions earn, and check that no potion is used twice."""
    stones, used, total = corners.copy(), set(), 0.0
    for action in actions[actions > 0] - 1:
        stone, item = divmod(int(action), 13)
        if item == 0:
            total += REWARDS[stones[stone]]
        else:
            assert item - 1 not in used
            used.add(item - 1)
            stones[stone] = after[stones[stone], meanings[item - 1]]
    return total


def test_the_plan_of_the_oracle_is_the_best():
    rng = np.random.default_rng(0)
    tables = next_corners(np.array(graphs()[0], dtype=bool))
    for _ in range(60):
        after = tables[rng.integers(len(tables))]
        corners, meanings = rng.integers(8, size=3), rng.integers(6, size=5)
        actions = best_plan(after, corners, meanings)
        best = best_by_trying(after, corners, meanings)
        assert earned(after, corners, meanings, actions) == best


@pytest.mark.parametrize(
    ("name", "published"),
    [("random", 17.05), ("random-potions", 145.2), ("known-chemistry", 288.5)],
)
def test_references_earn_what_is_published(name, published):
    # On chemistries of the same distribution; the standard error over 100 of them is about 5.
    agent, view = reference(name, family())
    returns = evaluate(agent, view, num_tasks=100, num_episodes=10, seed=1).returns.sum(axis=1)
    assert abs(returns.mean() - published) < 15
    rotated, view = reference(name, family("alchemy-rotated"))
    assert evaluate(rotated, view, num_tasks=4, num_episodes=1).returns.shape == (4, 1)


def test_references_of_chemistries_play_nothing_else():
    with pytest.raises(InvalidValueError, match=r"plays families of chemistries.*'gridnavi'"):
        reference("random-potions", envs.make("gridnavi"))


def test_the_table_is_drawn():
    env = family("alchemy-rotated").make_vec(2, render_mode="rgb_array")
    env.set_tasks(family("alchemy-rotated").sample("train", 2, 0))
    env.reset(seed=0)
    before = env.render()
    env.step(np.array([2, 0]))
    after = env.render()
    assert before[0].shape == (320, 480, 3)
    assert (before[0] != after[0]).any()
    assert (before[1] == after[1]).all()
