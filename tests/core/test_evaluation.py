"""The evaluator, evaluated with learners whose value is known beforehand."""

import contextlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from toys import Counting, Fixed, StrollVectorEnv, Toy, aim, risk, spaces, strolls

from metarl import Agent, Choice, Report, TaskDistribution, TaskSet, envs, evaluate, play, rollout
from metarl.agents import AGENTS, REFERENCES, RL2
from metarl.agents.classical.random_actions import RandomActions
from metarl.evaluation.comparison import check_comparable, comparison_table


class Random(Fixed):
    """Takes each of two actions half of the time."""

    def __init__(self, rows, seed):
        super().__init__(rows, seed)
        self.rng = np.random.default_rng(seed)

    def act(self, observations):
        return self.rng.integers(2, size=len(self.actions))


class Improving(Fixed):
    """Comes half of the remaining way closer to the target 1 after every episode."""

    def __init__(self, rows, seed):
        self.actions = np.full((rows, 1), -1.0)

    def observe(self, transition):
        self.actions = self.actions + 0.5 * (1.0 - self.actions)


STROLL = {"kind": Counting, "size": 2}


# What is measured.


def test_a_fixed_action_earns_what_its_tasks_pay():
    report = evaluate(Toy(Fixed, action=1), risk(7), num_tasks=50)
    pays = report.tasks.columns["pays"]
    assert 0 < pays.mean() < 1
    np.testing.assert_array_equal(report.returns, np.repeat(pays[:, None], 7, axis=1))
    safe = evaluate(Toy(Fixed), risk(7), num_tasks=50)
    np.testing.assert_array_equal(safe.returns, np.full((50, 7), 0.55))
    assert safe.lengths.tolist() == [[1] * 7] * 50


def test_random_actions_earn_the_mean():
    report = evaluate(Toy(Random), risk(20), num_tasks=1000, seed=3)
    expected = 0.5 * 0.55 + 0.5 * report.tasks.columns["pays"].mean()
    assert report.returns.mean() == pytest.approx(expected, abs=0.01)
    # The learner's own stream is none of those of tasks and episodes.
    assert evaluate(Toy(Random), risk(20), num_tasks=4, seed=3).returns.shape == (4, 20)


def test_improvement_shows_episode_by_episode():
    report = evaluate(Toy(Improving), aim(5), num_tasks=40)
    there = report.tasks.columns["target"] == 1.0
    expected = [-1.0, 0.0, 0.5, 0.75, 0.875]
    np.testing.assert_allclose(report.returns[there], [expected] * there.sum())
    np.testing.assert_allclose(report.returns[~there], [[-r for r in expected]] * (~there).sum())


def test_every_learner_meets_the_same_tasks_and_a_seed_repeats_itself():
    one = evaluate(Toy(Fixed), risk(), num_tasks=30, seed=5)
    other = evaluate(Toy(Random), risk(), num_tasks=30, seed=5)
    assert one.tasks == other.tasks
    again = evaluate(Toy(Random), risk(), num_tasks=30, seed=5)
    np.testing.assert_array_equal(other.returns, again.returns)
    assert evaluate(Toy(Fixed), risk(), num_tasks=30, seed=6).tasks != one.tasks


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_learner_is_told_how_to_act(deterministic):
    toy = Toy(Fixed)
    evaluate(toy, risk(), num_tasks=2, deterministic=deterministic)
    assert toy.made[0].deterministic is deterministic


# A fixed number of episodes for every task, all counted.


def one_long_many_short():
    """Episodes of one step that earn nothing and of eight that earn 8, half of the tasks each."""
    return TaskDistribution(
        name="short-or-long",
        parameters={
            "length": Choice((1.0, 8.0)),
            "stop": Choice((0.0,)),
            "worth": Choice((1.0,)),
        },
        shares_tasks=True,
        env_factory=lambda num_envs: StrollVectorEnv(num_envs, spaces.Discrete(2)),
        episodes_per_trial=4,
    )


def test_short_episodes_do_not_count_more_often_than_long_ones():
    report = evaluate(Toy(Fixed), one_long_many_short(), num_tasks=60)
    length = report.tasks.columns["length"]
    np.testing.assert_array_equal(report.returns, np.repeat(length[:, None], 4, axis=1))
    np.testing.assert_array_equal(report.lengths, report.returns)
    # Counting the first 240 episodes to finish in the pool would give less than 2.
    assert report.returns.mean() == pytest.approx(4.5, abs=1.0)


def test_returns_and_lengths_of_random_episodes_add_up():
    toy = Toy(**STROLL)
    report = evaluate(toy, strolls(episodes_per_trial=4), num_tasks=20)
    worth = report.tasks.columns["worth"]
    np.testing.assert_allclose(report.returns, worth[:, None] * report.lengths)
    assert len(np.unique(report.lengths)) > 4
    calls = toy.made[0].calls
    for n in range(20):
        ends = [t for t, call in enumerate(calls) if call[2][n]]
        lengths = np.diff([-1, *ends])
        assert lengths.tolist() == report.lengths[n].tolist()
        active = [bool(call[4][n]) for call in calls]
        assert active == [t <= ends[-1] for t in range(len(calls))]
        assert all(call[1][n] == 0.0 for call in calls[ends[-1] + 1 :])
    assert len(calls) == report.lengths.sum(axis=1).max()


def test_the_successor_is_the_last_observation_and_the_next_is_the_first():
    toy = Toy(**STROLL)
    evaluate(toy, strolls(episodes_per_trial=3), num_tasks=5)
    calls = toy.made[0].calls
    for before, after in itertools.pairwise(calls):
        observation, _, ended, following, active = before
        steps, next_steps = observation[active, 0], following[active, 0]
        np.testing.assert_array_equal(next_steps, steps + 1)  # the last one where it ended
        on = after[4]
        np.testing.assert_array_equal(
            after[0][on, 0], np.where(ended[on], 0.0, observation[on, 0] + 1)
        )


class Synchronous(Counting):
    synchronous = True


def test_whoever_asks_for_lockstep_begins_episodes_together():
    toy = Toy(Synchronous, size=2)
    report = evaluate(toy, strolls(episodes_per_trial=3), num_tasks=6)
    calls = toy.made[0].calls
    assert len(calls) == report.lengths.max(axis=0).sum()
    t = 0
    for episode in range(3):
        for step in range(report.lengths[:, episode].max()):
            expected = step < report.lengths[:, episode]
            np.testing.assert_array_equal(calls[t][4], expected)
            np.testing.assert_array_equal(calls[t][0][expected, 0], step)
            t += 1


class Side(Toy):
    episodes_per_adaptation = 3


def test_episodes_side_by_side_stand_in_order():
    """Row by row: task by task, K episodes each; a column of the report for every episode."""

    class Marked(Counting):
        def __init__(self, rows, seed):
            super().__init__(rows, seed, 2)
            self.round = 0

        def act(self, observations):
            rows = len(self.actions)
            self.actions = np.zeros((rows, 2))
            self.actions[:, 1] = np.arange(rows) % 3
            self.actions[:, 0] = self.round / 10
            return self.actions

        def observe(self, transition):
            self.round += 1

    family = TaskDistribution(
        name="one-step",
        parameters={
            "length": Choice((1.0,)),
            "stop": Choice((0.0,)),
            "worth": Choice((1.0, 2.0, 3.0)),
        },
        env_factory=lambda num_envs: StrollVectorEnv(num_envs, spaces.Box(-9.0, 9.0, (2,))),
    )
    report = evaluate(Side(Marked), family, num_tasks=8, num_episodes=6)
    worth = report.tasks.columns["worth"]
    assert len(np.unique(worth)) == 3
    for episode in range(6):
        effort = 0.01 * (episode % 3 + episode // 3 / 10)
        np.testing.assert_allclose(report.returns[:, episode], worth + effort, atol=1e-7)
    assert report.episodes_per_adaptation == 3
    assert evaluate(Side(Fixed), risk(4), num_tasks=2).num_episodes == 6  # 4, rounded up


# Splits.


def test_splits_of_a_continuum_are_disjoint():
    family = strolls(splits={"rich": {"worth": envs.make("bandit-2x2").parameters["p"]}})
    tasks = {
        split: {tuple(task.items()) for task in family.sample(split, 200, seed=0)}
        for split in family.splits
    }
    assert all(len(drawn) == 200 for drawn in tasks.values())
    assert tasks["train"].isdisjoint(tasks["held_out"])
    assert tasks["train"].isdisjoint(tasks["rich"])
    assert evaluate(Toy(**STROLL), family, num_tasks=4).notes == ()


def test_finite_families_say_that_there_is_nothing_unseen():
    report = evaluate(Toy(Fixed), risk(), num_tasks=4)
    assert report.notes == ("risk is evaluated on its 2 training tasks",)
    assert "evaluated on its 2 training tasks" in str(report)
    assert "evaluated on its 2 training tasks" in comparison_table([report])
    seen = evaluate(Toy(**STROLL), strolls(), split="train", num_tasks=4)
    assert seen.notes == ("these are training tasks",)


def test_a_trial_longer_than_those_of_training_is_said():
    agent = RL2(risk(3), seed=0, trials_per_iteration=2, trials_per_minibatch=2)
    assert all("trials" not in note for note in evaluate(agent, risk(3), num_tasks=4).notes)
    longer = evaluate(agent, risk(3), num_tasks=4, num_episodes=5)
    said = "trained in trials of 3 episodes and is evaluated on 5"
    assert [said in note for note in longer.notes] == [False, True]  # the first: of its tasks
    assert said in str(longer)
    agent.reset_memory_every = 3
    assert len(evaluate(agent, risk(3), num_tasks=4, num_episodes=5).notes) == 1


def test_a_finite_split_of_other_tasks_is_unseen():
    family = TaskDistribution(
        name="finite",
        parameters={"pays": Choice((0, 1))},
        env_factory=lambda num_envs: None,
        splits={"other": {"pays": Choice((2, 3))}, "part": {"pays": Choice((1, 2))}},
    )
    assert family.overlap("other") is None
    assert family.overlap("part") == (
        "1 of the 2 tasks of part are tasks of train: some may have been seen in training"
    )


def test_a_report_on_a_divided_set_claims_nothing_and_a_large_shared_one_no_more_than_is_true():
    grid = {name: Choice(range(20)) for name in ("x", "y", "z")}
    train, held_out = TaskSet.product(grid).split(0.8, seed=0)
    divided = TaskDistribution("grid", grid, None, {"train": train, "held_out": held_out})
    assert divided.overlap("held_out") is None
    assert divided.num_tasks("held_out") == 1600
    shared = TaskDistribution("grid", grid, None)
    assert "8,000 of the 8,000 tasks" in shared.overlap("held_out")
    assert "may have been seen" in shared.overlap("held_out")


# What comes of it.


def test_lengths_that_differ_come_back(tmp_path):
    report = evaluate(Toy(**STROLL), strolls(), num_tasks=5)
    np.testing.assert_array_equal(Report.load(report.save(tmp_path)).lengths, report.lengths)


def test_an_oracle_is_compared_with_others(tmp_path):
    family = risk()
    oracle = evaluate(Toy(Fixed), family.oracle(), num_tasks=6)
    check_comparable([evaluate(Toy(Fixed), family, num_tasks=6), oracle])
    assert (oracle.family, oracle.view) == ("risk", {"oracle": True})
    read = Report.load(oracle.save(tmp_path))
    assert (read.view, str(read)) == (oracle.view, str(oracle))
    assert str(oracle).startswith("toy on risk (oracle), held_out: 2 tasks, drawn 6 times")


# What is refused.


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": "heldout"}, "unknown split of 'risk': 'heldout'; did you mean 'held_out'"),
        ({"num_tasks": 0}, "num_tasks must be at least 1, got 0"),
        ({"num_episodes": 0}, "num_episodes must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"agent": Side(Fixed, "by-threes"), "num_episodes": 4}, "multiple of 3, got 4"),
    ],
)
def test_mistakes_are_found_before_anything_runs(options, match):
    agent = options.get("agent", Toy(Fixed))
    with pytest.raises(ValueError, match=match):
        evaluate(agent, risk(), **{k: v for k, v in options.items() if k != "agent"})
    assert agent.made == []


def test_what_is_no_agent_or_no_family():
    assert isinstance(Toy(Fixed), Agent)
    with pytest.raises(TypeError, match="it lacks `name`, `episodes_per_adaptation` or"):
        evaluate(object(), risk())
    with pytest.raises(TypeError, match="tasks must be a TaskDistribution, got 'risk'"):
        evaluate(Toy(Fixed), "risk")


def test_rollout_asks_for_as_many_episodes_as_were_asked_for():
    env = risk().make_vec(3)
    observations, _ = env.reset(seed=0)
    done = rollout(env, observations, Fixed(3, 0), 4)
    assert done.returns.shape == done.lengths.shape == (3, 4)


def test_a_rollout_ends_where_on_step_says_so():
    env = strolls().make_vec(3)
    observations, _ = env.reset(seed=0)
    seen = []

    def on_step(transition):
        seen.append(transition)
        return len(seen) < 2

    done = rollout(env, observations, Counting(3, 0, size=2), 4, on_step)
    assert not done.complete
    assert len(seen) == 2
    assert done.lengths.sum() == 6


# Chunks.


@pytest.mark.parametrize("max_envs", [1, 4, 7, 8, 100])
def test_tasks_are_played_in_chunks_of_few_environments(max_envs):
    family = strolls(episodes_per_trial=3)
    sampled = family.sample("held_out", 8, seed=0)
    whole = play(Toy(**STROLL), family, sampled, 3, seed=1)
    toy = Toy(**STROLL)
    sizes = []
    played = play(
        toy,
        family,
        sampled,
        3,
        seed=1,
        max_envs=max_envs,
        on_step=lambda step: not sizes.append(len(step.rewards)),
    )
    # Starts and chances of a task's environments do not depend on the chunk that it is in.
    np.testing.assert_array_equal(played.returns, whole.returns)
    np.testing.assert_array_equal(played.lengths, whole.lengths)
    assert max(sizes) <= max_envs
    assert len(toy.made) == -(-8 // max_envs)


def test_agents_that_can_choose_their_rounds_are_told_how_long():
    class Choosy(Toy):
        def adaptation(self, num_tasks, *, episodes_per_adaptation=1, **options):
            self.rounds = episodes_per_adaptation
            return Fixed(num_tasks * episodes_per_adaptation, 0)

    toy = Choosy(Fixed)
    report = evaluate(toy, risk(4), num_tasks=2, num_episodes=6, episodes_per_adaptation=3)
    assert toy.rounds == report.episodes_per_adaptation == 3
    assert report.returns.shape == (2, 6)
    assert toy.episodes_per_adaptation == 1


# Numbers that do not fit.


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        *((agent, "navigation-2d") for agent in AGENTS.values()),
        (RandomActions, "navigation-2d"),
        (REFERENCES["greedy"], "bandit-3x2"),
        (REFERENCES["mdp-greedy"], "tabular-mdp-75"),
    ],
)
def test_observations_of_another_number_of_environments_are_refused(agent, family):
    tasks = envs.make(family)
    options = {"seed": 0} if agent in AGENTS.values() else {}
    made = agent(tasks, **options)
    num_envs = 3 * made.episodes_per_adaptation
    with contextlib.closing(tasks.make_vec(num_envs - 1)) as env:
        observations, _ = env.reset(seed=0)
        with pytest.raises(ValueError, match=rf"acts in {num_envs} environments .* got observ"):
            rollout(env, observations, made.adaptation(3), 1)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_rollout_has_a_number_of_episodes(number, error):
    with contextlib.closing(risk().make_vec(2)) as env:
        observations, _ = env.reset(seed=0)
        with pytest.raises(error, match=r"num_episodes must be .*at least 1"):
            rollout(env, observations, Fixed(2, 0), number)


def test_what_an_adaptation_does_not_take_is_refused():
    toy = Toy(Fixed)
    with pytest.raises(ValueError, match="toy cannot be evaluated with episodes_per_adaptation="):
        evaluate(toy, risk(4), num_tasks=2, num_episodes=6, episodes_per_adaptation=3)
    with pytest.raises(ValueError, match="toy cannot be evaluated with ranks="):
        evaluate(toy, risk(4), num_tasks=2, ranks=SimpleNamespace(size=2))
    own = evaluate(toy, risk(4), num_tasks=2, episodes_per_adaptation=1)
    assert own.episodes_per_adaptation == 1
