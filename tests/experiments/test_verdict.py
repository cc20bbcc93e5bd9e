"""What a training says at its end: whether it adapts, the gap to an oracle, what to try."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import SMALL, small_evaluations

from metarl import Report, Tasks, compare
from metarl.experiments.cli.main import main
from metarl.experiments.cli.verdict import describe_gap, verdict


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def report_of(gains, agent="RL2", **options):
    """A report of two episodes in each of some tasks; the second is better by so much."""
    first = np.linspace(0.0, 1.0, len(gains))
    returns = np.stack([first, first + gains], axis=1)
    tasks = Tasks("risk", {"p": np.arange(len(gains))})
    return Report(agent, "risk", "held_out", returns, np.ones((len(gains), 2)), tasks, **options)


RUN = {"agent": "rl2", "tasks": "risk", "view": {"num_train_tasks": 4}}


def test_the_verdict_of_a_training():
    shown = verdict(report_of(np.linspace(0.9, 1.1, 40)), RUN)
    assert shown.startswith("adaptation: shown; from episode 1 to 2 the return changes by 1 (0.9")
    for gains in (np.linspace(-1.0, 1.0, 40), np.linspace(-1.1, -0.9, 40), np.array([1.0, 1.0])):
        line, advice = verdict(report_of(gains), RUN).splitlines()
        assert line.startswith("adaptation: not shown; from episode 1 to 2 the return changes by ")
        assert ("without an interval" in line) == (len(gains) == 2)
        assert advice.endswith("metarl train multi-task risk --num-train-tasks 4 --oracle")
    for report, run in (
        (report_of(np.zeros(40), view={"oracle": True}), RUN),
        (report_of(np.zeros(40)), {**RUN, "agent": "multi-task"}),
    ):
        assert "none is expected" in verdict(report, run)
    with_oracle = {**RUN, "with_oracle": True}
    assert "metarl train multi-task" not in verdict(report_of(np.zeros(40)), with_oracle)


@pytest.mark.parametrize(
    ("ahead", "agent", "advice"),
    [
        (1.0, "rl2", "--teacher runs/oracle --set teacher_share=0.5"),
        (1.0, "maml", "train longer"),
        (0.0, "rl2", "no gap to close"),
        (-1.0, "rl2", "the agent is ahead"),
    ],
)
def test_the_gap_to_an_oracle(ahead, agent, advice):
    gains = np.linspace(-0.1, 0.1, 40)
    difference = compare([report_of(gains), report_of(gains + ahead, "oracle")]).differences[0]
    text = describe_gap(difference, {"agent": agent}, SimpleNamespace(directory="runs/oracle"))
    expected = f"oracle, trained as long: {0.5 + ahead:.3g} in episode 2; the agent's return minus "
    assert text.startswith(expected)
    assert advice in text


def test_what_the_agent_has_is_not_advised_again():
    gains = np.linspace(-0.1, 0.1, 40)
    difference = compare([report_of(gains), report_of(gains + 1.0, "oracle")]).differences[0]
    oracle = SimpleNamespace(directory="runs/oracle")
    for coefficient in (0.0, 1.0):
        config = {"agent": "rl2", "hyperparameters": {"task_prediction_coef": coefficient}}
        advised = "task_prediction_coef" in describe_gap(difference, config, oracle)
        assert advised == (coefficient == 0.0)


def test_an_oracle_is_trained_beside_the_agent_which_it_does_not_change(capsys):
    command = ["train", "rl2", "bandit-10x2", *SMALL]
    with small_evaluations():
        assert main([*command, "--run-dir", "alone"]) == 0
        assert main([*command, "--run-dir", "runs/agent", "--with-oracle"]) == 0
        shown = capsys.readouterr().out
        oracle = Path("runs/multi-task-bandit-10x2-oracle-seed0")
        configs = [
            json.loads((path / "config.json").read_text()) for path in (oracle, Path("alone"))
        ]
        assert configs[0]["view"] == {"oracle": True}
        assert configs[0]["total_timesteps"] == configs[1]["total_timesteps"]
        assert "oracle, trained as long: " in shown
        agents = [Path(run, "agent.safetensors").read_bytes() for run in ("alone", "runs/agent")]
        assert agents[0] == agents[1]

        # An oracle that is complete serves other agents of the folder; another length does not.
        before = (oracle / "agent.safetensors").stat()
        assert main([*command, "--run-dir", "runs/other", "--with-oracle"]) == 0
        assert (oracle / "agent.safetensors").stat() == before
        longer = [*command, "--total-timesteps", "4000", "--run-dir", "runs/long", "--with-oracle"]
        assert main(longer) == 2
        assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--oracle"], ["--data", "histories"]])
def test_there_is_no_oracle_beside_an_oracle_or_a_learner_from_histories(option, capsys):
    agent = "ad" if "--data" in option else "rl2"
    Path("histories").mkdir()
    assert main(["train", agent, "bandit-10x2", "--with-oracle", *option]) == 2
    assert "--with-oracle cannot be used here" in capsys.readouterr().err
    assert not Path("runs").exists()
