"""A training that leaves the real numbers, or an environment that fails in the middle of one."""

import contextlib
import copy
import json

import numpy as np
import pytest
import torch
from command_line import small_evaluations
from saved_agents import OPTIONS, Rehearsing
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from toys import StrollVectorEnv, strolls
from walk import walk

from metarl import MetarlError
from metarl.agents import MAML, RL2, MultiTask
from metarl.experiments.cli import commands
from metarl.experiments.cli import main as cli

CASES = {
    "rl2": (RL2, strolls, {"trials_per_iteration": 4, "trials_per_minibatch": 2}),
    "ppo": (MAML, walk, {"outer": "ppo", "meta_batch_size": 2, "episodes_per_adaptation": 2}),
    "reptile": (
        MAML,
        walk,
        {"outer": "reptile", "meta_batch_size": 2, "episodes_per_adaptation": 2},
    ),
}


def state(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


@pytest.mark.parametrize("case", CASES)
def test_an_update_that_is_not_finite_is_refused_and_the_last_good_state_stays(case, monkeypatch):
    agent_class, family, options = CASES[case]
    agent = agent_class(family(), seed=0, device="cpu", **options).learn(1)
    before, steps = state(agent), agent.num_timesteps
    name = next(iter(agent.modules))
    update = agent.update

    def poisoned(experience):
        update(experience)
        with torch.no_grad():
            next(agent.modules[name].parameters()).view(-1)[0] = torch.nan

    monkeypatch.setattr(agent, "update", poisoned)
    with pytest.raises(
        MetarlError, match=r"is not finite after \S+ env steps: .* diverged; lower "
    ):
        agent.learn(1, reset_num_timesteps=False)
    after = state(agent)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert agent.num_timesteps == steps
    monkeypatch.undo()
    agent.learn(1, reset_num_timesteps=False)
    assert agent.iteration == 2


KEEPING = {
    MultiTask: {"num_envs": 256, "batch_size": 2048, "n_epochs": 2},
    RL2: OPTIONS,
    Rehearsing: OPTIONS,
    MAML: {"meta_batch_size": 2, "episodes_per_adaptation": 2},
}


class Breaks(BaseCallback):
    """Ends training in the middle of an iteration, or fails there; saves what there is then."""

    def __init__(self, step, fails, path):
        super().__init__()
        self.step, self.fails, self.path = step, fails, path

    def _on_step(self):
        if self.n_calls != self.step:
            return True
        self.model.save(self.path)
        if self.fails:
            raise RuntimeError("the simulator has crashed")
        return False


@pytest.mark.parametrize("fails", [False, True], ids=["stopped", "failed"])
@pytest.mark.parametrize("kind", KEEPING)
def test_half_an_iteration_leaves_no_trace(kind, fails, tmp_path):
    def new():
        return kind(strolls(), seed=0, device="cpu", **KEEPING[kind])

    counter = Breaks(-1, False, None)
    first = new().learn(1, counter)
    whole = copy.deepcopy(first._state())
    broken = new()
    breaks = Breaks(counter.n_calls + 3, fails, tmp_path / "agent")
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        broken.learn(2 * first.num_timesteps, breaks)
    saved = kind.load(tmp_path / "agent", strolls(), device="cpu")
    check_states(whole, broken._state(), saved._state())
    for agent in (first, broken, saved):
        agent.learn(1, reset_num_timesteps=False)
        assert agent.iteration == 2
    check_states(first._state(), broken._state(), saved._state())


def check_states(expected, *others):
    for tensors, data in others:
        assert data == expected[1]
        assert tensors.keys() == expected[0].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, expected[0][name]), name


def test_moments_that_are_not_finite_end_training_where_it_can_be_resumed(tmp_path, monkeypatch):
    agent = MultiTask(strolls(), seed=0, **KEEPING[MultiTask]).learn(1)
    before = copy.deepcopy(agent._state())
    update = agent.update

    def poisoned(experience):
        update(experience)
        agent._moments()["returns"].var = np.array(np.inf)

    monkeypatch.setattr(agent, "update", poisoned)
    with pytest.raises(MetarlError, match=r"^returns\.var is not finite after"):
        agent.learn(1, reset_num_timesteps=False)
    check_states(before, agent._state())
    agent.save(tmp_path / "agent")
    MultiTask.load(tmp_path / "agent", strolls())
    agent._moments()["returns"].var = np.array(np.inf)
    agent.save(tmp_path / "agent")
    with pytest.raises(MetarlError, match=r"the tensor 'returns\.var' is not finite"):
        MultiTask.load(tmp_path / "agent", strolls())


def test_the_count_of_updates_goes_on_where_training_does(tmp_path):
    agent = MultiTask(strolls(), seed=0, **KEEPING[MultiTask]).learn(1)
    agent.save(tmp_path / "agent")
    loaded = MultiTask.load(tmp_path / "agent", strolls())
    lines = {}

    class Lines(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            lines.update(key_values)

        def close(self):
            pass

    loaded.set_logger(Logger(None, [Lines()]))
    loaded.learn(1, reset_num_timesteps=False)
    assert lines["train/n_updates"] == 2 * KEEPING[MultiTask]["n_epochs"]


SMALL = ["--threads", "1", "--total-timesteps", "3000", "--run-dir"]


@pytest.mark.parametrize(
    "words",
    [
        "rl2 bandit-10x5 learning_rate=1e20 trials_per_iteration=50 trials_per_minibatch=50",
        pytest.param(
            "maml navigation-2d outer=reptile learning_rate=1e38 meta_batch_size=2 "
            "episodes_per_adaptation=2",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["rl2", "reptile"],
)
def test_the_command_line_says_what_to_lower_and_resumes(words, tmp_path, capsys):
    run = tmp_path / "a run"
    agent, family, *settings = words.split()
    options = [word for setting in settings for word in ("--set", setting)]
    assert cli.main(["train", agent, family, *options, *SMALL, str(run)]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "metarl: error" in each]
    assert "the training has diverged; lower " in line
    assert f"metarl resume '{run}'" in line
    assert "learning_rate=" in line
    config = json.loads((run / "config.json").read_text())
    config["hyperparameters"]["learning_rate"] = 1e-3
    config["evaluation"]["num_tasks"] = 4
    (run / "config.json").write_text(json.dumps(config))
    assert cli.main(["resume", str(run)]) == 0
    assert (run / "agent.safetensors").exists()


def test_an_environment_that_fails_costs_nothing_that_was_learned(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(StrollVectorEnv, "calls", 0, raising=False)
    module = tmp_path / "failing_tasks.py"
    module.write_text("from toys import strolls\n\ntasks = strolls()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    step = StrollVectorEnv.step_lanes

    def failing(self, ids, actions):
        StrollVectorEnv.calls += 1
        if StrollVectorEnv.calls == 60:
            raise RuntimeError("the simulator has crashed")
        return step(self, ids, actions)

    monkeypatch.setattr(StrollVectorEnv, "step_lanes", failing)
    # The check of a family of one's own would meet the failure first.
    monkeypatch.setattr(commands, "_say_what_is_wrong", lambda tasks: None)
    arguments = ["train", "rl2", "failing_tasks:tasks", *SMALL, "run"]
    small = ["--set", "trials_per_iteration=4", "--set", "trials_per_minibatch=2"]
    with small_evaluations():
        with pytest.raises(RuntimeError, match="the simulator has crashed"):  # with its traceback
            cli.main([*arguments, *small])
        assert "is saved; continue with: metarl resume run" in capsys.readouterr().err
        assert (tmp_path / "run" / "checkpoint.safetensors").exists()
        assert cli.main(["resume", "run"]) == 0


def test_actions_that_are_not_finite_are_not_blamed_on_the_environment():
    env = strolls().make_vec(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be finite, got NaN"):
        env.step(np.full((2, 2), np.nan))
