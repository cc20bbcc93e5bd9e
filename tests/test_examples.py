"""The examples of the documentation, run as written."""

import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metarl import evaluate
from metarl.agents import RL2

ROOT = Path(__file__).parents[1]
PAGE = "".join(
    (ROOT / "docs" / page).read_text() for page in ("your_environment.md", "batched_families.md")
)
EXAMPLES = dict(re.findall(r"<!-- example: (\w+\.py) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
TRAIN = """
import metarl
from metarl.agents import RL2
from attributes import tasks
if __name__ == "__main__":
    agent = RL2(tasks, trials_per_iteration=2, trials_per_minibatch=2, seed=0).learn(1)
    print(metarl.__file__, metarl.evaluate(agent, tasks, num_tasks=2, num_episodes=1).returns.shape)
"""


def test_there_is_an_example_of_each_kind():
    assert set(EXAMPLES) == {
        *("attributes.py", "factory.py", "set_task.py", "parts.py", "images.py"),
        *("workers.py", "batch.py", "t_maze.py", "masks.py", "kinds.py"),
    }
    for name, code in EXAMPLES.items():
        lines = [line for line in code.splitlines() if line.strip()]
        longest = {"t_maze.py": 60, "masks.py": 30, "kinds.py": 24}.get(name, 14)
        assert len(lines) <= longest, name  # imports and check included


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_written(name, tmp_path, monkeypatch, capsys):
    if name == "images.py":
        pytest.importorskip("pygame")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = EXAMPLES[name].replace("sleep(0.005)", "sleep(0.0)")
    (tmp_path / name).write_text(code)
    module = name.removesuffix(".py")
    try:
        tasks = importlib.import_module(module).tasks
        with RL2(tasks, trials_per_iteration=2, trials_per_minibatch=2, seed=0) as agent:
            agent.learn(1)
        assert evaluate(agent, tasks, num_tasks=2, num_episodes=1).returns.shape == (2, 1)
        if "__main__" in EXAMPLES[name]:
            runpy.run_path(name, run_name="__main__")
    finally:
        sys.modules.pop(module, None)
    shown = capsys.readouterr().out
    assert ("pass" in shown) == ("check_tasks" in EXAMPLES[name])
    assert "FAIL" not in shown.upper().replace("FAILED 0", "")


@pytest.mark.slow
def test_an_example_runs_on_an_installed_wheel(tmp_path):
    """With the package as a user has it: .ci/wheel installs its dependencies, too."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    # A build leaves files behind: not here, where there may be no repository.
    for package in ("metarl", "envs", "agents", "experiments"):
        shutil.copytree(
            ROOT / package,
            source / package,
            ignore=shutil.ignore_patterns("results", "__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--target", site]
    subprocess.run([*pip, *options, source], check=True)
    (tmp_path / "attributes.py").write_text(EXAMPLES["attributes.py"])
    (tmp_path / "train.py").write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(site) in done.stdout
    assert "(2, 1)" in done.stdout


@pytest.mark.slow
def test_rl2_learns_the_maze():
    names = {"__name__": "t_maze"}
    exec(EXAMPLES["t_maze.py"], names)
    tasks = names["tasks"]
    agent = RL2.from_preset(tasks, seed=0).learn(300_000)
    returns = evaluate(agent, tasks, num_tasks=200, seed=1).returns.mean(axis=0)
    # Straight to the right arm is 0.8, the wrong arm first 0.6. Without a memory no episode is
    # better than the first: 0.7 at best, on average.
    assert returns[0] > 0.6
    assert np.all(returns[1:] > 0.76)
