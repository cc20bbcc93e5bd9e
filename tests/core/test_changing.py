"""Tasks that change within a trial: when, to what, and who sees it."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from toys import strolls

from metarl import check_tasks, envs, evaluate, with_workers
from metarl.agents import RL2, reference
from metarl.errors import InvalidValueError
from metarl.evaluation.changes import (
    change_table,
    recovery_table,
    rewards_around_change,
)
from metarl.experiments.cli.changes import tables_around_change


@functools.cache
def changing(name):
    return envs.make(name, changing=True)


def stepped(tasks, num_envs, num_steps, seed=0):
    """Return tasks, and the rewards of doing nothing, of shape (num_steps, num_envs)."""
    env = tasks.make_vec(num_envs)
    sampled = tasks.sample("train", num_envs, seed)
    env.set_tasks(sampled)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, env.action_space.dtype)
    return env, sampled, np.array([env.step(still)[1] for _ in range(num_steps)])


def test_the_reward_is_that_of_the_second_task_from_the_change_on():
    tasks = changing("navigation-2d")
    env, sampled, rewards = stepped(tasks, 5, 100)
    columns = sampled.columns
    steps = env.horizon * tasks.episodes_per_trial
    for lane in range(5):
        change = int(columns["change_at"][lane] * steps)
        assert 0.25 * steps <= change <= 0.75 * steps
        for step in range(100):  # the agent stays at (0, 0)
            goal = columns["goal" if step < change else "next_goal"][lane]
            assert rewards[step, lane] == pytest.approx(-np.hypot(*goal)), (lane, step)


def test_reset_begins_the_trial_again():
    tasks = changing("navigation-2d")
    env, _, rewards = stepped(tasks, 3, 100)
    env.reset(seed=0)
    again = np.array([env.step(np.zeros((3, 2)))[1] for _ in range(100)])
    np.testing.assert_array_equal(rewards, again)


def test_a_change_leaves_the_state_of_the_episode():
    # The next state follows from the present one: with the start's it would not.
    tasks = changing("tabular-mdp-10")
    env = tasks.make_vec(1)
    task = tasks.sample("train", 1, 0)
    columns = {name: column.copy() for name, column in task.columns.items()}
    columns["change_at"][:] = 0.255  # before step 25 of 100, the sixth of its episode
    for name in ("transitions", "next_transitions"):
        # Each state leads to the next one, or the next but one after the change.
        way = np.roll(np.eye(10), 1 if name == "transitions" else 2, axis=1)
        columns[name][:] = way[:, None]
    env.set_tasks(type(task)("tabular-mdp-10", columns))
    env.reset(seed=0)
    seen = [int(env.step(np.zeros(1, int))[0][0]) for _ in range(29)]
    assert seen[20:29] == [1, 2, 3, 4, 5, 7, 9, 1, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_takes_tasks_at_resets_changes_with_the_next_episode(workers):
    still = with_workers(strolls(), workers) if workers else envs.make("pendulum")
    tasks = still.changing()
    env = tasks.make_vec(1)
    env.set_tasks(tasks.sample("train", 1, 3))
    env.reset(seed=0)
    inner = []
    for _ in range(env.horizon * tasks.episodes_per_trial):
        env.step(np.zeros(env.action_space.shape, env.action_space.dtype))
        inner.append(bool(env._changed[0]))
    change = inner.index(True)
    assert change >= env.change_steps[0] - 1
    assert (change + 1) % env.horizon == 0  # with the step that ends an episode
    env.close()


def test_the_oracle_sees_the_task_of_the_moment():
    tasks = changing("navigation-2d").oracle()
    env = tasks.make_vec(4)
    sampled = tasks.sample("train", 4, 0)
    env.set_tasks(sampled)
    observations, _ = env.reset(seed=0)
    still = tasks.still
    for step in range(100):
        name = np.where(step <= env.change_steps, "goal", "next_goal")
        goals = [sampled.columns[n][lane] for lane, n in enumerate(name)]
        features = still.encode(type(sampled)("", {"goal": np.array(goals)}))
        np.testing.assert_allclose(observations[:, 2:], features)
        observations = env.step(np.zeros((4, 2)))[0]


@pytest.mark.parametrize("name", ["dark-key-to-door", "half-cheetah-motors", "alchemy"])
def test_changing_families_pass_the_check(name):
    tasks = changing(name)
    # What comes after the change may come too late for so few steps.
    late = [f"{parameter} matters" for parameter in tasks.parameters]
    check_tasks(tasks, num_steps=50, skip=late)


def test_references_of_the_bandit_whose_best_arm_flips():
    tasks = envs.make("bandit-flip")
    scores = {}
    for name in tasks.references:
        agent, view = reference(name, tasks)
        scores[name] = evaluate(agent, view, num_tasks=400, seed=1).returns.sum(axis=1).mean()
    # Known: 0.9 * 200 with the arm known; random (0.9 + 9 * 0.25) / 10 * 200.
    assert scores["known-best-arm"] == pytest.approx(180, abs=1)
    assert scores["random"] == pytest.approx(63, abs=1.5)
    # Who forgets recovers; Thompson sampling goes on as before, and gets 123.
    assert scores["sliding-window-ucb"] > 150
    assert scores["thompson-sampling"] < 135


def test_rewards_around_the_change_show_the_fall_and_the_recovery():
    tasks = envs.make("bandit-flip")
    agent, view = reference("known-best-arm", tasks)
    oracle = rewards_around_change(agent, view, before=30, after=30, num_tasks=400)
    assert oracle.shape == (400, 60)
    assert np.nanmean(oracle[:, 30:35]) == pytest.approx(0.9, abs=0.03)
    agent, view = reference("sliding-window-ucb", tasks)
    learner = np.nanmean(
        rewards_around_change(agent, view, before=30, after=50, num_tasks=400), axis=0
    )
    # The first pull after the flip is of the old arm, whose chance is 0.25 on average.
    assert learner[30] == pytest.approx(0.25, abs=0.08)
    assert learner[20:30].mean() > 0.8
    assert learner[70:].mean() > 0.75
    with pytest.raises(InvalidValueError, match="do not change within a trial"):
        rewards_around_change(agent, envs.make("bandit-100x5"), before=1, after=1)


def test_the_table_shows_the_rates_and_when_an_agent_has_recovered():
    steps = np.arange(-60, 80)
    agents = {
        "slow": np.where(steps < 0, 1.0, steps / 40.0).clip(0.0, 1.0),
        "oracle": np.full(len(steps), 0.8),
        "lost": np.where(steps < 0, -1.0, -3.0),
    }
    rewards = {name: np.tile(curve, (3, 1)) for name, curve in agents.items()}
    rewards["slow"][0, 100:] = np.nan  # its trial has ended
    by_name = {row[0]: row[1:] for row in change_table(rewards, 60, "oracle").rows}
    assert by_name["oracle"] == pytest.approx((0.8, 0.8, 0.8, 0))
    before, soon, later, recovered = by_name["slow"]
    assert (before, later) == (1.0, pytest.approx(1.0))
    assert soon == pytest.approx(np.minimum(np.arange(50) / 40.0, 1.0).mean())
    assert recovered == 25  # steps 25 to 34 have a mean of 29.5 / 40, above 0.72
    assert by_name["lost"][1:] == (-3.0, -3.0, "never")
    own = {row[0]: row[4] for row in change_table(rewards, 60).rows}
    assert own == {"slow": 32, "oracle": 0, "lost": "never"}


def test_evaluations_show_what_a_change_costs():
    tasks = replace(envs.make("bandit-flip"), references=("known-best-arm",))
    agent = RL2(tasks, seed=0, policy_kwargs={"hidden_size": 8})
    table, recovery = tables_around_change({"RL2": (agent, tasks)}, "held_out", 1)
    assert [row[0] for row in table.rows] == ["RL2", "known best arm"]
    assert table.rows[0][4] == "never"  # it has not learned anything
    assert table.rows[1][1:] == (*[pytest.approx(0.9, abs=0.02)] * 3, 0)
    # It wins as often as any arm does, (0.9 + 9 * 0.25) / 10.
    assert recovery.rows == (("RL2", *[pytest.approx(0.315 / 0.9, abs=0.02)] * 4),)


def test_the_recovery_is_measured_by_an_oracle_in_the_same_steps():
    steps = np.arange(-20, 100)
    oracle = np.where(steps < 0, 2.0, 1.0) * (1.0 + steps % 2)  # the same dips for all
    shares = {
        "forgets": np.select([steps < 0, steps < 10, steps < 50], [1.0, 0.2, 0.6], 0.95),
        "ignores": np.where(steps < 0, 0.9, -0.1),
    }
    rewards = {"oracle": oracle} | {name: share * oracle for name, share in shares.items()}
    table = recovery_table({name: np.tile(r, (3, 1)) for name, r in rewards.items()}, 20, "oracle")
    assert table.columns == ("share of oracle", "before", "steps 1 to 10", "11 to 50", "later")
    assert {row[0]: row[1:] for row in table.rows} == {
        "forgets": pytest.approx((1.0, 0.2, 0.6, 0.95)),
        "ignores": pytest.approx((0.9, -0.1, -0.1, -0.1)),
    }
    nothing = recovery_table({"oracle": np.zeros((3, 80)), "agent": np.ones((3, 80))}, 20, "oracle")
    assert nothing.rows == (("agent", None, None, None, None),)


def test_an_agent_trains_on_changing_tasks_and_is_evaluated():
    tasks = changing("bandit-10x5")
    agent = RL2(tasks, seed=0, trials_per_iteration=8, trials_per_minibatch=4).learn(160)
    report = evaluate(agent, tasks, num_tasks=4, seed=1)
    assert report.view == {"changing": True}
    assert report.returns.shape == (4, 10)
