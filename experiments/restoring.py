"""The agents of runs: built from what the configuration says, restored from what was saved."""

import sys
from pathlib import Path
from typing import Any

import torch

from metarl import TaskDistribution, envs
from metarl.agents import AGENTS, MetaAgent
from metarl.errors import InvalidValueError, check_names, found_in
from metarl.experiments.runs import Run
from metarl.experiments.terminal import say
from metarl.experiments.trust import check_trusted, remember
from metarl.workers import with_workers


def build_agent(run: Run, trust: str | None = None) -> MetaAgent[Any]:
    """Return the untrained agent of a run's configuration, and set its number of threads.

    Raises:
        ValueError: If the run's family is not trusted, or the configuration says something wrong.
    """
    config = run.config
    check_trusted(config["tasks"], run.directory, trust)
    torch.set_num_threads(config["threads"])  # other thread counts round differently
    with found_in(repr(str(run.directory / "config.json"))):
        check_names([config["agent"]], AGENTS, "agent")
        family = in_workers(envs.make(config["tasks"]), config.get("num_workers", 0))
        remember(config["tasks"])
        agent_class = AGENTS[config["agent"]]
        check_names(config["hyperparameters"], agent_class.hyperparameter_names(), "hyperparameter")
        return agent_class(
            family, **config["hyperparameters"], seed=config["seed"], device=config["device"]
        )


def in_workers(family: TaskDistribution, num_workers: int) -> TaskDistribution:
    """Return a family whose environments are stepped in so many processes; 0 is in this one."""
    return with_workers(family, num_workers) if num_workers else family


def load_agent(run: Run, trust: str | None = None) -> MetaAgent[Any]:
    """Return the trained agent of a run, or its newest checkpoint while it is incomplete.

    Raises:
        FileNotFoundError: If it has neither.
        ValueError: If it does not fit the run's configuration, or the family is not trusted.
    """
    path = run.agent if run.agent.exists() else run.checkpoint
    if not path.exists():
        raise FileNotFoundError(
            f"{str(run.directory)!r} has no checkpoint yet; train it with: {run.resume_command}"
        )
    learner = build_agent(run, trust)
    restore(run, learner, path)
    return learner


def restore(run: Run, learner: MetaAgent[Any], path: Path) -> None:
    """Take over a saved agent that is of this run; hyperparameters may have been edited since."""
    differs = learner.restore(path)
    for name in differs.keys() & {"seed", "tasks"}:
        saved, own = differs[name]
        raise InvalidValueError(
            f"{str(path)!r} was trained with {name} {saved!r}, "
            f"{str(run.directory / 'config.json')!r} leads to {own!r}; put back what was trained"
        )
    if differs:
        edits = [f"{name}={own!r} (was {saved!r})" for name, (saved, own) in differs.items()]
        say(f"note: config.json differs from {path.name}: {', '.join(edits)}", sys.stderr)
