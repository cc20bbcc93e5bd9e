"""Several runs side by side: one table, one plot, on tasks that all of them were judged on."""

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl import Report, evaluate
from metarl.errors import InvalidValueError
from metarl.evaluation.comparison import comparable, comparison_table, plot_reports
from metarl.experiments.cli.terminal import say
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.loading import load_agent
from metarl.experiments.runs.run import Run, evaluation_name


def compare(
    run_dirs: Sequence[Path], *, split: str, output: Path, trust: str | None = None
) -> list[Report]:
    """Print how several runs do on the same tasks as one table, and plot it."""
    if not run_dirs:
        raise InvalidValueError("name at least one run to compare, got none; for example runs/*")
    runs = [open_run(run_dir) for run_dir in run_dirs]
    names = [run_dir.name for run_dir in run_dirs]
    if len(set(names)) < len(names):  # as a run and a published run of the same name
        names = [str(run_dir) for run_dir in run_dirs]
    reports = [
        replace(report, agent=f"{named(report.agent, report)} ({name})")
        for report, name in zip(common_reports(runs, split, trust), names)
    ]
    say(comparison_table(reports))
    plot_reports(reports, output)
    say(f"\nadaptation curves: {output}")
    return reports


def named(agent: str, report: Report) -> str:
    """Return what the agent of a report is called: its name, and whether it saw the task."""
    return f"{agent}, oracle" if report.view.get("oracle") else agent


def common_reports(runs: Sequence[Run], split: str, trust: str | None = None) -> list[Report]:
    """Return a report of each run, all on the same tasks.

    The evaluations that runs have are used if they are of the same tasks. If not, all runs are
    evaluated on as many tasks as the one with the fewest, and these evaluations are kept, too.

    Raises:
        ValueError: If the runs are of different families.
    """
    families = {run.config["tasks"] for run in runs}
    if len(families) > 1:
        raise InvalidValueError(
            f"the runs are of different families and have no tasks in common: "
            f"{', '.join(sorted(families))}"
        )
    reports = [Report.load(path) for path in _evaluations(runs, f"{glob.escape(split)}.json")]
    if len(reports) < len(runs) or not comparable(reports):
        num_tasks = min(run.config["evaluation"]["num_tasks"] for run in runs)
        seed = runs[0].config["evaluation"]["seed"]
        reports = [_evaluated(run, split, num_tasks, seed, trust) for run in runs]
    return reports


def _evaluations(runs: Sequence[Run], pattern: str) -> list[Path]:
    """Return the first evaluation of each run whose name matches, of those that have one."""
    found = [sorted(run.evaluation.glob(pattern)) for run in runs]
    return [paths[0] for paths in found if paths]


def _evaluated(run: Run, split: str, num_tasks: int, seed: int, trust: str | None) -> Report:
    """Return an evaluation that the run has, or make it."""
    for path in _evaluations([run], f"{glob.escape(split)}-{num_tasks}x*-seed{seed}.json"):
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
