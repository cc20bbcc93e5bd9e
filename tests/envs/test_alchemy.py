"""Alchemy: episodes recorded from the original, its chemistries, and the references."""

import functools
from pathlib import Path

import numpy as np
import pytest

from metarl import envs, evaluate, play
from metarl.agents import reference
from metarl.agents.classical.alchemy import RandomPotions, best_plan
from metarl.agents.classical.chemistries import Chemistries
from metarl.envs.alchemy.chemistry import (
    COORDINATES,
    REWARDS,
    ROTATIONS,
    graphs,
    next_corners,
)
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
    [
        ("random", 17.05),
        ("random-potions", 145.2),
        ("exact-belief", 284.4),  # an ideal observer, which it is not quite
        ("known-chemistry", 288.5),
    ],
)
def test_references_earn_what_is_published(name, published):
    # On chemistries of the same distribution; the standard error over 60 of them is about 7.
    agent, view = reference(name, family())
    returns = evaluate(agent, view, num_tasks=60, num_episodes=10, seed=1).returns.sum(axis=1)
    assert abs(returns.mean() - published) < 15
    rotated, view = reference(name, family("alchemy-rotated"))
    assert evaluate(rotated, view, num_tasks=4, num_episodes=1).returns.shape == (4, 1)


@pytest.mark.parametrize("name", ["alchemy", "alchemy-rotated"])
def test_the_belief_is_exact(name):
    tasks = family(name)
    agent = RandomPotions(tasks)
    chemistries = Chemistries(tasks)
    sampled = tasks.sample("train", 3, 0)
    possible = np.ones((3, *chemistries.shape), dtype=bool)
    seen = [[], [], []]

    def record(step):
        stone, item = np.divmod(step.actions - 1, 13)
        for n in np.flatnonzero((step.actions > 0) & (item > 0)):
            at = slice(5 * stone[n], 5 * stone[n] + 4)
            color = round(3 * (step.observations[n, 15 + 2 * (item[n] - 1)] + 1))
            look, then = step.observations[n, at], step.next_observations[n, at]
            looks = (tuple(each.astype(float).round(4)) for each in (look, then))
            seen[n].append((next(looks), color, next(looks)))
            possible[n] &= chemistries.allowing(look[None], np.array([color]), then[None])[0]
        return True

    play(agent, tasks, sampled, 1, seed=0, on_step=record)
    parameters = tasks.parameters
    rng = np.random.default_rng(0)
    turns = list(ROTATIONS) if "rotation" in parameters else ["none"]
    outcomes = []
    for n, task in enumerate(sampled):
        assert len(seen[n]) > 5
        inside = np.argwhere(possible[n])
        drawn = rng.integers(chemistries.shape, size=(200, 3))
        for a, p, g in [*rng.choice(inside, 20), *drawn]:
            stones, turn = divmod(a, len(turns)) if len(turns) > 1 else (a, 0)
            signs = parameters["stones"].rows[stones]
            corner_of = {
                tuple(np.append(ROTATIONS[turns[turn]] @ (signs * c), c.sum() / 3).round(4)): i
                for i, c in enumerate(COORDINATES)
            }
            after = next_corners(np.array(parameters["edges"].rows[g : g + 1], dtype=bool))[0]
            kinds = parameters["potions"].rows[p]
            explained = all(
                look in corner_of and after[corner_of[look], kinds[color]] == corner_of.get(then)
                for look, color, then in seen[n]
            )
            assert explained == possible[n, a, p, g]
            outcomes.append(explained)
        # The true one is never dropped.
        a = np.flatnonzero((np.array(parameters["stones"].rows) == task["stones"]).all(axis=1))[0]
        a = a * len(turns) + turns.index(task["rotation"]) if len(turns) > 1 else a
        p = parameters["potions"].rows.index(tuple(task["potions"]))
        assert possible[n, a, p, parameters["edges"].rows.index(tuple(task["edges"]))]
    assert {*outcomes} == {True, False}


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
