"""Agents behave as Stable-Baselines3's do: learn, predict, callbacks, logger, evaluate_policy."""

import contextlib
import io
import itertools
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toys
from rich.console import Console
from stable_baselines3.common import callbacks, logger
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import BOX, StrollVectorEnv, risk, spaces, strolls

from metarl import TrialEnv, rollout
from metarl.agents import MAML, RL2, FineTune, FromScratch, MultiTask, TaskVecEnv
from metarl.agents.common.memory.registry import MEMORIES
from metarl.agents.training import callbacks as progress
from metarl.seeding import stream, stream_seed

SMALL = {"trials_per_iteration": 4, "trials_per_minibatch": 2, "n_epochs": 1, "seed": 7}
STEPS = 4 * 5  # of one iteration on risk()


def small(family=None, **options):
    network = {"hidden_size": 8, **options.pop("policy_kwargs", {})}
    return RL2(family or risk(), policy_kwargs=network, **{**SMALL, **options})


def play_by_adaptation(agent, family, trial, seed=0):
    """The trial that a TrialEnv plays, by way of adaptation() and rollout()."""
    trial_seed = stream(seed, "trial", trial)
    env = family.make_vec(1)
    env.set_tasks(family.sample("train", 1, trial_seed))
    observations, _ = env.reset(seed=stream_seed(trial_seed, "env"))
    adaptation = agent.adaptation(1, deterministic=True)
    actions = []

    def write_down(transition):
        actions.append(transition.actions[0])
        return True

    num_episodes = family.episodes_per_trial
    return rollout(env, observations, adaptation, num_episodes, write_down), actions


@pytest.mark.parametrize("space", [BOX, spaces.Discrete(3, start=2)], ids=["box", "discrete"])
@pytest.mark.parametrize(
    "network",
    [*({"memory": name} for name in MEMORIES), {"separate_critic": True}],
    ids=[*MEMORIES, "separate"],
)
def test_predict_agrees_with_adaptation_step_by_step(space, network):
    family = strolls(space)
    agent = small(
        family, policy_kwargs=network, normalize_observation=True, normalize_reward=True
    ).learn(200)
    env = TrialEnv(family)
    state, start = None, True
    for trial in range(3):
        done, expected_actions = play_by_adaptation(agent, family, trial)
        row, _ = env.reset()
        rewards = []
        for expected in expected_actions:
            # The memory of the last trial is handed on, and cleared by episode_start.
            action, state = agent.predict(row, state, np.array([start]), deterministic=True)
            np.testing.assert_allclose(action, expected, atol=1e-6)
            row, reward, start, _, _ = env.step(action)
            rewards.append(reward)
        assert start  # the trial ends where the adaptation ends
        assert row[0] == done.lengths[0, -1]  # with the last observation, not one of a next episode
        assert sum(rewards) == pytest.approx(done.returns.sum(), abs=1e-4)


@pytest.mark.parametrize("memory", [name for name in MEMORIES if name != "none"])
def test_predict_resets_the_memory_of_those_that_start(memory):
    agent = small(policy_kwargs={"memory": memory})
    # Other rows first: a mean of equal ones, as attention takes it, does not say how many they are.
    first, rows = np.random.default_rng(0).normal(size=(2, 3, agent.trial_input.size))
    _, state = agent.predict(first)
    assert [len(array) for array in state] == [3] * len(state)
    kept = [array.copy() for array in state]

    def outputs(state, episode_start=None):
        """Return what follows from a state: the policy's outputs in the next step but one."""
        _, state = agent.predict(rows, state, episode_start)
        like = agent.network.initial_state(3)
        return agent.policy().act(
            torch.as_tensor(rows, dtype=torch.float32), torch.zeros(3, 0),
            agent._state_of(state, like), None,
        )[1]  # fmt: skip

    after = outputs(state, np.array([True, False, True]))
    fresh, continued = outputs(None), outputs(state)
    torch.testing.assert_close(after[[0, 2]], fresh[[0, 2]])
    torch.testing.assert_close(after[1], continued[1])
    assert not torch.allclose(continued, fresh, atol=1e-7)
    for array, same in zip(state, kept):
        np.testing.assert_array_equal(array, same)  # the caller's own


def test_predict_refuses_a_state_of_something_else():
    agent = small()
    rows = np.zeros((3, agent.trial_input.size))
    _, state = agent.predict(rows[:2])
    for wrong in (state, state[:1], (np.zeros((1, 3, 8)),)):
        with pytest.raises(ValueError, match=r"returned for 3 observations, 2 arrays of as many"):
            agent.predict(rows, wrong)


def test_predict_draws_actions_unless_deterministic():
    agent = small()
    rows = np.zeros((300, agent.trial_input.size))
    actions, _ = agent.predict(rows)
    assert set(actions) == {0, 1}
    actions, _ = agent.predict(rows, deterministic=True)
    assert len(set(actions)) == 1
    action, _ = agent.predict(rows[0])
    assert agent.action_space.contains(action)


def test_predict_refuses_rows_of_something_else():
    with pytest.raises(ValueError, match=r"rows of length 5, as from a TrialEnv .* got \(1, 1\)"):
        small().predict(np.zeros(1))


def test_evaluate_policy_counts_whole_trials():
    family = strolls()
    agent = small(family)
    env = Monitor(TrialEnv(family))
    returns, lengths = evaluate_policy(agent, env, 4, return_episode_rewards=True)
    expected = [play_by_adaptation(agent, family, trial)[0] for trial in range(4)]
    np.testing.assert_allclose(returns, [done.returns.sum() for done in expected], atol=1e-4)
    assert lengths == [done.lengths.sum() for done in expected]


def test_a_trial_env_repeats_itself_from_its_seed():
    def trial(env, **options):
        rows = [env.reset(**options)[0]]
        over = False
        while not over:
            row, _, over, _, _ = env.step(np.zeros(2))
            rows.append(row)
        return np.stack(rows), env.task

    env = TrialEnv(strolls(), seed=3)
    (first, task), (second, other) = trial(env), trial(env)
    assert task != other
    assert first.shape != second.shape or not np.array_equal(first, second)
    np.testing.assert_array_equal(trial(env, seed=3)[0], first)
    np.testing.assert_array_equal(trial(TrialEnv(strolls(), seed=3))[0], first)
    assert env.observation_space.contains(first[0])
    with pytest.raises(ValueError, match="episodes_per_trial must be at least 1, got 0"):
        TrialEnv(strolls(), episodes_per_trial=0)
    with pytest.raises(ValueError, match="did you mean 'train'"):
        TrialEnv(strolls(), "trian")


# Callbacks.


class Moments(callbacks.BaseCallback):
    """Writes down the moments at which it is called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_training_start(self):
        self.seen.append("training start")
        assert self.locals["total_timesteps"] == STEPS + 1

    def _on_rollout_start(self):
        self.seen.append("rollout start")

    def _on_step(self):
        self.seen.append(self.num_timesteps)
        assert self.locals["rewards"].shape == self.locals["dones"].shape == (4,)
        assert len(self.locals["infos"]) == 4
        return True

    def _on_rollout_end(self):
        self.seen.append("rollout end")

    def _on_training_end(self):
        self.seen.append("training end")


def test_callbacks_are_called_at_their_moments():
    callback = Moments()
    agent = small()
    assert agent.learn(STEPS + 1, callback=callback) is agent  # the second iteration is completed
    rollouts = [
        ["rollout start", *range(n + 4, n + STEPS + 1, 4), "rollout end"] for n in (0, STEPS)
    ]
    assert callback.seen == ["training start", *rollouts[0], *rollouts[1], "training end"]
    assert (agent.num_timesteps, agent.iteration) == (2 * STEPS, 2)


def test_env_steps_are_counted_where_episodes_differ_in_length():
    counts = []
    agent = small(strolls())
    agent.learn(1, callback=lambda locals_, globals_: counts.append(agent.num_timesteps) or True)
    assert counts[-1] == agent.num_timesteps == agent.last_rollout.lengths.sum()
    assert counts == sorted(counts)
    assert len({b - a for a, b in itertools.pairwise(counts)}) > 1  # some had finished


def test_a_function_stops_training():
    agent = small()
    agent.learn(10 * STEPS, callback=lambda locals_, globals_: agent.num_timesteps < 2.5 * STEPS)
    # What was begun of the third iteration was not learned from, and does not count.
    assert (agent.num_timesteps, agent.iteration) == (2 * STEPS, 2)
    agent.learn(STEPS, reset_num_timesteps=False)
    assert (agent.num_timesteps, agent.iteration) == (3 * STEPS, 3)


def test_a_stopped_and_continued_training_is_that_of_one_go():
    stopped, whole = small(), small()
    stopped.learn(10 * STEPS, callback=lambda *_: stopped.num_timesteps < 2.5 * STEPS)
    stopped.learn(2 * STEPS, reset_num_timesteps=False)
    whole.learn(4 * STEPS)
    for mine, theirs in zip(stopped.network.parameters(), whole.network.parameters()):
        assert mine.equal(theirs)


def test_checkpoint_callback(tmp_path):
    callback = callbacks.CheckpointCallback(7, str(tmp_path), "rl2")
    small().learn(2 * STEPS, callback=callback)
    (path,) = tmp_path.iterdir()
    agent = RL2.load(path, risk())
    # Seven vector steps are an iteration and two steps: saved is what was completed.
    assert (agent.num_timesteps, agent.iteration) == (STEPS, 1)


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
def test_eval_callback_and_what_hangs_on_it(tmp_path):
    stop = callbacks.StopTrainingOnRewardThreshold(-1.0)
    evaluation = callbacks.EvalCallback(
        Monitor(TrialEnv(risk(), "held_out")),
        callback_on_new_best=stop,
        n_eval_episodes=2,
        eval_freq=7,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    agent = small().learn(10 * STEPS, callback=[evaluation, callbacks.EveryNTimesteps(8, Never())])
    assert agent.num_timesteps == STEPS
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [7 * 4]
    assert RL2.load(tmp_path / "best_model", risk()).num_timesteps == STEPS


class Never(callbacks.BaseCallback):
    def _on_step(self):
        return True


def test_a_callback_that_evaluates_leaves_training_alone():
    agents = []
    for frequency in (3, 10**9):
        with pytest.warns(UserWarning, match="not of the same type"):
            agents.append(
                small().learn(
                    3 * STEPS,
                    callback=callbacks.EvalCallback(
                        Monitor(TrialEnv(risk())),
                        eval_freq=frequency,
                        deterministic=False,
                        verbose=0,
                    ),
                )
            )
    for mine, theirs in zip(*(agent.network.parameters() for agent in agents)):
        assert mine.equal(theirs)


def test_stop_on_max_episodes():
    agent = small().learn(100 * STEPS, callback=callbacks.StopTrainingOnMaxEpisodes(12))
    assert agent.num_timesteps == 2 * STEPS  # 12 episodes in each environment are 2.4 iterations


@pytest.mark.parametrize("verbose", [0, 1])
def test_log(verbose, tmp_path, capsys):
    agent = small(verbose=verbose, tensorboard_log=str(tmp_path))
    agent.learn(2 * STEPS)
    assert ("return_last_episode" in capsys.readouterr().out) == bool(verbose)
    assert [path.name for path in tmp_path.iterdir()] == ["RL2_1"]
    agent.learn(STEPS, tb_log_name="other")
    assert {path.name for path in tmp_path.iterdir()} == {"RL2_1", "other_1"}


def test_own_logger_gets_all_that_is_recorded(tmp_path):
    agent = small()
    with contextlib.closing(logger.configure(str(tmp_path), ["csv"])) as own:
        agent.set_logger(own)
        agent.learn(4 * STEPS, log_interval=2)
    header, *rows = (tmp_path / "progress.csv").read_text().splitlines()
    assert len(rows) == 2
    columns = dict(zip(header.split(","), rows[-1].split(",")))
    assert columns["time/total_timesteps"] == str(4 * STEPS)
    assert columns["time/iteration"] == "4"
    last = agent.last_rollout
    assert float(columns["rollout/return_first_episode"]) == last.returns[:, 0].mean()
    assert float(columns["rollout/return_last_episode"]) == last.returns[:, -1].mean()
    assert float(columns["rollout/return_mean"]) == pytest.approx(last.returns.mean())
    assert float(columns["rollout/ep_len_mean"]) == 1.0
    for name in ("policy_loss", "value_loss", "entropy", "approx_kl", "explained_variance"):
        assert np.isfinite(float(columns[f"train/{name}"]))


def test_a_callback_may_write_the_log(tmp_path):
    agent = small()
    with contextlib.closing(logger.configure(str(tmp_path), ["csv"])) as own:
        agent.set_logger(own)
        agent.learn(4 * STEPS, log_interval=10**6, callback=callbacks.LogEveryNTimesteps(STEPS))
    header, *rows = (tmp_path / "progress.csv").read_text().splitlines()
    assert "train/policy_loss" in header
    assert len(rows) == 3  # when the first was due, nothing was recorded yet


def test_counting_starts_again_or_continues():
    agent = small()
    agent.learn(STEPS)
    agent.learn(STEPS)
    assert (agent.num_timesteps, agent.iteration) == (STEPS, 2)
    agent.learn(2 * STEPS, reset_num_timesteps=False)
    assert (agent.num_timesteps, agent.iteration) == (3 * STEPS, 4)


@pytest.mark.parametrize("progress_bar", [False, True])
def test_progress_bar_is_silent_unless_asked_for(progress_bar, capsys):
    small().learn(3 * STEPS, progress_bar=progress_bar)
    shown = capsys.readouterr().err
    assert ("training 100%: 60 env steps" in shown) == progress_bar
    assert ("return, first episode" in shown) == progress_bar


def test_the_progress_bar_fits_80_columns_and_its_speed_is_of_a_whole_iteration(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    clock = SimpleNamespace(perf_counter=iter([10.0, 14.0]).__next__)
    monkeypatch.setattr(progress, "time", clock)
    bar = progress.ProgressBar()
    bar.model = SimpleNamespace(last_rollout=None)
    bar.locals = {"total_timesteps": 400_001_000}
    bar._on_training_start()

    def line():
        with console.capture() as shown:
            console.print(bar._progress.get_renderable())
        return re.sub(r"\x1b\[[\d;]*m", "", shown.get()).rstrip()

    try:
        bar._on_rollout_start()
        assert "steps/s" not in line()
        bar.num_timesteps = 40_001_000
        bar._on_step()
        bar.model.last_rollout = SimpleNamespace(returns=np.array([[-1234.5, 0.0, -2345.6]]))
        bar._on_rollout_start()
    finally:
        bar._on_training_end()
    assert re.fullmatch(
        r"training \S+ +10% 0:00:36 left 10,000,250 steps/s return -1234\.5 -> -2345\.6", line()
    )
    assert len(line()) <= 80


def test_any_number_of_env_steps_can_be_asked_for():
    agent = small()
    agent.learn(
        10**400, lambda locals_, globals_: agent.num_timesteps < 3 * STEPS, progress_bar=True
    )
    assert agent.iteration == 2


@pytest.mark.parametrize("options", [{"total_timesteps": 0}, {"log_interval": 0}])
def test_learn_refuses(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        small().learn(**{"total_timesteps": STEPS, **options})


def test_there_is_no_logger_before_learning():
    with pytest.raises(RuntimeError, match=r"call learn\(\) or set_logger\(\) first"):
        _ = small().logger


def test_learning_ends_the_logger_that_it_made(tmp_path):
    agent = small(tensorboard_log=str(tmp_path))
    threads = threading.active_count()
    for part in range(3):
        agent.learn(STEPS, reset_num_timesteps=part == 0)
        assert threading.active_count() == threads
    (folder,) = tmp_path.iterdir()
    shown = EventAccumulator(str(folder)).Reload().Scalars("rollout/return_mean")
    # Files of one second are read in any order.
    assert sorted(event.step for event in shown) == [STEPS, 2 * STEPS, 3 * STEPS]
    # What callbacks record afterwards goes nowhere, and does not fail.
    assert agent.logger.dir == str(folder)
    agent.logger.record("late", 1.0)
    agent.dump_logs()
    # An own logger is its owner's.
    own = logger.configure(str(tmp_path / "own"), ["csv"])
    agent.set_logger(own)
    agent.learn(STEPS, reset_num_timesteps=False)
    assert len(own.output_formats) == 1
    own.close()


def test_a_wrong_callback_leaves_no_logger_behind(tmp_path):
    agent = small(tensorboard_log=str(tmp_path))
    threads = threading.active_count()
    with pytest.raises(TypeError, match="a callback"):
        agent.learn(STEPS, 3)
    assert threading.active_count() == threads


class Counted(StrollVectorEnv):
    """Counts the batches that are open."""

    open = 0

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        Counted.open += 1

    def close_extras(self, **kwargs):
        Counted.open -= 1


@pytest.mark.parametrize("kind", [RL2, MAML, MultiTask, FineTune, FromScratch])
def test_agents_close_their_environments(kind, monkeypatch):
    monkeypatch.setattr(toys, "StrollVectorEnv", Counted)
    family, Counted.open = strolls(), 0
    options = {"RL2": SMALL, "MAML": {"meta_batch_size": 2}}.get(
        kind.__name__, {"num_envs": 256, "n_epochs": 1}
    )
    with kind(family, **{**options, "seed": 0}) as agent:
        assert Counted.open == 0
        agent.learn(1)
        assert Counted.open == (kind is not FromScratch)
        agent.adaptation(1)
        assert Counted.open == (kind is not FromScratch)
        agent.close()
        agent.close()
        assert Counted.open == 0
        agent.learn(1, reset_num_timesteps=False)
    assert Counted.open == 0
    # New environments are as good as the old ones.
    whole = kind(family, **{**options, "seed": 0}).learn(1)
    whole.learn(1, reset_num_timesteps=False)
    for name, tensor in whole._state()[0].items():
        assert torch.equal(tensor, agent._state()[0][name]), name
    whole.close()


def test_sb3s_environments_close_what_they_have_made_and_nothing_else(monkeypatch):
    monkeypatch.setattr(toys, "StrollVectorEnv", Counted)
    family, Counted.open = strolls(), 0
    venv = TaskVecEnv(family, 2)
    venv.close()
    venv.close()
    assert Counted.open == 0
    env = family.make_vec(2)
    TaskVecEnv(family, 2, env=env).close()
    assert Counted.open == 1
    env.close()
