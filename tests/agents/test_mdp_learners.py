"""The classical learners of tabular MDPs, whose scores are known, and the planning under them."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from metarl import Transition, envs, evaluate
from metarl.agents import reference
from metarl.agents.classical.mdps import (
    OPSRL,
    PSRL,
    UCRL2,
    EpsilonGreedyMDP,
    GreedyMDP,
    KnownMDP,
)
from metarl.agents.classical.planning import Posterior, optimistic_value_iteration, value_iteration
from metarl.envs.tabular import REFERENCES, tabular_mdp

TASKS = envs.make("tabular-mdp-10")


def random_mdps(n, num_states, num_actions, seed=0):
    tasks = tabular_mdp(1, num_states, num_actions).sample("train", n, seed)
    return tasks.columns["transitions"], tasks.columns["rewards"]


# Planning.


def slow_value(transitions, rewards, horizon):
    """The optimal action values of one MDP by going through all futures, [step, state, action]."""

    @functools.cache
    def value(step, state):
        if step == horizon:
            return 0.0
        return max(action_value(step, state, action) for action in range(len(rewards[state])))

    def action_value(step, state, action):
        following = enumerate(transitions[state][action])
        return rewards[state][action] + sum(p * value(step + 1, s) for s, p in following)

    states, actions = range(len(rewards)), range(len(rewards[0]))
    return [[[action_value(t, s, a) for a in actions] for s in states] for t in range(horizon)]


def test_value_iteration_against_all_futures():
    transitions, rewards = random_mdps(3, num_states=4, num_actions=3)
    values = value_iteration(transitions, rewards, horizon=5)
    assert values.shape == (3, 5, 4, 3)
    for mdp in range(3):
        expected = slow_value(transitions[mdp].tolist(), rewards[mdp].tolist(), horizon=5)
        np.testing.assert_allclose(values[mdp], expected, rtol=1e-12)


def best_in_ball(center, radius, values):
    """The greatest mean value over distributions within an L1 distance, by linear programming."""
    k = len(center)
    # Variables: the distribution p, and its distance to the center, outcome by outcome.
    eye = np.eye(k)
    within = np.block([[eye, -eye], [-eye, -eye], [np.zeros(k), np.ones(k)]])
    bounds = np.concatenate([center, -center, [radius]])
    total = np.concatenate([np.ones(k), np.zeros(k)])[None]
    objective = np.concatenate([-values, np.zeros(k)])
    return -linprog(objective, within, bounds, total, [1.0], bounds=(0, None)).fun


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_optimistic_value_iteration_against_linear_programs(scale):
    transitions, rewards = random_mdps(2, num_states=4, num_actions=2)
    radius = scale * np.random.default_rng(1).random(rewards.shape)
    values = optimistic_value_iteration(transitions, rewards, radius, horizon=3)
    following = np.zeros((2, 4))
    for step in (2, 1, 0):
        for mdp, state, action in np.ndindex(2, 4, 2):
            place = mdp, state, action
            best = best_in_ball(transitions[place], radius[place], following[mdp])
            assert values[mdp, step, state, action] == pytest.approx(rewards[place] + best)
        following = values[:, step].max(axis=-1)
    if scale == 0.0:
        np.testing.assert_allclose(values, value_iteration(transitions, rewards, horizon=3))


def test_the_optimum():
    # Found by an independent simulation: 21.84 +- 0.02. Random actions earn 10. Always taking the
    # best next reward earns 21.7 of 21.9: that plans are right is the claim of the tests above.
    values = value_iteration(*random_mdps(20_000, 10, 5), horizon=10)[:, 0, 0].max(axis=-1)
    assert values.std() / math.sqrt(20_000) < 0.02
    assert values.mean() == pytest.approx(21.84, abs=0.06)


# The posterior.


def seen_by_hand():
    posterior = Posterior(np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2)), prior_mean=1.0)
    zeros = np.zeros(1, dtype=int)
    for reward, following in ((2.0, 1), (4.0, 1), (0.5, 0)):
        posterior.update(zeros, zeros, zeros + 1, np.array([reward]), np.array([following]))
    return posterior


def test_the_posterior_by_hand():
    posterior = seen_by_hand()
    transitions, rewards = posterior.mean_transitions(), posterior.mean_rewards()
    assert transitions[0, 0, 1].tolist() == [2 / 5, 3 / 5]  # (1 + 1, 2 + 1) / (3 + 2)
    assert rewards[0, 0, 1] == (1.0 + 2.0 + 4.0 + 0.5) / 4  # the prior counts as one reward
    transitions[0, 0, 1], rewards[0, 0, 1] = 0.5, 1.0
    assert (transitions == 0.5).all()
    assert (rewards == 1.0).all()
    assert posterior.num_visits.sum() == 3


def test_samples_have_the_moments_of_the_posterior():
    num_samples = 40_000
    posterior = seen_by_hand()[np.zeros(num_samples, dtype=int)]
    transitions, rewards = posterior.sample(np.random.default_rng(0))
    np.testing.assert_allclose(transitions.sum(axis=-1), 1.0)
    for action, (alpha, beta) in enumerate([(1, 1), (2, 3)]):
        chance = transitions[:, 0, action, 0]
        total = alpha + beta
        variance = alpha * beta / (total**2 * (total + 1))
        assert abs(chance.mean() - alpha / total) < 4 * math.sqrt(variance / num_samples)
        assert chance.var() == pytest.approx(variance, rel=0.03)
    for action, (mean, variance) in enumerate([(1.0, 1.0), (7.5 / 4, 1 / 4)]):
        drawn = rewards[:, 0, action]
        assert abs(drawn.mean() - mean) < 4 * math.sqrt(variance / num_samples)
        assert drawn.var() == pytest.approx(variance, rel=0.03)
    # Independent of each other: rewards of two pairs, chances of two pairs.
    assert abs(np.corrcoef(rewards[:, 0, 0], rewards[:, 0, 1])[0, 1]) < 4 / math.sqrt(num_samples)
    assert abs(np.corrcoef(transitions[:, 0, 0, 0], transitions[:, 0, 1, 0])[0, 1]) < 0.02


# Scores. With episodes of one step, an MDP is a bandit with two normal arms.


def check_exact(learner, exact):
    tasks = tabular_mdp(2, num_states=2, num_actions=2, horizon=1)
    returns = evaluate(learner(tasks), tasks, num_tasks=40_000).trial_returns
    standard_error = returns.std() / math.sqrt(len(returns))
    assert standard_error < 0.012  # random play earns 2
    assert abs(returns.mean() - exact) < 4 * standard_error


def test_greedy_earns_the_exact_value_of_two_steps():
    # After the first reward, that arm has the mean 1 + x with x ~ N(0, 1/2), the other 1.
    check_exact(GreedyMDP, 2.0 + math.sqrt(1 / 2) / math.sqrt(2 * math.pi))


def test_psrl_earns_the_exact_value_of_two_steps():
    # It repeats its action if 1 + x + N(0, 1/2) > 1 + N(0, 1), with chance Phi(x / sqrt(3/2)).
    check_exact(PSRL, 2.0 + (1 / 2) / math.sqrt(2 * math.pi * (1 / 2 + 3 / 2)))


def scores(learner, num_episodes, num_tasks=1000, tasks=TASKS):
    report = evaluate(learner, tasks, num_tasks=num_tasks, num_episodes=num_episodes)
    returns = report.trial_returns
    return returns.mean(), returns.std() / math.sqrt(num_tasks)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # Found by an independent simulation; the published greedy earns less.
        (GreedyMDP, 146.9),
        # With the prior mean that fits them, the scores of Duan et al. (2016), table 2.
        (functools.partial(PSRL, prior_mean=0.0), 138.1),
        (functools.partial(OPSRL, prior_mean=0.0), 144.1),
    ],
)
def test_known_scores_of_ten_episodes(make, expected):
    mean, standard_error = scores(make(TASKS), 10)
    # Both are means over 1000 tasks. Without what the rewards were, greedy earns 99.
    assert abs(mean - expected) < 3 * math.sqrt(2) * standard_error


@pytest.mark.slow
@pytest.mark.parametrize(("make", "expected"), [(GreedyMDP, 1842.0), (PSRL, 1939.5)])
def test_known_scores_of_a_hundred_episodes(make, expected):
    mean, standard_error = scores(make(TASKS), 100)
    assert abs(mean - expected) < 3 * math.sqrt(2) * standard_error


def test_who_earns_more():
    learners = (EpsilonGreedyMDP(TASKS, epsilon=1.0), PSRL(TASKS), GreedyMDP(TASKS))
    learners += (UCRL2(TASKS, c=0.15),)
    returns = [evaluate(a, TASKS, num_tasks=500, num_episodes=25).trial_returns for a in learners]
    for worse, better in itertools.pairwise(returns):
        difference = better - worse  # on the same tasks
        assert difference.mean() > 3 * difference.std() / math.sqrt(len(difference))


def test_the_oracle_earns_the_optimum_of_each_task():
    view = TASKS.oracle()
    report = evaluate(KnownMDP(view), view, num_tasks=300, num_episodes=20)
    columns = report.tasks.columns
    optimum = value_iteration(columns["transitions"], columns["rewards"], 10)[:, 0, 0].max(axis=-1)
    difference = report.returns.mean(axis=1) - optimum
    assert abs(difference.mean()) < 3 * difference.std() / math.sqrt(300)
    assert difference.std() < 1.5  # rewards and next states are random; the optima vary by 2.3


# What every learner must keep to.


def test_what_mdps_are_compared_with():
    built = [reference(name, TASKS) for name in TASKS.references]
    assert TASKS.references == REFERENCES
    assert [agent.name for agent, _ in built] == [
        "random",
        "PSRL",
        "OPSRL",
        "UCRL2",
        "epsilon-greedy",
        "greedy",
        "known MDP",
    ]
    assert [view.view for _, view in built] == [{}] * 6 + [{"oracle": True}]


@pytest.mark.parametrize("name", REFERENCES)
def test_same_seed_same_choices_and_a_fresh_learner_each_time(name):
    learner, view = reference(name, TASKS)
    first, again = (evaluate(learner, view, num_tasks=5, num_episodes=3, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.returns, again.returns)


def test_one_plan_for_each_episode(monkeypatch):
    calls = []
    plan = PSRL.plan

    def counted(self, posterior, rng):
        calls.append(posterior.num_visits.sum(axis=(1, 2)).tolist())
        return plan(self, posterior, rng)

    monkeypatch.setattr(PSRL, "plan", counted)
    evaluate(PSRL(TASKS), TASKS, num_tasks=2, num_episodes=3)
    assert calls == [[0, 0], [10, 10], [20, 20]]


def test_episodes_may_end_at_different_times_and_some_lanes_may_rest():
    adaptation = GreedyMDP(tabular_mdp(1, num_states=3, num_actions=2)).adaptation(3)
    states = np.array([0, 1, 2])
    adaptation.act(states)
    adaptation.observe(
        Transition(
            observations=states,
            actions=np.array([0, 1, 1]),
            rewards=np.array([5.0, -5.0, 7.0]),
            terminated=np.array([True, False, True]),
            truncated=np.zeros(3, dtype=bool),
            next_observations=np.array([2, 2, 0]),
            active=np.array([True, True, False]),  # what stands in an inactive row means nothing
        )
    )
    posterior = adaptation.posterior
    assert np.argwhere(posterior.visits).tolist() == [[0, 0, 0, 2], [1, 1, 1, 2]]
    assert posterior.reward_sums.sum(axis=(1, 2)).tolist() == [5.0, -5.0, 0.0]
    # Lane 0 begins an episode, and plans it by what it has seen; lane 1 goes on as it had planned.
    assert adaptation.act(np.array([0, 1, 0])).tolist() == [0, 0, 0]
    assert adaptation.act(np.array([0, 1, 0])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("learner", [GreedyMDP, EpsilonGreedyMDP, PSRL, OPSRL, UCRL2])
def test_learners_need_states_and_actions(learner):
    with pytest.raises(ValueError, match=r"Discrete observations.*'navigation-2d' has Box"):
        learner(envs.make("navigation-2d"))


def test_the_oracle_needs_its_view():
    with pytest.raises(ValueError, match=r"give it tasks\.oracle\(\)"):
        KnownMDP(TASKS)
    with pytest.raises(ValueError, match="needs tasks of Dirichlet transitions"):
        KnownMDP(envs.make("bandit-10x5").oracle())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsilonGreedyMDP(TASKS, epsilon=1.5), r"epsilon is a probability.*1\.5"),
        (lambda: UCRL2(TASKS, c=-1.0), r"c must be at least 0, got -1\.0"),
        (lambda: OPSRL(TASKS, num_samples=0), "num_samples must be at least 1"),
        (lambda: PSRL(TASKS).adaptation(0), "num_tasks must be at least 1"),
        (lambda: PSRL(TASKS).adaptation(2, seed=-1), "seed must be at least 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
