"""Differences between agents: paired by task, over seeds and tasks."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from test_report import made_up

import metarl


def agents(rng, num_tasks, gain, spread=(0.0, 1.0, 1.0), num_seeds=1, num_episodes=1):
    """Return reports of the agents A and B: B's returns, and what A earns more.

    Args:
        rng: Draws all numbers.
        num_tasks: How many tasks.
        gain: The difference of the two, for each episode.
        spread: The standard deviations of seeds, of tasks (of what an agent earns in them, and of
            the difference), and of episodes.
        num_seeds: How many seeds of either agent.
        num_episodes: How many episodes.
    """
    of_seeds, of_tasks, of_episodes = spread
    worth = rng.normal(0.0, 10.0, (num_tasks, 1))
    reports = []
    for agent, added in (("A", np.broadcast_to(gain, (num_episodes,))), ("B", 0.0)):
        own = of_tasks / np.sqrt(2) * rng.normal(size=(num_tasks, 1))
        for _ in range(num_seeds):
            seed = of_seeds * rng.normal()
            noise = of_episodes * rng.normal(size=(num_tasks, num_episodes))
            reports.append(made_up(worth + own + seed + noise + added, agent, statistic="mean"))
    return reports


def test_a_difference_is_paired():
    # Tasks differ by 10 in what they are worth, agents by 0.5.
    reports = agents(np.random.default_rng(0), 200, 0.5, (0.0, 0.0, 1.0))
    (difference,) = metarl.compare(reports).differences
    paired = (reports[0].returns - reports[1].returns)[:, 0]
    assert difference.value[0] == pytest.approx(paired.mean())
    half = scipy.stats.t.ppf(0.975, 199) * paired.std(ddof=1) / np.sqrt(200)
    assert difference.high[0] - difference.low[0] == pytest.approx(2 * half, rel=0.1)
    assert (difference.agent, difference.other, difference.groups) == ("A", "B", [(0, 1)])
    # 0.5 of a standard deviation of sqrt(2): better in Phi(0.35), or 64%, of the tasks
    assert difference.improvement.value[0] == (paired > 0).mean()
    assert difference.improvement.low[0] < 0.64 < difference.improvement.high[0]


def test_who_is_ahead_and_from_which_episode_on():
    rng = np.random.default_rng(0)
    compared = metarl.compare(
        agents(rng, 100, np.array([-5.0, 5.0, 0.0, 5.0, 5.0]), num_episodes=5)
    )
    (difference,) = compared.differences
    assert difference.ahead_from == 4
    assert difference.behind_from is None
    assert "A is ahead of B from episode 4 on." in str(compared)
    (behind,) = metarl.compare(agents(rng, 100, -5.0, num_episodes=2)).differences
    assert (behind.ahead_from, behind.behind_from) == (None, 1)
    (alike,) = metarl.compare(agents(rng, 100, 0.0, num_episodes=2)).differences
    assert "Neither is ahead at the end" in alike.conclusion()
    (few,) = metarl.compare(agents(rng, 2, 5.0)).differences
    assert "Fewer than 3 tasks do not show who is ahead" in few.conclusion()
    assert few.ahead_from is None


def test_seeds_are_resampled_with_the_tasks():
    rng = np.random.default_rng(0)
    one = metarl.compare(agents(rng, 100, 3.0, (2.0, 1.0, 1.0))).differences[0]
    five = metarl.compare(agents(rng, 100, 3.0, (2.0, 1.0, 1.0), num_seeds=5)).differences[0]
    # One seed's interval knows nothing of the seeds, which have a standard deviation of 2.
    assert one.high[0] - one.low[0] < 1.0
    expected = 2 * scipy.stats.t.ppf(0.975, 8) * 2.0 * np.sqrt(2 / 5)
    assert 0.5 * expected < five.high[0] - five.low[0] < 1.6 * expected
    assert five.of_agent[0] - five.of_other[0] == pytest.approx(five.value[0])


def test_the_probability_of_improvement_is_over_all_pairs_of_seeds():
    returns = {"A": ([3.0] * 10, [1.0] * 10), "B": ([2.0] * 10, [1.0] * 10)}
    reports = [
        made_up(np.array(each)[:, None], agent) for agent in returns for each in returns[agent]
    ]
    (difference,) = metarl.compare(reports).differences
    assert difference.improvement.value[0] == (1 + 1 + 0 + 0.5) / 4
    assert 0.0 <= difference.improvement.low[0] <= difference.improvement.high[0] <= 1.0


def test_the_first_is_compared_with_each_other_and_unequal_budgets_are_stated():
    rng = np.random.default_rng(0)
    a, b = agents(rng, 40, 1.0, num_episodes=8)
    rounds = replace(b, agent="rounds", returns=b.returns - 3.0, episodes_per_adaptation=4)
    short = replace(b, agent="short", returns=b.returns[:, :2], lengths=b.lengths[:, :2])
    compared = metarl.compare([a, rounds, short], env_steps={"A": 2_000_000, "rounds": 1_000})
    assert [(each.agent, each.other) for each in compared.differences] == [
        ("A", "rounds"),
        ("A", "short"),
    ]
    assert compared.differences[0].groups == [(0, 4), (4, 8)]
    assert compared.differences[1].groups == [(0, 1), (1, 2)]
    text = str(compared)
    assert "unequal budgets, env steps of training: A 2,000,000, rounds 1,000" in text
    assert "unequal budgets, episodes before an agent adapts: A 1, rounds 4, short 1" in text
    assert "compared): A 8, rounds 8, short 2" in text
    assert "one seed of A, rounds, short" in text
    assert "unequal" not in str(metarl.compare([a, b]))


def test_what_cannot_be_compared():
    a, b = agents(np.random.default_rng(0), 40, 1.0)
    with pytest.raises(ValueError, match="were not evaluated on the same tasks"):
        metarl.compare([a, replace(b, seed=1)])
    with pytest.raises(ValueError, match="at least two agents, got 2 of 'A'"):
        metarl.compare([a, replace(b, agent="A")])


# How often intervals cover: what docs/evaluation.md reports.

SPREADS = {
    "seeds differ little": (0.1, 1.0, 1.0),
    "seeds differ as tasks do": (1.0, 1.0, 1.0),
    "mostly noise": (0.05, 0.5, 2.0),
}


def coverage(spread, num_seeds, num_tasks, statistic="mean", times=150):
    """Return how often, in percent, the interval of a difference covers the truth."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(times):
        reports = agents(rng, num_tasks, 2.0, spread, num_seeds)
        reports = [replace(report, statistic=statistic) for report in reports]
        (difference,) = metarl.compare(reports).differences
        hits += difference.low[0] <= 2.0 <= difference.high[0]
    return 100 * hits / times


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_intervals_over_seeds_and_tasks_cover(spread, num_seeds):
    covered = [coverage(spread, num_seeds, num_tasks) for num_tasks in (20, 100, 400)]
    print(f"covered: {spread}, {num_seeds} seeds: {covered}")
    # 150 repetitions have a standard error of two percent, all three together of one.
    assert min(covered) >= 90 - 2
    assert 90 <= np.mean(covered) <= 98 + 1
