"""Runs compared on the tasks that all of them were evaluated on: tables and a plot."""

import glob
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import metarl
from metarl import Report, evaluate
from metarl.agents.training.config import Config, describe
from metarl.errors import InvalidValueError
from metarl.evaluation.archive import SUFFIX
from metarl.evaluation.comparison import comparable, comparison_table, on_common_tasks, plot_agents
from metarl.evaluation.tables import as_text
from metarl.experiments.cli.changes import tables_around_change
from metarl.experiments.cli.terminal import say
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.learners import find_learner
from metarl.experiments.runs.loading import load_agent
from metarl.experiments.runs.run import Run, evaluation_name


def compare(
    run_dirs: Sequence[Path], *, split: str, output: Path, trust: str | None = None
) -> list[Report]:
    """Print how runs do on the same tasks, and by how much the first agent is ahead of others.

    Runs that differ by their seeds only are one agent. If the tasks of all runs change, it also
    shows how they fare around the change, next to an oracle if one is among them.
    """
    if not run_dirs:
        raise InvalidValueError("name at least one run to compare, got none; for example runs/*")
    runs = [open_run(run_dir) for run_dir in run_dirs]
    names = [run_dir.name for run_dir in run_dirs]
    if len(set(names)) < len(names):  # for example a run and a published run of the same name
        names = [str(run_dir) for run_dir in run_dirs]
    reports = common_reports(runs, split, trust)
    by_run = [
        replace(report, agent=f"{named(report.agent, report)} ({name})")
        for report, name in zip(reports, names)
    ]
    say(comparison_table(by_run))
    labels = labels_of(runs, [[report] for report in reports])
    agents: dict[str, list[Report]] = {}
    for label, report in zip(labels, reports):
        agents.setdefault(label, []).append(replace(report, agent=label))
    if len(agents) > 1:
        env_steps = {
            label: run.config["total_timesteps"]
            for label, run in zip(labels, runs)
            if "data" not in run.config  # which counts gradient steps
        }
        compared = metarl.compare([each for found in agents.values() for each in found], env_steps)
        say(f"\n{compared}")
    if all(run.config.get("view", {}).get("changing") for run in runs):
        learners = [load_agent(run, trust) for run in runs]
        players = {
            report.agent: (learner, learner.tasks) for report, learner in zip(by_run, learners)
        }
        for table in tables_around_change(players, split, reports[0].seed):
            say(f"\n{as_text(table)}")
    plot_agents(agents, output)
    say(f"\nadaptation curves: {output}")
    return by_run


def named(agent: str, report: Report) -> str:
    """Return what the agent of a report is called: its name, and whether it saw the task."""
    return f"{agent}, oracle" if report.view.get("oracle") else agent


def labels_of(runs: Sequence[Run], reports: Sequence[Sequence[Report]]) -> list[str]:
    """Return what the agents of runs are called: runs of one label differ by their seeds only.

    Args:
        runs: The runs.
        reports: The reports of each, one for each split.
    """
    names = [named(run.config["agent"], found[0]) for run, found in zip(runs, reports)]
    settings = [_settings_of(run, found) for run, found in zip(runs, reports)]
    labels = []
    for run, name, own in zip(runs, names, settings):
        alike = [other for other, called in zip(settings, names) if called == name]
        differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        values = [_in_words(key, own[key]) for key in differing]
        same = [other for other, found in zip(runs, settings) if found == own]
        if sum(other.config["seed"] == run.config["seed"] for other in same) > 1:
            values.append(f"in {run.directory}")
        labels.append(" ".join([name, *values]))
    return labels


def _in_words(name: str, value: Any) -> str:
    if name == "total_timesteps":
        return f"{value:,} steps"
    return f"{name}={json.dumps(value, separators=(',', ':'))}"


def _settings_of(run: Run, reports: Sequence[Report]) -> dict[str, Any]:
    """Return all that makes a run's agent, but its seed, and how it is evaluated."""
    agent_class = find_learner(run.config["agent"])
    values = {**_defaults(agent_class.config_class), **run.config["hyperparameters"]}
    policy = {
        **_defaults(agent_class.policy_config_class),
        **(values.pop("policy_kwargs", None) or {}),
    }
    values |= {f"policy_kwargs.{name}": value for name, value in policy.items()}
    values |= {name: run.config.get(name) for name in ("tasks", "total_timesteps", "data", "start")}
    view = run.config.get("view", {})
    options = ("num_train_tasks", "train_split", "train_tasks_seed", "changing")
    values |= {name: view.get(name) for name in options}
    for report in reports:
        of = f" of {report.split}" if len(reports) > 1 else ""
        values[f"num_episodes{of}"] = report.num_episodes
        values[f"episodes_per_adaptation{of}"] = report.episodes_per_adaptation
    plain: dict[str, Any] = json.loads(json.dumps(values))  # tuples are lists, as in config.json
    return plain


def _defaults(config_class: type[Config] | None) -> dict[str, Any]:
    fields = [] if config_class is None else describe(config_class)
    return {field.name: field.default for field in fields}


def common_reports(runs: Sequence[Run], split: str, trust: str | None = None) -> list[Report]:
    """Return a report of each run, all on the same tasks.

    The evaluations that runs have are used if they, or as many tasks of each as the one with the
    fewest has, are of the same tasks. If not, all runs are evaluated on that many tasks, and these
    evaluations are kept, too.

    Raises:
        ValueError: If the runs are of different families.
    """
    families = {run.config["tasks"] for run in runs}
    if len(families) > 1:
        raise InvalidValueError(
            f"the runs are of different families and have no tasks in common: "
            f"{', '.join(sorted(families))}"
        )
    reports = [Report.load(path) for path in _evaluations(runs, f"{glob.escape(split)}{SUFFIX}")]
    if len(reports) == len(runs) and comparable(cut := on_common_tasks(reports)):
        reports = cut
    else:
        num_tasks = min(run.config["evaluation"]["num_tasks"] for run in runs)
        seed = runs[0].config["evaluation"]["seed"]
        reports = [_evaluated(run, split, num_tasks, seed, trust) for run in runs]
    return reports


def _evaluations(runs: Sequence[Run], pattern: str) -> list[Path]:
    """Return the first evaluation with a matching name of each run that has one."""
    found = [sorted(run.evaluation.glob(pattern)) for run in runs]
    return [paths[0] for paths in found if paths]


def _evaluated(run: Run, split: str, num_tasks: int, seed: int, trust: str | None) -> Report:
    """Return an existing evaluation of the run, or make it."""
    for path in _evaluations([run], f"{glob.escape(split)}-{num_tasks}x*-seed{seed}{SUFFIX}"):
        return Report.load(path)
    say(f"evaluating {run.directory} on {num_tasks} tasks of {split}")
    learner = load_agent(run, trust)
    num_episodes = run.config["evaluation"]["num_episodes"]
    report = evaluate(
        learner,
        learner.tasks,
        split=split,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        seed=seed,
    )
    run.check_there()
    report.save(run.evaluation, evaluation_name(report))
    return report
