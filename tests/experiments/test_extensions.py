"""A package outside the library adds to each of its parts, and is used from the command line."""

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from command_line import refusal, small_evaluations

from metarl import Report
from metarl.agents.common.memory.registry import MEMORIES
from metarl.experiments.cli.main import main


def forgotten():
    """Remove the package from the imported modules; return what was removed."""
    names = [name for name in sys.modules if name.partition(".")[0] == "extensions"]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(autouse=True)
def _imported_by_each_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imported = forgotten()
    with patch.dict(MEMORIES):
        yield
    forgotten()
    sys.modules.update(imported)


def run(*words):
    with small_evaluations():
        assert main([str(word) for word in words]) == 0


def sets(**values):
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def evaluated(folder, num_tasks):
    run("evaluate", folder, "--num-tasks", num_tasks)
    (path,) = Path(folder, "evaluation").glob(f"held_out-{num_tasks}x*.npz")
    return Report.load(path).returns


def test_a_memory_and_a_family():
    score = {}
    for decay in (0.9, 0.0):
        memory = f'{{"memory": "traces", "memory_kwargs": {{"decay": {decay}}}, "hidden_size": 16}}'
        options = sets(
            trials_per_iteration=64,
            trials_per_minibatch=16,
            n_epochs=3,
            learning_rate=0.02,
            policy_kwargs=memory,
        )
        family, steps = "extensions.family:tasks", 64 * 8 * 20
        folder = f"decay {decay}"
        run("train", "rl2", family, *options, "--total-timesteps", steps, "--run-dir", folder)
        score[decay] = evaluated(folder, 1000).mean()
    # All seven signs are worth 0.91 and the last alone 0.69. A decay of 0 leaves no memory but the
    # last action, by which a policy can carry one bit from step to step: long trainings reach 0.77.
    assert score[0.9] > 0.81
    assert score[0.0] < 0.78


def test_an_online_learner():
    options = sets(learning_rate=0.03, trials_per_minibatch=16, gamma=0.0)
    words = ["train", "extensions.online:Reactive", "bandit-10x2", *options]
    run(*words, "--total-timesteps", 64 * 10 * 20, "--run-dir", "run")
    # Random play earns 0.5; the best reaction to the last pull, win-stay lose-shift, 0.6.
    assert evaluated("run", 1000)[:, 1:].mean() > 0.56


def test_an_offline_learner_and_a_metric(capsys):
    run("record", "thompson-sampling", "bandit-20x3", "--output", "data", "--num-tasks", 500)
    words = ["train", "extensions.offline:Distillation", "bandit-20x3", "--data", "data"]
    words += [*sets(num_episodes=20), "--total-gradient-steps", 200]
    run(*words, "--run-dir", "run")
    shown = capsys.readouterr().out
    assert "500 histories, 10,000 episodes, 10,000 steps; recorded in" in shown
    assert "trained for 200 gradient steps in" in shown
    returns = evaluated("run", 500)
    # Random play earns 0.5 in all episodes, and so does a policy that has learned nothing;
    # Thompson sampling earns 0.68 in the last five.
    assert returns[:, 0].mean() == pytest.approx(0.5, abs=0.05)
    assert returns[:, -5:].mean() > 0.6
    capsys.readouterr()
    run("evaluate", "run", "--num-tasks", 7, "--metric", "extensions.metric:regret")
    report = Report.load(Path("run/evaluation/held_out-7x20-seed1.npz"))
    regret = report.tasks.columns["p"].max(1).mean() - report.returns.mean(0)
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "regret" in line]
    rows = lines[lines.index(head) + 1 :]
    shown = [row.split() for row in rows if row.split()[:1] in (["1"], ["20"])]
    for row, episode in zip(shown, (0, 19)):
        assert any(np.isclose(float(cell), regret[episode], atol=0.006) for cell in numbers(row))


def numbers(cells):
    return [cell for cell in cells if cell.lstrip("-").replace(".", "").isdigit()]


def test_what_is_unknown_is_one_sentence(capsys):
    words = ["train", "rl2", "bandit-10x2", "--set", 'policy_kwargs={"memory": "traces"}']
    assert "unknown memory 'traces'" in refusal(words, capsys)  # its module is not imported
