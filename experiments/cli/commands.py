"""The commands that train, resume, evaluate and film runs."""

import contextlib
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from stable_baselines3.common.logger import Figure

from metarl import Report, TaskDistribution, check_tasks, envs, evaluate
from metarl.agents import Learner, OfflineLearner, reference
from metarl.agents.training.preset import Preset
from metarl.agents.training.ranks import Ranks, current_ranks
from metarl.data import Histories
from metarl.envs.custom.loading import load_attribute, locate
from metarl.errors import (
    Interrupted,
    InvalidTypeError,
    InvalidValueError,
    RankError,
    StorageError,
    check_at_least,
)
from metarl.evaluation.comparison import comparison_table, plot_reports
from metarl.evaluation.play import check_size
from metarl.evaluation.report import Metric
from metarl.evaluation.tables import as_text
from metarl.experiments.cli.changes import tables_around_change
from metarl.experiments.cli.launch import restarted
from metarl.experiments.cli.overrides import (
    hyperparameters_of,
    parse_overrides,
    view_arguments,
)
from metarl.experiments.cli.terminal import say
from metarl.experiments.cli.trust import remember
from metarl.experiments.cli.verdict import gap_to_oracle, oracle_directory, verdict
from metarl.experiments.publish.index import expected_minutes, in_minutes
from metarl.experiments.publish.runs import open_run
from metarl.experiments.reports.video import record_adaptation
from metarl.experiments.runs.learners import (
    check_data_options,
    check_teacher_options,
    find_learner,
    find_preset,
)
from metarl.experiments.runs.loading import (
    build_agent,
    check_divisible,
    data_entry,
    give_teacher,
    in_workers,
    load_agent,
    load_teacher,
    reference_teacher,
    restore,
    teacher_entry,
)
from metarl.experiments.runs.run import Run, evaluation_name
from metarl.experiments.runs.training import follow, learn, save
from metarl.views import View, slug

EVALUATION_SEED = 1
"""Seed of the held-out tasks that runs are evaluated on. Presets are tuned on those of seed 0."""


def train(
    agent: str,
    tasks: str,
    *,
    view: View = MappingProxyType({}),
    run_dir: Path | None = None,
    total_timesteps: int | None = None,
    data: Path | None = None,
    total_gradient_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overrides: Sequence[str] = (),
    start: Path | None = None,
    teacher: Path | None = None,
    num_workers: int = 0,
    eval_every: int = 0,
    eval_num_tasks: int | None = None,
    eval_num_episodes: int | None = None,
    with_oracle: bool = False,
    command: str = "",
    dry_run: bool = False,
) -> list[Report]:
    """Train an agent on a family, evaluate it on held-out tasks, and store everything in a run.

    Args:
        agent: The agent's name, or ``module:Class`` of your own agent.
        tasks: The family's name, or ``module:attribute`` of your own family.
        view: The options of :func:`metarl.envs.make` (:mod:`metarl.views`).
        run_dir: Where to keep the run; by default ``runs/AGENT-TASKS-seedN``.
        total_timesteps: Env steps of training; None takes the preset's.
        data: The folder of histories that a learner from stored data learns from.
        total_gradient_steps: Such a learner's gradient steps; None takes the preset's.
        seed: The seed of everything.
        device: Where to compute.
        overrides: Hyperparameters other than the preset's, as ``name=value`` in JSON.
        start: A saved agent to start from, instead of random parameters.
        teacher: A run, or a saved agent, of the oracle view, or a reference of the family, whose
            actions are imitated.
        num_workers: How many worker processes step the environments; 0 steps them in this one.
            Results are bit-for-bit the same.
        eval_every: Iterations between two evaluations on validation tasks, for the log; 0 for none.
        eval_num_tasks: How many held-out tasks the final evaluation has; None takes the preset's.
        eval_num_episodes: How many adaptation episodes of each; None takes the preset's.
        with_oracle: Train a multi-task policy that is given the task first, in a run of its own,
            and report how far the agent is from it.
        command: The command line, for the record.
        dry_run: Only print what would be trained.

    Returns:
        The reports of the final evaluation, the agent's first; none of a dry run. Of several
        processes that train together all call this with the same arguments, and the main one
        returns them.

    Raises:
        FileExistsError: If the run directory is not empty.
        TypeError: If a hyperparameter is of the wrong type.
        ValueError: If a name is unknown or a value out of range.
    """
    ranks = current_ranks()
    if not ranks.is_main:
        follow(ranks)
        return []
    agent_class = find_learner(agent)
    check_data_options(agent, data, total_timesteps, total_gradient_steps)
    check_divisible(agent, ranks.size)
    if with_oracle:
        _check_oracle(agent, view, data)
    family = in_workers(envs.make(tasks, **view), num_workers)
    if not dry_run:
        remember(tasks)
        remember(agent)
    option = "total_timesteps" if data is None else "total_gradient_steps"
    total = total_timesteps if data is None else total_gradient_steps
    try:
        preset = find_preset(agent, family)
    except ValueError:
        if total is None and data is None:
            raise
        if total is None:
            raise InvalidValueError(
                f"there is no preset of {agent!r} for {family.name!r}; pass --total-gradient-steps"
            ) from None
        preset = Preset(agent, tasks, total)  # the agent's own defaults
    if total is None:
        total = preset.total_timesteps
    assert total is not None  # presets that are found have one
    check_at_least(1, **{option: total})
    hyperparameters = hyperparameters_of(
        preset.hyperparameters, parse_overrides(agent_class, overrides), teacher is not None
    )
    check_teacher_options(agent, teacher, hyperparameters)
    learner = agent_class(family, **hyperparameters, seed=seed, device=device)
    if start is not None:
        learner.start_from(start)
    taught_by = None
    if teacher is not None and str(teacher) in family.references:
        learner.set_teacher(reference_teacher(str(teacher), learner))
        taught_by = {"agent": str(teacher), "env_steps": 0}
    elif teacher is not None:
        teacher = teacher if teacher.is_file() else open_run(teacher).agent
        learner.set_teacher(load_teacher(teacher, learner))
        taught_by = teacher_entry(teacher)
    histories = None if data is None else Histories(data)
    if histories is not None:
        assert isinstance(learner, OfflineLearner)
        learner.prepare(histories)  # raises if they do not fit
    num_tasks = preset.num_eval_tasks if eval_num_tasks is None else eval_num_tasks
    num_episodes = eval_num_episodes
    if num_episodes is not None:
        check_num_episodes(learner, num_episodes)
    elif (num_episodes := preset.num_eval_episodes) is not None:
        # Overrides can change the episodes per adaptation.
        parallel = learner.episodes_per_adaptation
        num_episodes = parallel * math.ceil(num_episodes / parallel)
    label = agent.replace(":", "-").replace("/", "-")
    directory = run_dir or Path("runs") / f"{label}-{slug(tasks, view)}-seed{seed}"
    if dry_run:
        minutes = expected_minutes(agent, tasks, total)
        of = " with 1 thread, as published runs" if minutes else ", as no such run is published"
        episodes = num_episodes or family.episodes_per_trial
        lines = [f"{learner.name} on {family.label}"]
        lines += [f" {name}={json.dumps(value)}" for name, value in hyperparameters.items()]
        lines += [
            f" other hyperparameters: the defaults, which metarl list {agent} shows",
            f"training: {total:,} {learner.unit}; expected time: {in_minutes(minutes)}{of}",
            f"evaluation: {num_tasks:,} held-out tasks, {episodes:,} episodes each",
            f"run directory: {directory}{', which exists already' if directory.exists() else ''}",
            *(["before it an oracle, as long, in a run beside this one"] if with_oracle else []),
            "a dry run: nothing is trained or written",
        ]
        say("\n".join(lines))
        return []
    if restarted() and (directory / "config.json").is_file():
        begun = Run.open(directory)
        if begun.config.get("command") == command:  # by this command, before a process failed
            return resume(directory)
    run = Run.create(
        directory,
        {
            "agent": agent,
            "tasks": tasks,
            **({"view": dict(view)} if view else {}),
            "seed": seed,
            "device": str(learner.device),
            "threads": torch.get_num_threads(),
            "total_timesteps": total,
            **({} if histories is None else {"data": data_entry(str(data), histories)}),
            "hyperparameters": hyperparameters,
            "evaluation": {
                "num_tasks": num_tasks,
                "num_episodes": num_episodes,
                "seed": EVALUATION_SEED,
            },
            **({} if start is None else {"start": str(start)}),
            **({} if taught_by is None else {"teacher": taught_by}),
            **({"with_oracle": True} if with_oracle else {}),
            **({"num_workers": num_workers} if num_workers else {}),
            **({"eval_every": eval_every} if eval_every else {}),
            **({"processes": ranks.size} if ranks.size > 1 else {}),
            "command": command,
        },
    )
    with run.exclusive():
        give_teacher(run, learner)
        return _train(run, learner)


def _check_oracle(agent: str, view: View, data: Path | None) -> None:
    """Raise unless an oracle can be trained beside an agent, with as many env steps."""
    for wrong, why in (
        (view.get("oracle"), "--oracle makes this agent one itself"),
        (data is not None, f"{agent} counts gradient steps, not env steps"),
        (current_ranks().size > 1, "one process trains it; leave out --processes"),
    ):
        if wrong:
            raise InvalidValueError(f"--with-oracle cannot be used here: {why}")


def resume(run_dir: Path, *, trust: str | None = None) -> list[Report]:
    """Continue a run from its newest checkpoint; it ends as if it had never stopped.

    Args:
        run_dir: The run directory.
        trust: The module of the run's family or agent, where it may be imported; see
            :mod:`metarl.experiments.cli.trust`.

    Raises:
        FileNotFoundError: If there is no such run.
        ValueError: If the run is complete, or damaged, or its family is not trusted, or it was
            trained by another number of processes.
        BlockingIOError: If another process is training it.
    """
    ranks = current_ranks()
    if not ranks.is_main:
        follow(ranks)
        return []
    run = Run.open(run_dir)
    if run.processes != ranks.size:
        raise InvalidValueError(
            f"{str(run_dir)!r} was started with {run.processes} processes; another number changes "
            f"the result, got {ranks.size}: use {run.processes}"
        )
    with run.exclusive():
        run.tidy()
        if run.agent.exists():
            raise InvalidValueError(
                f"{str(run_dir)!r} is complete; evaluate it with: "
                f"metarl evaluate {shlex.quote(str(run_dir))}"
            )
        learner = build_agent(run, trust)
        if run.checkpoint.exists():
            restore(run, learner, run.checkpoint)
        elif "start" in run.config:
            learner.start_from(run.config["start"])
        give_teacher(run, learner)
        return _train(run, learner)


def _train_oracle(run: Run) -> None:
    """Train the oracle beside a run, or continue it; one that is complete is left as it is."""
    directory, config = oracle_directory(run), run.config
    if (directory / "config.json").is_file():
        oracle = Run.open(directory)
        if (found := oracle.config["total_timesteps"]) != config["total_timesteps"]:
            raise InvalidValueError(
                f"the oracle in {str(directory)!r} has {found:,} env steps, not "
                f"{config['total_timesteps']:,}; move it away, then continue with: "
                f"{run.resume_command}"
            )
        if not oracle.agent.exists():
            resume(directory)
        return
    view = {**config.get("view", {}), "oracle": True}
    shared = {name: config[name] for name in ("total_timesteps", "seed", "device")}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in shared.items()]
    command = ["train", "multi-task", config["tasks"], *view_arguments(view), *options]
    train(
        "multi-task",
        config["tasks"],
        view=view,
        run_dir=directory,
        num_workers=config.get("num_workers", 0),
        command=shlex.join(["metarl", *command]),
        **shared,
    )


def _train(run: Run, learner: Learner) -> list[Report]:
    if run.config.get("with_oracle"):
        _train_oracle(run)
    settings = run.config["evaluation"]
    # Fail before the training, not after it.
    check_num_episodes(learner, settings["num_episodes"])
    check_size(settings["num_tasks"], settings["num_episodes"] or learner.tasks.episodes_per_trial)
    for name in learner.tasks.references:
        reference(name, learner.tasks)
    say(f"training {learner.name} on {learner.tasks.label}; run directory: {run.directory}")
    of_the_users = locate(run.config["tasks"]) is not None
    if of_the_users and not learner.tasks.view.get("oracle") and learner.num_timesteps == 0:
        _say_what_is_wrong(learner.tasks)
    try:
        ranks = learn(run, learner)
        say(f"evaluating on {settings['num_tasks']} held-out tasks")
        reports = evaluate_with_baselines(learner, ranks=ranks, **settings)
        try:  # complete the run even if the terminal cannot be written to
            places = _keep(run, reports)
            _log_curve(run, learner, reports[0])
            save(run, learner, run.agent)
            run.tidy()
        finally:
            _show(reports)
        say(f"{places}\n\n{verdict(reports[0], run.config)}")
        if run.config.get("with_oracle"):
            say(gap_to_oracle(run))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; continue with: {run.resume_command}") from None
    except StorageError as error:
        raise StorageError(f"{error}; fix it, then continue with: {run.resume_command}") from None
    except RankError as error:
        if learner.num_timesteps < run.config["total_timesteps"]:
            raise
        raise RankError(f"{error}; continue with: {run.resume_command}") from None
    return reports


def _say_what_is_wrong(tasks: TaskDistribution) -> None:
    """Check a user's own family and print failures; the training continues."""
    check = check_tasks(tasks, num_steps=50, raise_on_failure=False)
    for failure in check.failures:
        say(f"note: {tasks.name} fails a check, {failure.check}: {failure.message}", sys.stderr)
    if not check.passed:
        say("note: metarl.check_tasks(tasks) shows the details", sys.stderr)


def check_num_episodes(learner: Learner, num_episodes: int | None) -> None:
    """Raise unless an evaluation can have that many adaptation episodes; None can be any.

    Raises:
        ValueError: If the agent adapts after K episodes and it is not a multiple of K.
    """
    parallel = learner.episodes_per_adaptation
    if num_episodes is not None and num_episodes % parallel:
        raise InvalidValueError(
            f"{learner.name} adapts after every {parallel} episodes: num_episodes must be a "
            f"multiple of {parallel}, got {num_episodes}"
        )


def evaluate_with_baselines(
    learner: Learner, ranks: Ranks | None = None, **settings: Any
) -> list[Report]:
    """Evaluate an agent, and its family's baselines on the same tasks."""
    reports = [evaluate(learner, learner.tasks, ranks=ranks, **settings)]
    settings["num_episodes"] = reports[0].num_episodes
    for name in learner.tasks.references:
        other, view = reference(name, learner.tasks)
        reports.append(evaluate(other, view, **settings))
    return reports


def _show(reports: Sequence[Report], metrics: Mapping[str, Metric] | None = None) -> None:
    """Print tables."""
    say(f"\n{reports[0].describe(metrics)}")
    if len(reports) > 1:
        say(f"\n{comparison_table(reports)}")


def _keep(run: Run, reports: Sequence[Report], name: str | None = None) -> str:
    """Write the agent's raw returns and the plot of all curves; return a text with their paths."""
    run.check_there()
    path = reports[0].save(run.evaluation, name)
    picture = path.with_suffix(".png")
    plot_reports(reports, picture)
    return f"\nraw returns: {path}\nadaptation curve: {picture}"


def _log_curve(run: Run, learner: Learner, report: Report) -> None:
    """Put the adaptation curve into TensorBoard: against episodes of experience, and as a plot."""
    with contextlib.closing(run.curve_logger()) as logger:
        curve = report.curve(50)
        for before, value in zip(curve.experience, curve.value):
            logger.record("held_out/return_by_experience", float(value))
            logger.dump(before)
        logger.record("held_out/curve", Figure(report.plot(), close=False))
        logger.dump(learner.num_timesteps)


def evaluate_run(
    run_dir: Path,
    *,
    split: str,
    num_tasks: int | None,
    num_episodes: int | None,
    seed: int | None,
    overrides: Sequence[str] = (),
    metrics: Sequence[str] = (),
    trust: str | None = None,
) -> list[Report]:
    """Evaluate a run's agent on a split, print the tables, keep the raw returns in the run."""
    columns = dict(map(_metric, metrics))
    run = open_run(run_dir)
    learner = load_agent(run, trust, overrides)
    default = run.config["evaluation"]
    wanted = {"num_tasks": num_tasks, "num_episodes": num_episodes, "seed": seed}
    settings: dict[str, Any] = {n: default[n] if v is None else v for n, v in wanted.items()}
    reports = evaluate_with_baselines(learner, split=split, **settings)
    # Another evaluation of the same split must not replace the run's own.
    name = None
    if settings != default or overrides:
        name = evaluation_name(reports[0], overrides)
    if overrides:
        notes = (*reports[0].notes, f"evaluated with {', '.join(overrides)}")
        reports[0] = replace(reports[0], notes=notes)
    try:
        places = _keep(run, reports, name)
    except StorageError as error:
        raise StorageError(f"{error}; the evaluation is shown above but not saved") from None
    finally:
        _show(reports, columns)
        if learner.tasks.still is not None:
            players = {learner.name: (learner, learner.tasks)}
            for table in tables_around_change(players, split, settings["seed"]):
                say(f"\n{as_text(table)}")
    say(places)
    return reports


def _metric(name: str) -> tuple[str, Metric]:
    """Import a column of the report's table, a function of the report, and name it."""
    metric = load_attribute(name)
    if not callable(metric):
        raise InvalidTypeError(f"{name} must be a function of the report, got {metric!r}")
    return name.partition(":")[2].replace("_", " "), metric


def watch(
    run_dir: Path,
    *,
    split: str,
    output: Path | None,
    num_episodes: int | None,
    seed: int,
    trust: str | None = None,
) -> Path:
    """Film the first and the last adaptation episode of a run's agent in one task."""
    run = open_run(run_dir)
    run.check_there()
    learner = load_agent(run, trust)
    path = record_adaptation(
        learner,
        learner.tasks,
        output or run.evaluation / f"{split}-seed{seed}.gif",
        split=split,
        num_episodes=num_episodes,
        seed=seed,
    )
    say(f"video: {path}")
    return path
