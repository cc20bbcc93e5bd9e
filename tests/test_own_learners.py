"""Learners of one's own, online and from stored data: trained, saved, resumed to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refusal, small_evaluations
from own_agents import Cloning, Reactive, Recorded, record
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import KVWriter, Logger

from metarl import MetarlError, envs, evaluate
from metarl.agents import HeldOutCallback
from metarl.agents.training.offline import batch_indices
from metarl.experiments.cli.main import main

BANDIT = envs.make("bandit-10x2")


@pytest.fixture(scope="module")
def data():
    return record(BANDIT)


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# From stored data.


def test_every_example_comes_once_in_each_pass_and_each_pass_has_its_own_order():
    drawn = np.concatenate([batch_indices(3, 10, 4, step) for step in range(10)])  # four passes
    passes = drawn.reshape(4, 10)
    assert (np.sort(passes, axis=1) == np.arange(10)).all()
    assert len({tuple(order) for order in passes.tolist()}) == 4
    np.testing.assert_array_equal(batch_indices(3, 10, 4, 7), drawn[28:32])
    assert not np.array_equal(batch_indices(4, 10, 40, 0), drawn)
    # A batch may hold more than all examples.
    assert np.bincount(batch_indices(0, 3, 7, 0), minlength=3).tolist() in (
        [3, 2, 2],
        [2, 3, 2],
        [2, 2, 3],
    )


def test_a_cloned_player_plays_as_the_one_that_was_recorded(data):
    agent = Cloning(BANDIT, seed=0)
    before = evaluate(agent, BANDIT, num_tasks=400).returns.mean()
    agent.learn(data, 300)
    assert agent.num_gradient_steps == 300
    row = torch.zeros(2, agent.trial_input.size)
    row[:, agent.trial_input.action.start] = 1.0
    row[:, agent.trial_input.episode_end] = 1.0
    row[1, agent.trial_input.reward] = 1.0
    chances = agent.network.outputs(row).softmax(-1)
    assert chances[0, 0] < 0.1  # lost with the first arm
    assert chances[1, 0] > 0.9  # won with it
    # Random play earns 0.5; staying with what wins earns 0.6.
    report = evaluate(agent, BANDIT, num_tasks=400)
    assert before == pytest.approx(0.5, abs=0.03)
    assert report.returns[:, 1:].mean() > 0.57


def test_training_on_data_that_is_saved_goes_on_in_the_same_bits(data, tmp_path):
    whole = Cloning(BANDIT, seed=0, batch_size=300).learn(data, 250)
    first = Cloning(BANDIT, seed=0, batch_size=300).learn(data, 130)
    first.save(tmp_path / "agent")
    resumed = Cloning.load(tmp_path / "agent", BANDIT)
    assert resumed.num_gradient_steps == 130
    resumed.learn(data, 120, reset_num_timesteps=False)
    assert same(tensors(whole), tensors(resumed))
    assert not same(tensors(whole), tensors(first))
    assert not same(
        tensors(whole), tensors(Cloning(BANDIT, seed=1, batch_size=300).learn(data, 250))
    )


class Stops(BaseCallback):
    """Stops after a number of gradient steps, or raises."""

    def __init__(self, steps, error=None):
        super().__init__()
        self.steps, self.error, self.seen = steps, error, []

    def _on_step(self):
        self.seen.append(self.num_timesteps)
        if self.n_calls == self.steps and self.error:
            raise self.error
        return self.n_calls != self.steps


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()], ids=["stopped", "interrupted"])
def test_gradient_steps_that_were_stopped_on_the_way_leave_no_trace(data, error):
    agent, stops = Cloning(BANDIT, seed=0), Stops(130, error)
    if error:
        with pytest.raises(KeyboardInterrupt):
            agent.learn(data, 200, stops)
    else:
        agent.learn(data, 200, stops)
    assert stops.seen == list(range(1, 131))
    assert (agent.num_gradient_steps, agent.iteration) == (100, 1)
    agent.learn(data, 100, reset_num_timesteps=False)
    assert same(tensors(agent), tensors(Cloning(BANDIT, seed=0).learn(data, 200)))


def test_gradient_steps_that_diverge_are_rolled_back_and_say_what_to_lower(data):
    agent = Cloning(BANDIT, seed=0).learn(data, 100)
    before, spoilt = tensors(agent), Recorded(data.rows * torch.nan, data.actions)
    with pytest.raises(
        MetarlError, match=r"after 200 gradient steps: .* diverged; lower learning_rate=0\.01"
    ):
        agent.learn(spoilt, 100, reset_num_timesteps=False)
    assert same(before, tensors(agent))
    assert agent.num_gradient_steps == 100


def test_callbacks_and_the_log_count_gradient_steps(data, tmp_path, capsys):
    lines = []

    class Lines(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            lines.append((step, dict(key_values)))

        def close(self):
            pass

    agent = Cloning(BANDIT, seed=0)
    agent.set_logger(Logger(None, [Lines()]))
    callbacks = [CheckpointCallback(100, str(tmp_path)), HeldOutCallback(2, num_tasks=4)]
    agent.learn(data, 250, callbacks, progress_bar=True)
    assert [step for step, _ in lines] == [100, 200, 250]
    assert lines[-1][1]["train/loss"] < lines[0][1]["train/loss"]
    assert {"time/iteration", "time/gradient_steps_per_second"} <= lines[0][1].keys()
    assert ["held_out/return_last_episode" in line for _, line in lines] == [True, False, True]
    assert len(list(tmp_path.glob("*100_steps*"))) == 1
    assert "training 100%: 250 gradient steps" in capsys.readouterr().err


def test_what_an_offline_learner_refuses(data):
    agent = Cloning(BANDIT, seed=0)
    with pytest.raises(ValueError, match="data must hold at least one example, got none"):
        agent.learn(Recorded(data.rows[:0], data.actions[:0]), 10)
    with pytest.raises(ValueError, match="total_gradient_steps must be at least 1, got 0"):
        agent.learn(data, 0)
    with pytest.raises(TypeError, match=r"total_gradient_steps must be an integer of at least 1"):
        agent.learn(data, 1.5)


# Online.


def test_a_learner_of_ones_own_learns_by_ppo_on_trials():
    options = {"learning_rate": 0.03, "trials_per_minibatch": 16, "gamma": 0.0}
    agent = Reactive(BANDIT, seed=0, **options).learn(64 * 10 * 20)
    report = evaluate(agent, BANDIT, num_tasks=400, deterministic=True)
    # Random play earns 0.5; the best reaction to the last pull, win-stay lose-shift, 0.6.
    assert report.returns[:, 1:].mean() > 0.57


def test_ones_own_agent_trains_resumes_and_is_evaluated_from_the_command_line(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    words = ["train", "own_agents:Reactive", "bandit-10x2", "--set", "num_trials=8"]
    words += ["--set", "trials_per_minibatch=4"]
    assert "pass --total-timesteps" in refusal(words, capsys)  # it has no presets
    words += ["--total-timesteps", "400"]
    with small_evaluations():
        assert main(words) == 0
    run = Path("runs/own_agents-Reactive-bandit-10x2-seed0")
    assert json.loads((run / "config.json").read_text())["agent"] == "own_agents:Reactive"
    whole = (run / "agent.safetensors").read_bytes()
    (run / "agent.safetensors").unlink()
    assert main(["resume", str(run)]) == 0
    assert (run / "agent.safetensors").read_bytes() == whole
    assert main(["evaluate", str(run), "--num-tasks", "3"]) == 0
    assert "reactive" in capsys.readouterr().out
    # Somebody else's run does not import what was not named here.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another home"))
    refused = refusal(["evaluate", str(run)], capsys)
    assert "the run's 'own_agents:Reactive' is code in" in refused
    assert refused.endswith("add: --trust own_agents")
    assert main(["evaluate", str(run), "--num-tasks", "3", "--trust", "own_agents"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_agents:Reacting", "must be a class derived from metarl.agents.OnlineLearner or"),
        ("own_agents:OnlineLearner", "that implements its methods, got <class"),
        ("own_agents:Reactve", "has no 'Reactve'; did you mean 'Reactive'"),
        ("own_agents:Cloning", "learns from stored data, which the command line does not read"),
        ("reactive", "unknown agent 'reactive'"),
    ],
)
def test_what_is_no_agent_of_ones_own(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", name, "bandit-10x2", "--total-timesteps", "100"]
    assert message in refusal(words, capsys)
    assert not list(tmp_path.iterdir())


def test_ones_own_agent_is_listed_with_its_hyperparameters(capsys):
    assert main(["list", "own_agents:Reactive"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "hyperparameters of own_agents:Reactive" in shown
    assert "num_trials" in shown
    assert "clip_range" in shown
