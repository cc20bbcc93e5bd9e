"""The page of runs or of a study: gathers the evaluations and the trainings' configurations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metarl import Agent, TaskDistribution, envs
from metarl.errors import InvalidValueError, RenderingError
from metarl.evaluation.archive import SUFFIX
from metarl.experiments.cli.comparing import common_reports, labels_of
from metarl.experiments.cli.terminal import say
from metarl.experiments.cli.trust import check_trusted
from metarl.experiments.publish.runs import open_run
from metarl.experiments.reports.charts import Result
from metarl.experiments.reports.page import Page, Picture, write_page
from metarl.experiments.reports.video import last_picture
from metarl.experiments.runs.loading import family_of, load_agent
from metarl.experiments.runs.records import load_training
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import STUDIES, find_study
from metarl.experiments.studies.jobs import EvaluationJob, Places, load_reports, places_for
from metarl.experiments.studies.quantities import with_quantities
from metarl.experiments.studies.study import Study
from metarl.parameters import Parameter
from metarl.splits import Independent


def report(
    names: Sequence[str],
    *,
    splits: Sequence[str],
    output: Path,
    pictures: bool,
    results: Path | None = None,
    trust: str | None,
) -> Path:
    """Write the page of some runs, or of a study, and print its path.

    Args:
        names: Run directories or published runs of one family, or the name of one study.
        splits: The splits that runs are evaluated on.
        output: The page.
        pictures: Whether to show how first and last episodes end, where that can be drawn.
        results: The folder of a study's results; None takes the one it has by default.
        trust: The module of the runs' family, to allow its import.

    Raises:
        ValueError: If nothing is named, a study is named beside something else or has no results
            yet, or the runs are of different families.
    """
    if not names:
        raise InvalidValueError("name at least one run, or a study, got none; for example runs/*")
    study = [name for name in names if name in STUDIES or (":" in name and not Path(name).exists())]
    if study and len(names) > 1:
        raise InvalidValueError(f"{study[0]!r} is a study, which needs its own page: name it alone")
    if study:
        page = study_page(find_study(study[0]), places_for(1.0, results), pictures)
    else:
        page = runs_page([open_run(name) for name in names], splits, pictures, trust)
    write_page(output, page)
    say(f"page: {output}")
    return output


def runs_page(
    runs: Sequence[Run], splits: Sequence[str], pictures: bool = True, trust: str | None = None
) -> Page:
    """Return the page of some runs of one family."""
    runs = list({run.directory.resolve(): run for run in runs}.values())
    splits = list(dict.fromkeys(splits))
    for run in runs:
        for what in ("tasks", "agent"):
            check_trusted(run.config[what], run.directory, trust)
    reports = {split: common_reports(runs, split, trust) for split in splits}
    labels = labels_of(runs, list(zip(*reports.values())))
    results = [
        Result(label, run.config["seed"], report, run.config, _learning(run))
        for found in reports.values()
        for label, run, report in zip(labels, runs, found)
    ]
    families = [family_of(run.config) for run in runs]
    known = any(tasks.overlap(split) for tasks in families for split in splits)
    adapt = "adapt" if len(set(labels)) > 1 else "adapts"
    family = results[0].report.family
    return Page(
        title=f"{family}: how {_enumerated(set(labels))} {adapt}",
        results=results,
        question=f"Return on tasks{'' if known else ' that are new'}, against episodes of "
        "experience in them.",
        pictures=_pictures(runs, labels, splits[0], trust) if pictures else (),
        trained={family: _trained(families[0])},
    )


def _learning(run: Run) -> list[tuple[int, float]]:
    """Return the evaluations in a run's log, by the env steps that the agent had learned from."""
    if not (run.directory / "progress.csv").is_file():  # a published run
        return []
    before, found = 0, []
    for row in run.progress():
        if value := row.get("validation/return_last_episode"):
            found.append((before, float(value)))
        before = int(float(row["time/total_timesteps"]))
    return found


def study_page(study: Study, places: Places, pictures: bool = True) -> Page:
    """Return the page of a study, from the existing records.

    Raises:
        ValueError: If nothing is known yet.
    """
    results: list[Result] = []
    for evaluation in study.evaluations:
        known = evaluation.overlap(envs.make(evaluation.family))
        for learner, found in load_reports(study, evaluation, places).items():
            for seed, report in found:
                if known:
                    report = replace(report, notes=(known, *report.notes))
                results.append(
                    Result(learner.label, seed, report, _config(study, learner, seed, places))
                )
    if not results:
        raise InvalidValueError(
            f"{study.name!r} has no results in {str(places.results / study.name)!r}; those of "
            "metarl's own studies are in its repository only: work in a clone, or run the study "
            f"with: {study.command}"
        )
    study = with_quantities(study, places)
    return Page(
        title=study.name,
        results=results,
        question=study.question,
        answer=study.answer,
        caveats=study.caveats,
        pictures=_study_pictures(study, places) if pictures else (),
        trained={each.family: _trained(envs.make(each.family)) for each in study.evaluations},
    )


def _config(study: Study, learner: Any, seed: int, places: Places) -> dict[str, Any]:
    training = learner.training(seed, study)
    if training is None:
        return {}
    record = places.trained / f"{training.name}{SUFFIX}"
    config: dict[str, Any] = load_training(record)["config"] if record.is_file() else {}
    return config


def _enumerated(names: set[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}" if others else last


def _trained(tasks: TaskDistribution) -> Mapping[str, Parameter]:
    """Return the parameters of a family's tasks, as in training."""
    distribution = tasks.sampler("train")
    return distribution.parameters if isinstance(distribution, Independent) else {}


def _pictures(
    runs: Sequence[Run], labels: Sequence[str], split: str, trust: str | None
) -> list[Picture]:
    """Return a picture of each agent, of those that can be drawn: one run of each label."""
    pictures = []
    for label, run in dict(zip(reversed(labels), reversed(runs))).items():
        agent = load_agent(run, trust)
        pictures += _picture(label, "in a task", agent, agent.tasks, split=split)
    return pictures[::-1]


def _study_pictures(study: Study, places: Places) -> list[Picture]:
    """Return a picture of each evaluation: of the first learner that there is, in a usual task."""
    pictures = []
    for evaluation in study.evaluations:
        for learner, found in load_reports(study, evaluation, places).items():
            if not found:
                continue
            seed, report = found[0]
            training = learner.training(seed, study)
            if training is not None and places.agent(training).is_file():
                agent, family = EvaluationJob(study, evaluation, learner, seed, places).agent()
                usual = np.argsort(report.trial_returns)[report.num_tasks // 2]
                task, num_episodes = evaluation.tasks(family)[usual], report.num_episodes
                where = f"in the task of {evaluation.name} in which its return is the median"
                pictures += _picture(
                    learner.label, where, agent, family, task=task, num_episodes=num_episodes
                )
                break
    return pictures


def _picture(
    label: str, where: str, agent: Agent, tasks: TaskDistribution, **of: Any
) -> list[Picture]:
    """Return a picture of an agent; or print why there is none, and return nothing."""
    try:
        data = last_picture(agent, tasks, **of)
    except (ImportError, RenderingError, ValueError) as error:
        say(f"no picture of {label}: {error}")
        return []
    caption = f"{label}: the end of its first episode (left) and of its last (right) {where}"
    return [Picture(data, caption)]
