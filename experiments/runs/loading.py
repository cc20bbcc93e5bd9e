"""The agents of runs: built from the configuration, restored from a saved file."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metarl import TaskDistribution, agents, envs
from metarl.agents import AGENTS, Learner, reference
from metarl.agents.common.teacher import Teacher, check_teacher
from metarl.agents.training.checkpoint import load_checkpoint
from metarl.agents.training.ranks import current_ranks
from metarl.data import Histories
from metarl.entries import COUNT, STRING, check_entries, optional
from metarl.errors import InvalidValueError, check_names, found_in
from metarl.experiments.cli.overrides import parse_overrides
from metarl.experiments.cli.terminal import say
from metarl.experiments.cli.trust import check_trusted, remember
from metarl.experiments.runs.learners import find_learner
from metarl.experiments.runs.run import Run
from metarl.files import atomic_write
from metarl.vector.workers import with_workers
from metarl.views import VIEW


def build_agent(run: Run, trust: str | None = None) -> Learner:
    """Return the untrained agent of a run's configuration, and set its number of threads.

    Args:
        run: The run.
        trust: The module of the run's family or agent, where it may be imported.

    Raises:
        ValueError: If one of these is not trusted, or the configuration says something wrong.
    """
    for what in ("tasks", "agent"):
        check_trusted(run.config[what], run.directory, trust)
        remember(run.config[what])
    with found_in(repr(str(run.directory / "config.json"))):
        return agent_of(run.config)


def agent_of(config: Mapping[str, Any]) -> Learner:
    """Return the untrained agent of a configuration, whose code is trusted; set the threads.

    Raises:
        ValueError: If the configuration is invalid.
    """
    torch.set_num_threads(config["threads"])  # other thread counts round differently
    agent_class = find_learner(config["agent"])
    check_divisible(config["agent"], current_ranks().size)
    family = in_workers(family_of(config), config.get("num_workers", 0))
    check_names(config["hyperparameters"], agent_class.hyperparameter_names(), "hyperparameter")
    return agent_class(
        family,
        **config["hyperparameters"],
        seed=config["seed"],
        device=config["device"],
    )


def family_of(config: Mapping[str, Any]) -> TaskDistribution:
    """Return the family that a configuration names, in the view that it asks for."""
    return envs.make(config["tasks"], **config.get("view", {}))


def data_entry(folder: str, histories: Histories) -> dict[str, str]:
    """Return what a configuration says of the histories that a learner is trained on."""
    index = json.dumps(histories.info, sort_keys=True)
    return {"folder": folder, "index_sha256": hashlib.sha256(index.encode()).hexdigest()}


def histories_of(config: Mapping[str, Any]) -> Histories:
    """Return the histories that a configuration names.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If they are damaged, or others than those that training began with.
    """
    folder = config["data"]["folder"]
    histories = Histories(folder)
    if data_entry(folder, histories) != config["data"]:
        raise InvalidValueError(
            f"{folder!r} holds other histories than the training began with: their index.json "
            "differs; put those back, or train a new run"
        )
    return histories


def teacher_entry(path: Path) -> dict[str, Any]:
    """Return what a configuration says of the saved agent that another learns from.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or has not been trained.
    """
    _, state = load_checkpoint(path)
    with found_in(repr(str(path))):
        check_entries(state, {"num_timesteps": COUNT})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"agent": str(path), "sha256": digest, "env_steps": state["num_timesteps"]}


def reference_teacher(name: str, student: Learner) -> Teacher:
    """Return the reference of a student's family that it is to learn from.

    Raises:
        ValueError: If it cannot teach.
    """
    teacher, _ = reference(name, student.tasks)
    if not isinstance(teacher, Teacher):
        raise InvalidValueError(
            f"{name!r} cannot teach: it shows no action distributions for a given task; pass a run "
            "of an oracle"
        )
    return teacher


def load_teacher(path: Path, student: Learner) -> Learner:
    """Return the saved agent that a student is to learn from.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or cannot teach this student.
    """
    _, state = load_checkpoint(path)
    with found_in(repr(str(path))):
        check_entries(state, {"tasks": STRING, "view": optional(VIEW)})
        check_teacher(student.tasks, state["tasks"], state.get("view", {}))
    return agents.load(path, student.tasks.oracle(), device=student.device)


def give_teacher(run: Run, student: Learner) -> None:
    """Give a student the teacher that its run names, if any. The run keeps a copy of it.

    Raises:
        FileNotFoundError: If there is neither the copy nor what it is a copy of.
        ValueError: If it is another teacher than the training began with.
    """
    if "teacher" not in run.config:
        return
    expected = run.config["teacher"]
    if "sha256" not in expected:
        student.set_teacher(reference_teacher(expected["agent"], student))
        return
    if not run.teacher.exists():  # the run has just begun
        atomic_write(run.teacher, Path(expected["agent"]).read_bytes())
    if teacher_entry(run.teacher)["sha256"] != expected["sha256"]:
        raise InvalidValueError(
            f"{str(run.teacher)!r} is another teacher than the training began with; put a copy of "
            f"{expected['agent']!r} as it was then in its place, or train a new run"
        )
    student.set_teacher(load_teacher(run.teacher, student))


def check_divisible(agent: str, processes: int) -> None:
    """Raise unless so many processes can train such an agent together."""
    if processes > 1 and not find_learner(agent).divisible:
        able = ", ".join(name for name, kind in AGENTS.items() if kind.divisible)
        raise InvalidValueError(
            f"{agent} trains in one process, got {processes}; these can use several: {able}"
        )


def in_workers(family: TaskDistribution, num_workers: int) -> TaskDistribution:
    """Return a family whose environments are stepped by worker processes; 0 means in this one."""
    return with_workers(family, num_workers) if num_workers else family


def load_agent(run: Run, trust: str | None = None, overrides: Sequence[str] = ()) -> Learner:
    """Return the trained agent of a run, or its newest checkpoint while it is incomplete.

    Args:
        run: The run.
        trust: As of :func:`build_agent`.
        overrides: ``name=value`` of hyperparameters of acting that shall not be as in training.

    Raises:
        FileNotFoundError: If it has neither.
        ValueError: If it does not fit the run's configuration, its code is not trusted, or an
            override counts in training only.
    """
    path = run.agent if run.agent.exists() else run.checkpoint
    if not path.exists():
        raise FileNotFoundError(
            f"{str(run.directory)!r} has no checkpoint yet; train it with: {run.resume_command}"
        )
    learner = build_agent(run, trust)
    restore(run, learner, path)
    if not overrides:
        return learner
    values = parse_overrides(type(learner), overrides)
    check_evaluation_options(learner, values)
    settings = {**learner.hyperparameters, **values}
    return type(learner).load(path, learner.tasks, device=learner.device, **settings)


def check_evaluation_options(learner: Learner, names: Iterable[str]) -> None:
    """Raise unless the hyperparameters of these names change how a trained agent acts."""
    options = learner.evaluation_options
    for name in names:
        if name not in options:
            able = f"only {', '.join(options)} would" if options else "no hyperparameter would"
            raise InvalidValueError(
                f"{name} does not change how this trained {learner.name} acts, {able}; "
                "leave it out, or train with it"
            )


def restore(run: Run, learner: Learner, path: Path) -> None:
    """Take over a saved agent that is of this run; hyperparameters may have been edited since."""
    differs = learner.restore(path)
    for name in differs.keys() & {"seed", "tasks", "view"}:
        saved, own = differs[name]
        raise InvalidValueError(
            f"{str(path)!r} was trained with {name} {saved!r}, but "
            f"{str(run.directory / 'config.json')!r} has {own!r}; restore the original value"
        )
    if differs:
        edits = [f"{name}={own!r} (was {saved!r})" for name, (saved, own) in differs.items()]
        say(f"note: config.json differs from {path.name}: {', '.join(edits)}", sys.stderr)
