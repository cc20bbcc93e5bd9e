"""Runs the command line in children that are killed at a named moment.

Called by a test with a JSON list of scenarios on standard input. A scenario is a list of steps
``[arguments, moment]``; each step is a forked child, so packages are imported once for all.
Prints for each scenario the list of [exit code, what it wrote to standard error].
"""

import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import tempfile
import types
from dataclasses import replace

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metarl import Report
from metarl.agents import MAML, RL2, Learner, OnlineLearner
from metarl.envs import navigation_2d
from metarl.experiments.cli import commands
from metarl.experiments.cli import main as cli
from metarl.experiments.runs import logs
from metarl.experiments.runs import training as learning

plane = navigation_2d(horizon=10)


def make_small(put=setattr):
    """Evaluations of a few tasks, empty plots, and a checkpoint before every third iteration."""
    torch.set_num_threads(1)
    find = commands.find_preset

    def find_small(agent, family):
        few = {"num_eval_tasks": 8} | ({"num_eval_episodes": 4} if agent == "maml" else {})
        return replace(find(agent, family), **few)

    put(commands, "find_preset", find_small)
    put(learning, "time", types.SimpleNamespace(monotonic=itertools.count().__next__))
    put(learning, "CHECKPOINT_SECONDS", 3)
    put(commands, "plot_reports", lambda reports, path: path.write_bytes(b""))
    put(Report, "plot", lambda self: empty_figure())


def empty_figure():
    figure = Figure(figsize=(0.1, 0.1))
    FigureCanvasAgg(figure)
    return figure


def warm_up():
    """Train once, for children to inherit what is imported or tabulated where it is needed."""
    train = ["train", "rl2", "bandit-10x5", "--total-timesteps", "1"]
    train += ["--set", "trials_per_iteration=2", "--set", "trials_per_minibatch=2"]
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        assert cli.main([*train, "--run-dir", f"{folder}/run"]) == 0


def at(number, owner, name, act, after=False):
    """Do something at a call of a function, the first being number 1."""
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        due = next(calls) == number
        if due and not after:
            act(*args, **kwargs)
        result = original(*args, **kwargs)
        if due and after:
            act(*args, **kwargs)
        return result

    setattr(owner, name, wrapper)


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)


def cut_row(log, *_, **__):
    with log._path.open("a") as file:
        file.write("1.0,0.5")
    kill()


def kill_if_checkpoint(_, target):
    if str(target).endswith("checkpoint.safetensors"):
        kill()


# Calls of os.replace: config.json, progress.csv and its first row's header come before the
# checkpoints.
MOMENTS = {
    "": [],
    "first step": [(1, OnlineLearner, "_on_step", kill)],
    "before any checkpoint": [(2, Learner, "_iterate", kill)],
    "in a rollout": [(33, OnlineLearner, "_on_step", kill)],
    "in a later rollout": [(55, OnlineLearner, "_on_step", kill)],
    "after the log, before the checkpoint": [(5, Learner, "_iterate", kill, True)],
    "in a row of the log": [(6, logs.ProgressCsv, "write", cut_row)],
    "between the logs": [(6, logs.TensorBoard, "write", kill)],
    "checkpoint written, not in place": [(n, os, "replace", kill_if_checkpoint) for n in range(9)],
    "checkpoint in place": [(n, os, "replace", kill_if_checkpoint, True) for n in range(9)],
    "last iteration": [(9, RL2, "update", kill)],
    "before the evaluation": [(1, commands, "evaluate_with_baselines", kill)],
    "evaluation written": [(1, commands, "_keep", kill, True)],
    "curve written": [(1, commands, "_log_curve", kill, True)],
    "ctrl-c": [(33, OnlineLearner, "_on_step", interrupt)],
    "ctrl-c twice": [(n, OnlineLearner, "_on_step", interrupt) for n in (33, 34)],
    "ctrl-c in the evaluation": [(1, commands, "evaluate_with_baselines", interrupt)],
    # An iteration of MAML is two rounds of 10 steps.
    "maml, first step": [(1, OnlineLearner, "_on_step", kill)],
    "maml, after the inner step of a later iteration": [(75, OnlineLearner, "_on_step", kill)],
    "maml, checkpoint in place": [(n, os, "replace", kill_if_checkpoint, True) for n in range(9)],
    "maml, last iteration": [(6, MAML, "update", kill)],
    "maml, before the evaluation": [(1, commands, "evaluate_with_baselines", kill)],
    "maml, ctrl-c": [(75, OnlineLearner, "_on_step", interrupt)],
}


def run(arguments, moment):
    """Run the command line in a child; return its exit code and standard error."""
    with tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(errors.fileno(), 2)
                for what in MOMENTS[moment]:
                    at(*what)
                code = cli.main(arguments)
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read()


if __name__ == "__main__":
    # A shell's background jobs inherit an ignored SIGINT; a user at a terminal has it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    make_small()
    warm_up()
    scenarios = json.load(sys.stdin)
    json.dump([[run(*step) for step in scenario] for scenario in scenarios], sys.stdout)
