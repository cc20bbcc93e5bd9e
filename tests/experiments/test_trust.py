"""A stranger's run: its code does not run before its user says so, and its names steer nothing."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import SMALL, edit, edit_archive, refusal

from metarl import Report
from metarl.agents.presets import find_preset
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main
from metarl.experiments.runs import run as runs

EVIL = "open('executed', 'w').close()\nfrom toys import risk\ntasks = risk()\n"


@pytest.fixture(autouse=True)
def _small_evaluations(monkeypatch):
    monkeypatch.setattr(
        commands, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=4)
    )


@pytest.fixture(scope="module")
def bandits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bandits"))
        assert main(["train", "rl2", "bandit-2x2", *SMALL, "--run-dir", "run"]) == 0
        return Path("run").resolve()


@pytest.fixture
def run(bandits, tmp_path, monkeypatch):
    """A run in the current folder, in a home that trusts nothing yet, and no module loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return Path(shutil.copytree(bandits, "run"))


def become(run, tasks):
    edit(run, lambda config: config.update(tasks=tasks))


@pytest.mark.parametrize("words", [["evaluate"], ["resume"], ["watch", "--output", "film.gif"]])
@pytest.mark.parametrize("there", ["run", "."])
def test_a_strangers_module_is_not_imported(run, words, there, monkeypatch, capsys):
    become(run, "evil:tasks")
    (Path(there) / "evil.py").write_text(EVIL)
    (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    monkeypatch.chdir(there)
    message = refusal([words[0], "." if there == "run" else "run", *words[1:]], capsys)
    if there == "run":
        assert "is in the run directory, from which nothing is imported" in message
    else:
        assert (
            "which you have not named before; if you trust that file, add: --trust evil" in message
        )
    assert not Path("executed").exists()
    assert "evil" not in sys.modules
    assert str(Path.cwd()) not in sys.path


def test_inside_a_run_directory_no_word_helps(run, monkeypatch, capsys):
    become(run, "evil:tasks")
    (run / "evil.py").write_text(EVIL)
    monkeypatch.chdir(run)
    assert "from which nothing is imported" in refusal(["evaluate", ".", "--trust", "evil"], capsys)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "tasks",
    [
        "os:abort",
        "builtins:breakpoint",
        "this:s",
        "metarl.experiments.publish.runs:main",
    ],
)
def test_nothing_of_python_or_metarl_is_called_either(run, tasks, capsys):
    become(run, tasks)
    assert "which you have not named before" in refusal(["evaluate", "run"], capsys)
    assert "this" not in sys.modules


def test_ones_own_family_is_trusted_from_where_it_was_named(run, tmp_path, monkeypatch, capsys):
    Path("evil.py").write_text(EVIL)  # one's own, whatever it is called
    assert main(["train", "rl2", "evil:tasks", *SMALL, "--run-dir", "mine"]) == 0
    assert main(["evaluate", "mine"]) == 0
    capsys.readouterr()
    assert (tmp_path / "home" / "metarl" / "trusted").read_text() == f"{tmp_path}/evil.py\n"
    # A module of the same name elsewhere is another module.
    shutil.copytree("mine", "elsewhere/mine")
    shutil.copy("evil.py", "elsewhere")
    monkeypatch.delitem(sys.modules, "evil")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    monkeypatch.chdir("elsewhere")
    assert "add: --trust evil" in refusal(["evaluate", "mine"], capsys)
    assert "add: --trust evil" in refusal(["evaluate", "mine", "--trust", "toys"], capsys)
    assert not Path("executed").exists()
    assert main(["evaluate", "mine", "--trust", "evil"]) == 0
    assert Path("executed").exists()
    assert main(["evaluate", "mine"]) == 0  # the word is remembered


def test_without_a_home_the_word_is_needed_each_time(run, tmp_path, capsys):
    (tmp_path / "home").touch()  # no folder can be made there
    Path("evil.py").write_text(EVIL)
    assert main(["train", "rl2", "evil:tasks", *SMALL, "--run-dir", "mine"]) == 0
    capsys.readouterr()
    assert "add: --trust evil" in refusal(["evaluate", "mine"], capsys)
    assert main(["evaluate", "mine", "--trust", "evil"]) == 0


def test_names_do_not_steer_the_terminal(run, capsys):
    path = run / "evaluation" / "held_out.npz"
    edit_archive(path, {"agent": "\x1b[31mRL2"})
    message = refusal(["compare", "run"], capsys)
    assert "'agent' must be a printable string, got '\\x1b[31mRL2'" in message
    edit_archive(path, {"agent": "RL2 [/x] [red]"})
    run.rename("mark\x1bup[old]")
    assert main(["compare", "mark\x1bup[old]"]) == 0
    assert re.search(r"^ RL2 \[/x\] \[red\] \(mark\\x1bup\[old\]\) ", capsys.readouterr().out, re.M)
    assert "mark\\x1bup[none]' is not a run" in refusal(["compare", "mark\x1bup[none]"], capsys)


@pytest.mark.parametrize("split", ["../../escaped", "/tmp/escaped", "a/b"])
def test_a_report_is_saved_where_the_user_says(run, split):
    path = run / "evaluation" / "held_out.npz"
    edit_archive(path, {"split": split})
    with pytest.raises(ValueError, match="'split' must be a name without slashes"):
        Report.load(path)


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_git_runs_no_program_of_the_folder(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "core.fsmonitor=false")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("x = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = runs.git_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\ncat\n")
    evil.chmod(0o755)
    for setting in ("core.fsmonitor", "filter.a=b.clean", "filter.a=b.process"):
        git("config", setting, str(evil))
    (tmp_path / ".git/info/attributes").write_text("* filter=a=b\n")
    for hook in ("post-index-change", "pre-commit", "fsmonitor-watchman"):
        shutil.copy(evil, tmp_path / ".git/hooks" / hook)
    os.utime(tmp_path / "code.py", (1, 1))  # as if changed: its content is compared
    index = (tmp_path / ".git/index").read_bytes()
    assert runs.git_commit() == commit
    (tmp_path / "code.py").write_text("x = 2\n")
    assert runs.git_commit() == f"{commit}+"
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / ".git/index").read_bytes() == index
    subprocess.run(["git", "status"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "ran").exists()  # what is checked here is live


@needs_git
def test_a_folder_without_commits_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.git_commit() is None
    subprocess.run(["git", "init", "-q"], check=True, capture_output=True)
    assert runs.git_commit() is None
