"""Success rates: environments that tell in ``info`` whether their task is done."""

import csv

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.logger import configure
from toys import BOX, strolls

from metarl import Choice, Report, TaskEnv, evaluate, rollout, with_workers
from metarl.agents import MAML, RL2, RandomActions
from metarl.envs import from_gymnasium


class Counter(gymnasium.Env):
    """Done at the step that the task names, and not before or after; silent on odd tasks."""

    observation_space = BOX
    action_space = gymnasium.spaces.Discrete(2)

    def set_task(self, task):
        self.at = task["at"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(BOX.shape, np.float32), {}

    def step(self, action):
        self.steps += 1
        info = {} if self.at % 2 else {"is_success": self.steps == self.at}
        return np.zeros(BOX.shape, np.float32), 1.0, False, False, info


def counters(num_workers=0, values=(1, 2, 4, 6)):
    tasks = from_gymnasium(
        Counter, {"at": Choice(values)}, horizon=4, name="counters", episodes_per_trial=2,
        shares_tasks=True,
    )  # fmt: skip
    return with_workers(tasks, num_workers) if num_workers else tasks


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_task_done_at_any_step_counts_for_its_episode(num_workers):
    report = evaluate(
        RandomActions(counters()), counters(num_workers), num_tasks=20, num_episodes=3
    )
    at = report.tasks.columns["at"]
    # Odd ones never tell; at the sixth step the episode is over.
    expected = np.isin(at, (2, 4))
    assert 0 < expected.sum() < 20
    assert np.array_equal(report.successes, np.repeat(expected[:, None], 3, axis=1))
    assert f"{expected.mean():.0%}" in str(report)


def test_reports_keep_successes(tmp_path):
    report = evaluate(RandomActions(counters()), counters(), num_tasks=5)
    loaded = Report.load(report.save(tmp_path))
    assert np.array_equal(loaded.successes, report.successes)
    few = report.select(np.array([True, False, False, True, False]))
    assert np.array_equal(few.successes, report.successes[[0, 3]])
    silent = evaluate(RandomActions(strolls()), strolls(), num_tasks=5)
    assert silent.successes is None
    assert "success" not in str(silent)
    header, arrays = report.to_archive()
    for wrong in (np.ones(5, bool), np.ones((5, 1), bool), report.successes.astype(int)):
        with pytest.raises(ValueError, match="'successes' must be"):
            Report.from_archive(header, {**arrays, "successes": wrong})


def test_episodes_side_by_side_keep_their_order():
    tasks = counters(values=(2, 6))
    agent = MAML(tasks, meta_batch_size=2, episodes_per_adaptation=2, seed=0)
    report = evaluate(agent, tasks, num_tasks=6, num_episodes=4)
    expected = report.tasks.columns["at"] == 2
    assert np.array_equal(report.successes, np.repeat(expected[:, None], 4, axis=1))


def test_trainings_log_the_success_rate(tmp_path):
    small = {"trials_per_iteration": 4, "trials_per_minibatch": 2, "seed": 0}
    agent = RL2(counters(values=(2, 6)), **small)
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(1).logger.close()
    with open(tmp_path / "progress.csv") as file:
        (row,) = csv.DictReader(file)
    share = (agent.get_env().tasks.columns["at"] == 2).mean()
    assert 0 < share < 1
    for episode in ("first", "last"):
        assert float(row[f"rollout/success_{episode}_episode"]) == share
    env = TaskEnv(counters(values=(2, 4)).make_vec(1))
    env.reset(seed=0)
    assert [env.step(0)[4] for _ in range(2)] == [{"success": False}, {"success": True}]


def test_a_rollout_that_is_stopped_keeps_what_was_done():
    tasks = counters(values=(2, 2.5))
    env = tasks.make_vec(3)
    env.set_tasks(tasks.sample("train", 3, 0).repeat(1))
    observations, _ = env.reset(seed=0)
    played = rollout(env, observations, RandomActions(tasks).adaptation(3), 2, lambda _: False)
    assert not played.complete
    assert not played.successes.any()
