"""The command line refuses in one sentence, before any compute, and touches nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import (
    SMALL,
    contents,
    edit,
    edit_archive,
    refusal,
    small_evaluations,
    train_two,
    write_family,
)

from metarl.agents import RL2
from metarl.errors import InvalidValueError
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main
from metarl.experiments.runs.run import Run


@pytest.fixture(scope="module", autouse=True)
def _small_evaluations():
    with small_evaluations():
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_two(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run that a test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_list_of_what_there_is_not(capsys):
    assert refusal(["list", "terain"], capsys).endswith("'terain'; did you mean 'terrain'?")
    assert refusal(["list", "rl3"], capsys).endswith("'rl3'; did you mean 'rl2'?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "rl3", "bandit-10x5"], "unknown agent 'rl3'; did you mean 'rl2'?"),
        (["train", "rl2", "bandit10x5"], "unknown family 'bandit10x5'; did you mean 'bandit-10x5'"),
        (["train", "rl2", "bandit-0x5"], "num_pulls must be at least 1, got 0"),
        (["train", "rl2", "nowhere:tasks"], "there is no module 'nowhere'"),
        (["train", "rl2", "metarl.envs:taks"], "metarl.envs has no 'taks'"),
        (["train", "rl2", "./my/tasks.py:t"], "for example 'my.tasks:t'"),
        ([*SMALL, "--total-timesteps", "0"], "total_timesteps must be at least 1, got 0"),
        ([*SMALL, "--total-timesteps", "-5"], "total_timesteps must be at least 1, got -5"),
        ([*SMALL, "--threads", "0"], "threads must be at least 1, got 0"),
        ([*SMALL, "--seed", "-1"], "seed must be at least 0, got -1"),
        (
            [*SMALL, "--set", "learning_rat=1"],
            "unknown hyperparameter of RL2: 'learning_rat'; did you mean",
        ),
        ([*SMALL, "--set", "learning_rate"], "expected name=value, got 'learning_rate'"),
        ([*SMALL, "--set", "learning_rate=fast"], "learning_rate must be a number, got 'fast'"),
        (
            [*SMALL, "--set", "learning_rate=-1"],
            "learning_rate must be above 0, got -1",
        ),
        ([*SMALL, "--set", "n_epochs=1.5"], "n_epochs must be an integer, got 1.5"),
        ([*SMALL, "--set", 'policy_kwargs={"memry": "gru"}'], "'memry'; did you mean 'memory'"),
        ([*SMALL, "--set", "trials_per_minibatch=9"], "(9) must not exceed trials_per_iteration"),
    ],
)
def test_train_refuses(arguments, message, capsys):
    if arguments[0] != "train":
        arguments = ["train", "rl2", "bandit-10x5", *arguments]
    assert message in refusal(arguments, capsys)
    assert contents(".") == {}


def test_what_would_fail_after_training_fails_before(run, capsys, monkeypatch):
    def never(*args, **settings):
        raise AssertionError("it trains")

    monkeypatch.setattr(RL2, "learn", never)
    write_family("known", "risk", references=["known-best-arm"])
    message = refusal(["train", "rl2", "known:tasks", *SMALL, "--run-dir", "here"], capsys)
    assert "one task feature for each action" in message
    (run / "agent.safetensors").unlink()
    monkeypatch.setattr(RL2, "episodes_per_adaptation", 4)
    edit(run, lambda config: config["evaluation"].update(num_episodes=10))
    assert "num_episodes must be a multiple of 4, got 10" in refusal(["resume", str(run)], capsys)


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, RuntimeError, ImportError])
def test_a_bug_keeps_its_traceback(error, monkeypatch):
    def broken(*_, **__):
        raise error("a bug")

    monkeypatch.setattr(commands, "evaluate_run", broken)
    with pytest.raises(error, match="a bug"):
        main(["evaluate", "run"])


@pytest.mark.parametrize("what", ["run", "other"])
def test_what_exists_is_left_as_it_is(run, what, capsys):
    directory = run
    if what == "other":
        directory = Path("mine")
        directory.mkdir()
        (directory / "thesis.tex").write_text("all my work")
    before = contents(directory)
    command = ["train", "rl2", "bandit-10x5", *SMALL, "--run-dir", str(directory)]
    assert "exists already and is left as it is" in refusal(command, capsys)
    assert contents(directory) == before


def test_without_a_preset_an_agent_needs_a_number_of_steps(capsys, monkeypatch):
    def none(agent, tasks):
        raise InvalidValueError("there is no preset; pass --total-timesteps")

    monkeypatch.setattr(commands, "find_preset", none)
    command = ["train", "rl2", "bandit-2x2", "--run-dir", "mine", "--threads", "1"]
    assert "pass --total-timesteps" in refusal(command, capsys)
    assert not Path("mine").exists()
    assert main([*command, *SMALL]) == 0


def test_a_complete_run_is_not_resumed(run, capsys):
    before = contents(run)
    message = refusal(["resume", str(run)], capsys)
    assert f"is complete; evaluate it with: metarl evaluate {run}" in message
    assert contents(run) == before


def test_a_run_that_is_being_trained_is_not_resumed(run, capsys):
    (run / "agent.safetensors").unlink()
    before = contents(run)
    with Run.open(run).exclusive():
        assert "is being trained by another process" in refusal(["resume", str(run)], capsys)
        assert contents(run) == before
    assert main(["resume", str(run)]) == 0


@pytest.mark.parametrize("command", ["resume", "evaluate", "compare", "watch"])
def test_what_is_not_a_run_directory(command, run, capsys):
    message = refusal([command, "nothing"], capsys)
    assert "'nothing' is not a run directory: it has no config.json; runs there: run" in message
    assert not Path("nothing").exists()
    message = refusal([command, "rl2-gridnavy-seed0"], capsys) if command != "resume" else ""
    assert not message or "did you mean 'rl2-gridnavi-seed0'? metarl list agents" in message


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
@pytest.mark.parametrize("command", ["resume", "evaluate", "compare", "watch"])
def test_a_damaged_configuration(run, text, command, capsys):
    (run / "config.json").write_bytes(text.encode("latin1"))
    assert "config.json' is damaged: " in refusal([command, str(run)], capsys)


@pytest.mark.parametrize(
    ("entry", "value", "expected"),
    [
        ("agent", 1, "a printable string, got 1"),
        ("tasks", None, "a printable string, got None"),
        ("seed", -1, "an integer of at least 0, got -1"),
        ("device", ..., "a printable string, it is missing"),
        ("threads", ..., "an integer from 1 to 1024, it is missing"),
        ("threads", True, "an integer from 1 to 1024, got True"),
        ("total_timesteps", 1.5, "an integer of at least 1, got 1.5"),
        ("hyperparameters", [], "an object, got []"),
        ("evaluation", ..., "an object, it is missing"),
        ("evaluation.num_tasks", 0, "an integer of at least 1, got 0"),
        ("evaluation.num_episodes", ..., "an integer of at least 1 or null, it is missing"),
        ("evaluation.seed", "0", "an integer of at least 0, got '0'"),
    ],
)
def test_a_configuration_with_a_damaged_entry(run, entry, value, expected, capsys):
    *path, name = entry.split(".")

    def damage(config):
        for part in path:
            config = config[part]
        if value is ...:
            del config[name]
        else:
            config[name] = value

    edit(run, damage)
    before = contents(run)
    message = f"config.json' is damaged: {entry!r} must be {expected}"
    assert message in refusal(["evaluate", str(run)], capsys)
    assert contents(run) == before


def test_a_run_without_a_checkpoint_is_not_evaluated(run, capsys):
    (run / "agent.safetensors").unlink()
    message = refusal(["evaluate", str(run)], capsys)
    assert f"has no checkpoint yet; train it with: metarl resume {run}" in message


def test_a_damaged_agent_is_not_evaluated(run, capsys):
    data = (run / "agent.safetensors").read_bytes()
    (run / "agent.safetensors").write_bytes(data[:-9])
    before = contents(run)
    assert "is not a metarl checkpoint" in refusal(["evaluate", str(run)], capsys)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-tasks", "0"], "num_tasks must be at least 1, got 0"),
        (["--num-episodes", "0"], "num_episodes must be at least 1, got 0"),
        (["--split", "heldout"], "'heldout'; did you mean 'held_out'"),
        (["--seed", "-1"], "seed must be at least 0"),
    ],
)
def test_evaluate_refuses(run, options, message, capsys):
    before = contents(run)
    assert message in refusal(["evaluate", str(run), *options], capsys)
    assert contents(run) == before


def test_compare_refuses_what_was_not_evaluated_alike(run, trained, capsys):
    other = run.with_name("other")
    assert main(["train", "rl2", "bandit-10x3", *SMALL, "--run-dir", str(other)]) == 0
    capsys.readouterr()
    message = refusal(["compare", str(run), str(other)], capsys)
    assert "different families and have no tasks in common: bandit-10x3, bandit-10x5" in message
    message = refusal(["compare", str(run), str(run), "--split", "trian"], capsys)
    assert "unknown split of 'bandit-10x5': 'trian'; did you mean 'train'?" in message
    (run / "evaluation" / "held_out.npz").write_text("{")
    assert "held_out.npz' is not an archive of metarl" in refusal(["compare", str(run)], capsys)
    assert not Path("comparison.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"returns": ...}, "'returns' must be finite numbers, one for each task and episode, got"),
        ({"returns": np.ones(80)}, "one for each task and episode, got float64 of shape (80,)"),
        ({"returns": np.ones((8, 0))}, "'returns' must be finite numbers, one for each task and"),
        ({"returns": np.full((8, 10), "1")}, "one for each task and episode, got <U1 of shape"),
        ({"returns": np.full((8, 10), 1j)}, "'returns' must be finite numbers, one for each task"),
        ({"returns": np.full((8, 10), np.nan)}, "'returns' must be finite numbers, below 1e+100"),
        ({"lengths": ...}, "'lengths' must be integers of at least 1, as many as 'returns', got"),
        ({"lengths": np.ones((8, 9), int)}, "'lengths' must be integers of at least 1, as many"),
        ({"lengths": np.ones((8, 10))}, "as many as 'returns', got float64 of shape (8, 10)"),
        ({"lengths": np.zeros((8, 10), int)}, "'lengths' must be integers of at least 1"),
        ({"successes": np.ones((8, 10))}, "'successes' must be booleans, as many as 'returns'"),
        ({"statistic": "median"}, "'statistic' must be 'iqm' or 'mean', got 'median'"),
        ({"agent": 7}, "'agent' must be a printable string, got 7"),
        ({"seed": None}, "'seed' must be an integer of at least 0, got None"),
        ({"notes": "a note"}, "'notes' must be a list of strings, got 'a note'"),
        ({"episodes_per_adaptation": 3}, "'episodes_per_adaptation' must divide the number"),
        ({"task_family": ...}, "'task_family' must be a printable string, it is missing"),
        ({"tasks/p": np.ones((7, 5))}, "'tasks/p' must have one value for each row of returns"),
        ({"tasks/a": np.array(1.0)}, "'tasks/a' must have one value for each row of returns"),
        ({"tasks/a": np.full(8, 1j)}, "'tasks/a' must have one value for each row of returns"),
        ({"tasks/\n": np.ones(8)}, "must have one value for each row of returns"),
    ],
)
def test_a_damaged_report(run, change, message, capsys):
    path = run / "evaluation" / "held_out.npz"
    edit_archive(path, change)
    shown = refusal(["compare", str(run)], capsys)
    assert "held_out.npz' is not a report: " in shown
    assert message in shown


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_command_of_runs_without_runs(command, capsys):
    assert "got none; for example runs/*" in refusal([command], capsys)


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["list", "--colour"]])
def test_the_parser_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_nobody_who_reads_is_no_error():
    """As in ``metarl list | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "metarl", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
