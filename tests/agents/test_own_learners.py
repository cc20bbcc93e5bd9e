"""Learners of one's own, online and from stored data: trained, saved, resumed to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refusal, small_evaluations
from extensions.offline import Distillation
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import KVWriter, Logger

from metarl import MetarlError, envs
from metarl.agents import EvaluationCallback
from metarl.agents.classical.bandits import ThompsonSampling
from metarl.agents.training.offline import batch_indices
from metarl.data import Histories, record
from metarl.experiments.cli.main import main

BANDIT = envs.make("bandit-10x2")


SMALL = {"num_episodes": 3, "hidden_size": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories")
    return Histories(record(ThompsonSampling(BANDIT), BANDIT, folder, num_tasks=50))


class Noisy(Distillation):
    """Draws random numbers of its own, to see that a resumed training draws the same."""

    def update(self, batch):
        noise = torch.randn(batch.rewards.shape, generator=self.generator_for("noise"))
        super().update(replace(batch, rewards=batch.rewards + 0.1 * noise.numpy()))


def small(seed=0):
    return Noisy(BANDIT, seed=seed, **SMALL)


class Examples:
    """Data that are no histories."""

    def __init__(self, number, batch=None):
        self.number, self.batch = number, batch

    def __len__(self):
        return self.number


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


def test_training_on_data_that_is_saved_goes_on_in_the_same_bits(data, tmp_path):
    whole = small().learn(data, 150)
    first = small().learn(data, 80)
    first.save(tmp_path / "agent")
    resumed = Noisy.load(tmp_path / "agent", BANDIT)
    assert resumed.num_gradient_steps == 80
    resumed.learn(data, 70, reset_num_timesteps=False)
    assert same(tensors(whole), tensors(resumed))
    assert not same(tensors(whole), tensors(first))
    assert not same(tensors(whole), tensors(small(seed=1).learn(data, 150)))


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
    agent, stops = small(), Stops(130, error)
    if error:
        with pytest.raises(KeyboardInterrupt):
            agent.learn(data, 200, stops)
    else:
        agent.learn(data, 200, stops)
    assert stops.seen == list(range(1, 131))
    assert (agent.num_gradient_steps, agent.iteration) == (100, 1)
    agent.learn(data, 100, reset_num_timesteps=False)
    assert same(tensors(agent), tensors(small().learn(data, 200)))


def test_gradient_steps_that_diverge_are_rolled_back_and_say_what_to_lower(data):
    agent = small().learn(data, 100)
    before, windows = tensors(agent), agent.examples(data)

    def nothing(indices):
        return replace(windows.batch(indices), rewards=np.full((16, 3), np.nan, np.float32))

    with pytest.raises(
        MetarlError, match=r"after 200 gradient steps: .* diverged; lower learning_rate=0\.01"
    ):
        agent.learn(Examples(len(windows), nothing), 100, reset_num_timesteps=False)
    assert same(before, tensors(agent))
    assert agent.num_gradient_steps == 100


def test_callbacks_and_the_log_count_gradient_steps(data, tmp_path, capsys):
    lines = []

    class Lines(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            lines.append((step, dict(key_values)))

        def close(self):
            pass

    agent = small()
    agent.set_logger(Logger(None, [Lines()]))
    callbacks = [CheckpointCallback(100, str(tmp_path)), EvaluationCallback(2, num_tasks=4)]
    agent.learn(data, 250, callbacks, progress_bar=True)
    assert [step for step, _ in lines] == [100, 200, 250]
    assert lines[-1][1]["train/loss"] < lines[0][1]["train/loss"]
    assert {"time/iteration", "time/gradient_steps_per_second"} <= lines[0][1].keys()
    assert ["validation/return_last_episode" in line for _, line in lines] == [True, False, True]
    assert len(list(tmp_path.glob("*100_steps*"))) == 1
    assert "training 100%: 250 gradient steps" in capsys.readouterr().err


def test_what_an_offline_learner_refuses(data):
    agent = small()
    with pytest.raises(ValueError, match="data must hold at least one example, got none"):
        agent.learn(Examples(0), 10)
    with pytest.raises(ValueError, match="total_gradient_steps must be at least 1, got 0"):
        agent.learn(data, 0)
    with pytest.raises(TypeError, match=r"total_gradient_steps must be an integer of at least 1"):
        agent.learn(data, 1.5)
    with pytest.raises(ValueError, match="in 'bandit-10x2', whose action_space is not that of ba"):
        Distillation(envs.make("bandit-10x5"), seed=0).learn(data, 10)
    with pytest.raises(ValueError, match="span 11 episodes; the histories have 10"):
        Distillation(BANDIT, seed=0, num_episodes=11).learn(data, 10)


# Online.


def test_ones_own_agent_trains_resumes_and_is_evaluated_from_the_command_line(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    words = ["train", "extensions.online:Reactive", "bandit-10x2", "--set", "num_trials=8"]
    words += ["--set", "trials_per_minibatch=4"]
    assert "pass --total-timesteps" in refusal(words, capsys)  # it has no presets
    words += ["--total-timesteps", "400"]
    with small_evaluations():
        assert main(words) == 0
    run = Path("runs/extensions.online-Reactive-bandit-10x2-seed0")
    assert json.loads((run / "config.json").read_text())["agent"] == "extensions.online:Reactive"
    whole = (run / "agent.safetensors").read_bytes()
    (run / "agent.safetensors").unlink()
    assert main(["resume", str(run)]) == 0
    assert (run / "agent.safetensors").read_bytes() == whole
    assert main(["evaluate", str(run), "--num-tasks", "3"]) == 0
    assert "reactive" in capsys.readouterr().out
    # Somebody else's run does not import what was not named here.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another home"))
    refused = refusal(["evaluate", str(run)], capsys)
    assert "the run's 'extensions.online:Reactive' is code in" in refused
    assert refused.endswith("add: --trust extensions.online")
    assert main(["evaluate", str(run), "--num-tasks", "3", "--trust", "extensions.online"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "extensions.online:Reacting",
            "must be a class derived from metarl.agents.OnlineLearner or",
        ),
        ("extensions.online:OnlineLearner", "that implements its methods, got <class"),
        ("extensions.online:Reactve", "has no 'Reactve'; did you mean 'Reactive'"),
        ("extensions.offline:Distillation", "learns from stored data, got none: pass --data DIR"),
        ("reactive", "unknown agent 'reactive'"),
    ],
)
def test_what_is_no_agent_of_ones_own(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", name, "bandit-10x2", "--total-timesteps", "100"]
    assert message in refusal(words, capsys)
    assert not list(tmp_path.iterdir())


def test_ones_own_agent_is_listed_with_its_hyperparameters(capsys):
    assert main(["list", "extensions.online:Reactive"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "hyperparameters of extensions.online:Reactive" in shown
    assert "num_trials" in shown
    assert "clip_range" in shown
