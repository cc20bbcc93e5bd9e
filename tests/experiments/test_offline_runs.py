"""From the command line: histories are recorded, and learners are trained on them."""

import json
from pathlib import Path

import pytest
from command_line import SMALL, contents, edit, refusal, small_evaluations
from extensions.offline import Distillation

from metarl import envs
from metarl.agents import AGENTS
from metarl.data import Histories
from metarl.experiments.cli.main import main
from metarl.experiments.publish.runs import publish, table
from metarl.experiments.runs import training
from metarl.experiments.runs.records import load_training
from metarl.experiments.runs.run import Run
from metarl.spaces import to_json

OPTIONS = ["--set", "num_episodes=3", "--set", "hidden_size=4", "--set", "batch_size=4"]
TRAIN = ["train", "extensions.offline:Distillation", "bandit-10x2", *OPTIONS]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with small_evaluations():
        yield


def record(*words, tasks="bandit-10x2", out="data"):
    assert main(["record", *words, tasks, "--output", out, "--num-tasks", "6"]) == 0


def test_the_histories_of_a_run(capsys):
    assert main(["train", "rl2", "bandit-10x5", *SMALL, "--run-dir", "run"]) == 0
    record("run", tasks="bandit-10x5")
    histories = Histories("data")
    assert histories.lengths.shape == (6, 10)
    assert histories.info["agent"] == "RL2"
    assert histories.info["source"].startswith("run after 160 env steps on bandit-10x5: metarl")
    before = contents("data")
    Path("data/000000.safetensors").unlink()
    capsys.readouterr()
    record("run", tasks="bandit-10x5")
    assert contents("data") == before
    shown = capsys.readouterr().out
    assert "recording RL2 on bandit-10x5; folder: data" in shown
    assert "6 histories, 60 episodes, 60 steps; recorded in" in shown
    assert "RL2 was made for the action_space Discrete(5), 'bandit-10x2' has Discrete(2)" in (
        refusal(["record", "run", "bandit-10x2", "--output", "other"], capsys)
    )
    assert not Path("other").exists()


def test_an_oracle_is_given_the_task_which_the_histories_show_only_on_request():
    record("known-best-arm")
    histories = Histories("data")
    best = histories.tasks.columns["p"].argmax(axis=1)
    assert [set(history.actions) for history in histories] == [{arm} for arm in best]
    plain = envs.make("bandit-10x2").make_vec(1).single_observation_space
    assert histories.info["observation_space"] == to_json(plain)
    record("known-best-arm", "--oracle", out="shown")
    assert Histories("shown").info["observation_space"] != to_json(plain)
    for name in ("actions", "rewards"):
        assert (getattr(Histories("shown")[0], name) == getattr(histories[0], name)).all()


def test_demonstrations_with_fading_noise_and_the_best_actions_beside_them(capsys):
    record("random", "--labels", "known-best-arm")
    histories = Histories("data")
    best = histories.tasks.columns["p"].argmax(axis=1)
    assert [set(history.best_actions) for history in histories] == [{arm} for arm in best]
    assert any(set(history.actions) == {0, 1} for history in histories)
    record("known-best-arm", "--noise-from", "1", "--labels", "known-best-arm", out="noisy")
    noisy = Histories("noisy").windows(10).batch(range(6))
    agrees = noisy.actions == noisy.best_actions
    assert agrees[:, -1].all()
    assert not agrees[:, :5].all()
    for name in ("thompson-sampling", "random"):
        command = ["record", "random", "bandit-10x2", "--output", "other", "--labels", name]
        assert f"trained with --oracle, got '{name}', which does not see the task" in (
            refusal(command, capsys)
        )
    command = ["record", "random", "bandit-10x2", "--output", "other", "--noise-to", "2"]
    assert "noise_to must be at most 1.0, got 2.0" in refusal(command, capsys)
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rl2"], "rl2 must be trained first: name a run of it, or an agent that needs no tra"),
        (["thomson-sampling"], "no run or agent 'thomson-sampling'; did you mean 'thompson-s"),
        (["runs/none"], "'runs/none' is not a run directory"),
        (["random", "--split", "trian"], "unknown split of 'bandit-10x2': 'trian'; did you mean"),
        (["random", "--num-tasks", "0"], "num_tasks must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_recorded(words, message, capsys):
    command = ["record", words[0], "bandit-10x2", "--output", "data", *words[1:]]
    assert message in refusal(command, capsys)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*TRAIN, "--total-gradient-steps", "9"], "learns from stored data, got none: pass --data"),
        ([*TRAIN, "--data", "data"], "for 'bandit-10x2'; pass --total-gradient-steps"),
        ([*TRAIN, "--data", "data", "--total-timesteps", "9"], "pass --total-gradient-steps"),
        (
            [*TRAIN, "--data", "none", "--total-gradient-steps", "9"],
            "'none' holds no histories: there is no index.json",
        ),
        (
            [*TRAIN, "--data", "other", "--total-gradient-steps", "9"],
            "recorded in 'bandit-10x5', whose action_space is not that of bandit-10x2: n 5, not 2",
        ),
        (
            [*TRAIN, "--data", "data", "--total-gradient-steps", "9", "--set", "num_episodes=11"],
            "num_episodes=11 with every=1 span 11 episodes; the histories have 10",
        ),
        (["train", "rl2", "bandit-10x2", "--data", "data"], "rl2 learns in environments, got --da"),
        (
            ["train", "rl2", "bandit-10x2", "--total-gradient-steps", "9"],
            "rl2 learns in environments, got --total-gradient-steps: leave it out",
        ),
    ],
)
def test_what_does_not_fit_the_learner(words, message, capsys):
    record("random")
    record("random", tasks="bandit-10x5", out="other")
    capsys.readouterr()
    assert message in refusal(words, capsys)
    assert not Path("runs").exists()


def test_a_stopped_run_goes_on_to_the_same_bits_with_the_same_data_only(monkeypatch, capsys):
    record("thompson-sampling")
    words = [*TRAIN, "--data", "data", "--total-gradient-steps", "150", "--run-dir"]
    assert main([*words, "whole"]) == 0
    config = json.loads(Path("whole/config.json").read_text())
    assert config["data"]["folder"] == "data"
    assert config["total_timesteps"] == 150
    update, calls = Distillation.update, []

    def interrupted(self, batch):
        calls.append(1)
        if len(calls) == 130:
            raise KeyboardInterrupt
        update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(Distillation, "update", interrupted)
        assert main([*words, "stopped"]) == 130
    assert not Path("stopped/agent.safetensors").exists()
    assert Path("stopped/checkpoint.safetensors").exists()
    Path("data").rename("kept")
    capsys.readouterr()
    assert "'data' holds no histories" in refusal(["resume", "stopped"], capsys)
    record("random")
    capsys.readouterr()
    assert "'data' holds other histories than the training began with" in (
        refusal(["resume", "stopped"], capsys)
    )
    Path("data").rename("other")
    Path("kept").rename("data")
    assert main(["resume", "stopped"]) == 0
    for name in ("agent.safetensors", "evaluation/held_out.npz"):
        assert Path("whole", name).read_bytes() == Path("stopped", name).read_bytes()
    steps = [row.split(",") for row in Path("stopped/progress.csv").read_text().splitlines()]
    column = steps[0].index("time/total_timesteps")
    assert [row[column] for row in steps[1:]] == ["100", "150"]
    Path("data").rename("gone")  # an agent that has learned needs them no more
    assert main(["evaluate", "whole", "--num-tasks", "3"]) == 0
    capsys.readouterr()
    assert main(["compare", "whole", "stopped"]) == 0
    assert "env steps" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [pytest.param("ad", marks=pytest.mark.slow), "dpt"])
def test_learners_of_histories_from_the_command_line(name, monkeypatch, capsys):
    record("thompson-sampling")
    command = ["train", name, "bandit-10x2", "--total-gradient-steps", "120", "--set", "patience=9"]
    command += ["--set", "validation_share=0.2"]  # of six tasks
    command += ["--set", 'policy_kwargs={"hidden_size": 8}', "--set", "batch_size=4", "--data"]
    if name == "dpt":
        assert "record them with --labels" in refusal([*command, "data"], capsys)
        record("thompson-sampling", "--labels", "known-best-arm", out="labelled")
        command.append("labelled")
    else:
        command.append("data")
    assert main([*command, "--run-dir", "whole"]) == 0
    kind, update, calls = AGENTS[name], AGENTS[name].update, []

    def interrupted(self, batch):
        calls.append(1)
        if len(calls) == 110:
            raise KeyboardInterrupt
        update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(kind, "update", interrupted)
        assert main([*command, "--run-dir", "stopped"]) == 130
    assert main(["resume", "stopped"]) == 0
    for path in ("agent.safetensors", "evaluation/held_out.npz"):
        assert Path("whole", path).read_bytes() == Path("stopped", path).read_bytes()
    header, *rows = (row.split(",") for row in Path("whole/progress.csv").read_text().splitlines())
    assert {"train/loss", "train/accuracy", "validation/loss"} <= set(header)
    assert len(rows) == 2
    published = load_training(publish(Run.open("whole"), Path("record.npz")))
    assert published["gradient_steps"] == 120
    assert "env_steps" not in published
    assert "120 gradient steps" in table([published])


def test_a_damaged_entry_is_named(capsys):
    record("random")
    words = [*TRAIN, "--data", "data", "--total-gradient-steps", "3", "--run-dir", "run"]
    assert main(words) == 0
    capsys.readouterr()
    edit(Path("run"), lambda config: config.update(data="data"))
    assert "'data' must be the folder of histories, and the SHA-256 of their index" in (
        refusal(["evaluate", "run"], capsys)
    )
