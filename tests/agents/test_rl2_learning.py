"""RL²: it learns to explore, and what it refuses."""

import math

import numpy as np
import pytest
from learning import trained
from toys import aim, risk, signposts, strolls, temptation

from metarl import envs, evaluate
from metarl.agents import RL2

SMALL = {"trials_per_iteration": 6, "trials_per_minibatch": 4, "n_epochs": 2}
NORMAL = {"normalize_observation": True, "normalize_reward": True}

# It learns to learn.


def test_it_takes_a_risk_to_learn_from_it():
    # Six pulls. Safe ones earn 0.55, the risk 0.5 on average: whoever lives for the present pull
    # never tries it and gets 3.3. One risk and then the better of both gets 0.5 + 5 * 0.775 = 4.4.
    # Broken implementations, each with three seeds: memory cleared at episode ends 3.2; the
    # boundary transition zeroed 3.3; returns cut at episode ends 3.3.
    family = risk(6)
    report = evaluate(trained(family, 60, ent_coef=0.05), family, num_tasks=400)
    assert report.trial_returns.mean() > 4.0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"policy_kwargs": {"memory": "lstm", "separate_critic": True}, **NORMAL},
    ],
)
def test_it_aims_better_after_a_shot(options):
    # Four shots at -1 or 1. Without memory, or with the boundary transition zeroed, the best is 0.
    # With them the first tells all: 0, 1, 1, 1.
    family = aim()
    report = evaluate(trained(family, 40, **options), family, num_tasks=200, deterministic=True)
    assert abs(report.returns[:, 0].mean()) < 0.2
    assert report.returns[:, 1:].mean() > 0.8


@pytest.mark.slow
def test_by_the_clock_it_does_not_end_an_episode_for_the_sake_of_the_next():
    # Going on earns 20, an end at once 2. With a discount of 0.8 going on is worth 5 at most. If an
    # end brings the next episode closer, 2 and then going on is worth 2 + 0.8 * 5 = 6: whoever
    # counts the steps taken ends all episodes at once but the last. By the clock it is worth 2.06.
    family = temptation()
    options = {"gamma": 0.8, "gae_lambda": 0.95}
    returns = {}
    for clock in (False, True):
        agent = trained(family, 32, 20, wall_clock_discount=clock, **options)
        returns[clock] = evaluate(agent, family, num_tasks=200).returns.mean(axis=0)
    assert (returns[True] > 18.0).all()
    assert (returns[False][:2] < 4.0).all()


@pytest.mark.slow
def test_it_searches_in_the_first_episode_and_goes_straight_in_the_next():
    # Episodes of 2 to 30 steps, in which what an action does must be read from the observation.
    # The best is to walk to the nearer end, 0.45, and then straight to the one that pays, 0.94
    # each: 2.34 in three episodes. Without memory the best is 3 * 0.45 = 1.36; with actions that
    # ignore the observation 1.0. With the boundary transition zeroed three seeds end at 1.2, 1.4
    # and 1.2; unbroken at 2.26, 2.33 and 1.80 (the last needs a longer training).
    family = signposts()
    agent = trained(family, 100, steps_per_episode=4, gae_lambda=0.9, ent_coef=0.01)
    report = evaluate(agent, family, num_tasks=400)
    assert report.trial_returns.mean() > 2.0
    assert report.returns[:, 0].mean() < 0.6
    assert len(np.unique(report.lengths)) > 3


@pytest.mark.slow
def test_it_finds_the_good_arm_again_when_it_has_changed_places():
    # The good arm known, 180; a Bayesian filter that knows how bandits flip, 164; random, 63. Who
    # does not forget, as Thompson sampling, gets 123; without infinite_horizon_critic it gets 63.
    tasks = envs.make("bandit-flip")
    agent = RL2.from_preset(tasks, seed=0).learn(400_000)
    assert evaluate(agent, tasks, num_tasks=400, seed=1).trial_returns.mean() > 140


# What is refused.


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be above 0.*, got 0.0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate must be"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
        ({"gamma": 1.5}, ValueError, r"gamma must be in \[0, 1\], got 1.5"),
        ({"gae_lambda": -0.1}, ValueError, r"gae_lambda must be in \[0, 1\], got -0.1"),
        ({"gae_lambda": 1.1}, ValueError, r"gae_lambda must be in \[0, 1\], got 1.1"),
        ({"clip_range": 0}, ValueError, "clip_range must be"),
        ({"ent_coef": -1.0}, ValueError, "ent_coef must be at least 0"),
        ({"target_kl": 0.0}, ValueError, "target_kl must be"),
        ({"n_epochs": 0}, ValueError, "n_epochs must be at least 1, got 0"),
        ({"n_epochs": 1.5}, TypeError, "n_epochs must be an integer, got 1.5"),
        ({"n_epochs": True}, TypeError, "n_epochs must be an integer, got True"),
        ({"normalize_reward": 1}, TypeError, "normalize_reward must be true or false, got 1"),
        ({"trials_per_iteration": 0}, ValueError, "at least 1, got 0"),
        ({"trials_per_minibatch": 0}, ValueError, "trials_per_minibatch must be at least 1"),
        ({"trials_per_minibatch": 7}, ValueError, r"\(7\) must not exceed .* \(6\)"),
        ({"episodes_per_trial": 0}, ValueError, "episodes_per_trial must be at least 1, got 0"),
        ({"episodes_per_trial": 2, "first_episodes_per_trial": 3}, ValueError, "must not exceed"),
        ({"policy_kwargs": {"hiden_size": 8}}, ValueError, "did you mean 'hidden_size'"),
        ({"policy_kwargs": {"input_size": 8}}, ValueError, "unknown policy_kwargs name"),
        ({"policy_kwargs": {"hidden_size": 0}}, ValueError, "hidden_size must be at least 1"),
        ({"policy_kwargs": {"hidden_size": "64"}}, TypeError, "hidden_size must be an integer"),
        ({"policy_kwargs": {"encoder": [8, 0]}}, ValueError, r"encoder\[1\] must be at least 1"),
        ({"policy_kwargs": {"encoder": 8}}, TypeError, "encoder must be a list, got 8"),
        ({"policy_kwargs": 64}, TypeError, "policy_kwargs must be a dictionary or None, got 64"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
    ],
)
def test_mistakes_are_found_before_anything_runs(options, error, match):
    with pytest.raises(error, match=match):
        RL2(strolls(), **{**SMALL, **options})


def test_what_is_not_a_family_is_refused():
    with pytest.raises(TypeError, match=r"as metarl.envs.make\(name\) builds it, got 'bandit"):
        RL2("bandit-10x5")


def test_numpy_numbers_are_numbers(tmp_path):
    agent = RL2(risk(), n_epochs=np.int64(2), gamma=np.float32(0.5), trials_per_minibatch=None)
    agent.save(tmp_path / "agent")
    assert RL2.load(tmp_path / "agent", risk()).hyperparameters["n_epochs"] == 2


def test_an_agent_is_not_evaluated_on_other_spaces():
    agent = RL2(envs.make("bandit-10x5"))
    with pytest.raises(ValueError, match=r"made for the action_space Discrete\(5\), 'bandit-10x3'"):
        evaluate(agent, envs.make("bandit-10x3"), num_tasks=2)


def test_a_reward_that_is_not_finite_stops_training():
    family = strolls()
    agent = RL2(family, seed=0, **SMALL)

    def break_it(locals_, globals_):
        agent.get_env()._task = {**agent.get_env()._task, "worth": np.full(6, np.nan)}
        return True

    with pytest.raises(ValueError, match=r"reward nan in step . of an episode of Task\(strolls"):
        agent.learn(100, callback=break_it)
    assert agent.num_timesteps == 0  # nothing was learned from it
