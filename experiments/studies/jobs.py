"""The jobs of a study: trainings, and evaluations of trained agents. Each writes one record.

A job is done when its record exists, whichever engine wrote it.
"""

import contextlib
import json
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl import Agent, Report, TaskDistribution, envs, evaluate
from metarl.agents import AGENTS, REFERENCES, reference
from metarl.data import record
from metarl.errors import InvalidValueError
from metarl.evaluation.archive import SUFFIX, archive_files, write_archive
from metarl.evaluation.report import versions
from metarl.experiments.cli import commands
from metarl.experiments.cli.overrides import view_arguments
from metarl.experiments.publish import runs as publish
from metarl.experiments.runs.records import load_evaluation, load_training
from metarl.experiments.runs.run import Run, git_commit
from metarl.experiments.studies import find_study
from metarl.experiments.studies.study import EvalSpec, Learner, Recording, Study, Training
from metarl.files import locked
from metarl.views import label

RUNNING_ELSEWHERE = 75
"""The exit status of a process whose job another process is doing (``EX_TEMPFAIL``)."""
DECIMALS = 3
"""The precision of returns in records, whose files are kept in the repository."""


@dataclass(frozen=True)
class Places:
    """Where a study reads and writes.

    Attributes:
        results: Records and trained agents.
        work: Run directories of running trainings, locks and logs.
        pages: Pages and figures.
    """

    results: Path
    work: Path
    pages: Path

    @property
    def trained(self) -> Path:
        """The folder of trained agents, which all studies share."""
        return self.results / "runs"

    def agent(self, training: Training) -> Path:
        """Return the path of a training's agent."""
        return self.trained / f"{training.name}.safetensors"


def places_for(budget: float, results: Path | None) -> Places:
    """Return where a study with that budget reads and writes."""
    work = Path("runs/studies")
    if budget < 1.0:
        work /= f"budget-{budget:g}"
    elif results is None:
        return Places(Path("experiments/results"), work, pages=Path("docs/results"))
    return Places(results or work, work, pages=results or work)


def command_to_continue(study: Study, places: Places) -> str:
    """Return the command that continues a study in its places."""
    options = []
    if study.budget < 1.0:
        options += ["--budget", f"{study.budget:g}"]
    if places != places_for(study.budget, None):
        options += ["--results", str(places.results)]
    return shlex.join([*shlex.split(study.command), *options])


class _Job(ABC):
    """The interface of both kinds of jobs."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The name of the job."""

    @property
    @abstractmethod
    def record(self) -> Path:
        """Its record."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.record.is_file()

    @property
    def leaves(self) -> list[Path]:
        """The files that are kept of it, once it is done."""
        return archive_files(self.record)

    @property
    def file_name(self) -> str:
        """The key as a file name."""
        return self.key.replace("/", "-").replace(" ", "-")


@dataclass(frozen=True)
class TrainingJob(_Job):
    """Trains an agent, and publishes its record."""

    training: Training
    places: Places

    @property
    def key(self) -> str:
        return f"train {self.training.name}"

    @property
    def record(self) -> Path:
        return self.places.trained / f"{self.training.name}{SUFFIX}"

    @property
    def done(self) -> bool:  # not all agents are kept
        return self.record.is_file() and self.places.agent(self.training).is_file()

    @property
    def leaves(self) -> list[Path]:
        return [*super().leaves, self.places.agent(self.training)]

    @property
    def run_directory(self) -> Path:
        return self.places.work / "trainings" / self.training.name

    @property
    def needs(self) -> "list[TrainingJob]":
        training, data = self.training, self.training.data
        others = [training.start, training.teacher, *(data.trainings if data else ())]
        return [TrainingJob(other, self.places) for other in others if isinstance(other, Training)]

    @property
    def env_steps(self) -> int:
        """Env steps of the whole training; gradient steps, if it learns from histories."""
        return self.training.total_timesteps

    def env_steps_done(self) -> int:
        """Return the env steps done so far, from the log."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            rows = Run(self.run_directory, {}).progress()
            return int(float(rows[-1]["time/total_timesteps"])) if rows else 0
        return 0

    def check(self) -> None:
        """Raise if the existing record is of another training."""
        training, config = self.training, load_training(self.record)["config"]
        family = label(config["tasks"], config.get("view", {}))
        own = (training.agent, label(training.family, training.view), training.seed)
        expected = (*own, training.total_timesteps)
        found = (config["agent"], family, config["seed"], config["total_timesteps"])
        if found != expected:
            raise InvalidValueError(
                f"{str(self.record)!r} is of another training: expected (agent, tasks, seed, "
                f"total_timesteps) = {expected}, got {found}; move it away to train again"
            )

    def run(self) -> None:
        """Train or continue training, and publish."""
        training, directory, agent_of = self.training, self.run_directory, self.places.agent
        start, data, taught_by = training.start, training.data, training.teacher
        teacher = agent_of(taught_by) if isinstance(taught_by, Training) else taught_by
        steps = "total_timesteps" if data is None else "total_gradient_steps"
        if not (directory / "config.json").is_file():
            commands.train(
                training.agent,
                training.family,
                view=training.view,
                run_dir=directory,
                data=None if data is None else self._record(data),
                **{steps: training.total_timesteps},  # type: ignore[arg-type]
                seed=training.seed,
                device="cpu",
                overrides=overrides_of(training),
                start=None if start is None else agent_of(start),
                teacher=None if teacher is None else Path(teacher),
                command=command_of(training),
            )
        elif not Run.open(directory).agent.exists():
            commands.resume(directory)
        publish.publish(Run.open(directory), self.record)

    def _record(self, recording: Recording) -> Path:
        """Record the histories of the training, as far as they are missing; return their folder."""
        family = envs.make(self.training.family)

        def actor(what: Any) -> tuple[Agent, bool]:
            """Return an agent, and whether it is an oracle."""
            if isinstance(what, str):
                agent, view = reference(what, family)
            else:
                view = envs.make(what.family, **what.view)
                agent = AGENTS[what.agent].load(self.places.agent(what), view, device="cpu")
            return agent, bool(view.view.get("oracle"))

        acting, oracle = actor(recording.agent)
        return record(
            acting,
            family,
            self.places.work / "histories" / self.training.name,
            num_tasks=recording.num_tasks,
            num_episodes=recording.num_episodes,
            seed=self.training.seed,
            oracle=oracle,
            noise=recording.noise,
            labels=None if recording.labels is None else actor(recording.labels)[0],
        )


def overrides_of(training: Training) -> list[str]:
    """Return the hyperparameters that differ from the preset, as command-line arguments."""
    return [f"{name}={json.dumps(value)}" for name, value in training.hyperparameters.items()]


def command_of(training: Training) -> str:
    """Return what to type to repeat a training."""
    data, view = training.data, view_arguments(training.view)
    length = ["--total-timesteps"] if data is None else ["--data", "data", "--total-gradient-steps"]
    parts = ["metarl", "train", training.agent, training.family, *view]
    parts += ["--seed", str(training.seed), *length, str(training.total_timesteps)]
    for override in overrides_of(training):
        parts += ["--set", override]
    for option, other in (("--start", training.start), ("--teacher", training.teacher)):
        if other is not None:
            parts += [option, other if isinstance(other, str) else f"{other.name}.safetensors"]
    if data is None:
        return shlex.join(parts)
    return f"{_recording_command(training, data)} && {shlex.join(parts)}"


def _recording_command(training: Training, recording: Recording) -> str:
    """Return what to type to record the histories that a training learns from."""

    def named(what: Any) -> str:
        return what if isinstance(what, str) else str(what.name)

    parts = ["metarl", "record", named(recording.agent), training.family, "--output", "data"]
    parts += ["--seed", str(training.seed), "--num-tasks", str(recording.num_tasks)]
    if recording.num_episodes is not None:
        parts += ["--num-episodes", str(recording.num_episodes)]
    if any(recording.noise):
        first, last = recording.noise
        parts += ["--noise-from", f"{first:g}", "--noise-to", f"{last:g}"]
    if recording.labels is not None:
        parts += ["--labels", named(recording.labels)]
    return shlex.join(parts)


@dataclass(frozen=True)
class EvaluationJob(_Job):
    """Evaluates one learner on the tasks that all learners share, and writes the raw returns."""

    study: Study
    evaluation: EvalSpec
    learner: Learner
    seed: int
    places: Places

    @property
    def key(self) -> str:
        return f"evaluate {self.study.name}/{self.evaluation.name}/{self.learner.slug(self.seed)}"

    @property
    def record(self) -> Path:
        folder = self.places.results / self.study.name / self.evaluation.name
        return folder / f"{self.learner.slug(self.seed)}{SUFFIX}"

    @property
    def needs(self) -> list[TrainingJob]:
        training = self.learner.training(self.seed, self.study)
        return [] if training is None else [TrainingJob(training, self.places)]

    @property
    def num_episodes(self) -> int:
        """The adaptation episodes of each task."""
        return self.learner.episodes or self.evaluation.num_episodes

    def check(self) -> None:
        """Raise if the existing record is of other tasks, or damaged."""
        self.report()

    def report(self) -> Report:
        """Return the report in the record; raise if that is of other tasks, or damaged."""
        record = load_evaluation(self.record)
        report: Report = record["report"]
        training = self.learner.training(self.seed, self.study)
        name = None if training is None else training.name
        if record.get("training") != name:
            raise InvalidValueError(
                f"{str(self.record)!r} is of another agent: expected the training {name!r}, got "
                f"{record.get('training')!r}; move it away to evaluate again"
            )
        evaluation, columns = self.evaluation, report.tasks.columns
        expected = (evaluation.total_tasks, self.num_episodes, evaluation.seed)
        found = (report.num_tasks, report.num_episodes, report.seed)
        if found != expected:
            raise InvalidValueError(
                f"{str(self.record)!r} is of another evaluation: expected (tasks, episodes, seed) "
                f"= {expected}, got {found}; move it away to evaluate again"
            )
        try:
            grid = all(
                np.isclose(columns[parameter], value).any()
                for parameter, values in evaluation.values.items()
                for value in values
            )
            whole = grid and all(select(columns).any() for select in evaluation.groups.values())
        except (LookupError, TypeError, ValueError):
            whole = False
        if not whole:
            raise InvalidValueError(
                f"{str(self.record)!r} is damaged: its tasks must have all values of "
                f"{list(evaluation.values)}, and some must be of each group of "
                f"{list(evaluation.groups)}"
            )
        return report

    def run(self) -> None:
        """Evaluate, and write the record."""
        started = time.perf_counter()
        agent, family = self.agent()
        report = evaluate(
            agent,
            family,
            split=self.evaluation.name,
            given=self.evaluation.tasks(family),
            num_episodes=self.num_episodes,
            episodes_per_adaptation=self.evaluation.episodes_per_adaptation,
            seed=self.evaluation.seed,
        )
        training = self.learner.training(self.seed, self.study)
        header, arrays = replace(
            report,
            agent=self.learner.label,
            statistic=self.evaluation.statistic or report.statistic,
            returns=report.returns.round(DECIMALS),
        ).to_archive()
        record = {
            "command": self.study.command,
            "learner": self.learner.label,
            "seed": self.seed,
            "training": None if training is None else training.name,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
            "git_commit": git_commit(),
            "report": header,
        }
        write_archive(self.record, record, arrays, compact=True)

    def agent(self) -> tuple[Agent, TaskDistribution]:
        """Return the agent, and the view of the evaluation's family that it sees."""
        learner = self.learner
        family = envs.make(self.evaluation.family, oracle=learner.view.get("oracle", False))
        if learner.agent in REFERENCES:
            return reference(learner.agent, family)
        agent_class = AGENTS[learner.agent]
        training = learner.training(self.seed, self.study)
        settings = {**learner.adaptation, "device": "cpu"}
        if training is None:
            return agent_class.from_preset(family, seed=self.seed, **settings), family
        return agent_class.load(self.places.agent(training), family, **settings), family


Job = TrainingJob | EvaluationJob


def jobs_of(study: Study, places: Places) -> list[Job]:
    """Return all jobs of a study, each after those it needs, and none twice."""
    jobs: dict[str, Job] = {}

    def add(job: Job) -> None:
        for other in job.needs:
            add(other)
        jobs.setdefault(job.key, job)

    for seed in study.seeds:  # every comparison with one seed first, then with the next
        for evaluation in study.evaluations:
            for learner in evaluation.learners:
                if seed in seeds_of(learner, study):
                    add(EvaluationJob(study, evaluation, learner, seed, places))
    return list(jobs.values())


def find_job(study: str, budget: float, key: str, places: Places) -> Job:
    """Return the job of a study, named as on the command line, that has a key."""
    found = find_study(study).scaled(budget)
    return next(job for job in jobs_of(found, places) if job.key == key)


def seeds_of(learner: Learner, study: Study) -> Sequence[int]:
    """Return the seeds of a learner; what needs no training needs only one."""
    return study.seeds[:1] if learner.agent in REFERENCES else study.seeds


def perform(job: Job) -> bool:
    """Do a job unless it is done; return False if another process is doing it."""
    torch.set_num_threads(1)
    lock = job.places.work / "locks" / job.file_name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock) as mine:
        if mine and not job.done:
            job.run()
        return mine


def load_reports(
    study: Study, evaluation: EvalSpec, places: Places
) -> dict[Learner, list[tuple[int, Report]]]:
    """Return the existing results of an evaluation: for each learner its seeds and reports.

    Raises:
        ValueError: If a record is damaged, or does not fit the others.
    """
    found: dict[Learner, list[tuple[int, Report]]] = {}
    for learner in evaluation.learners:
        found[learner] = []
        for seed in seeds_of(learner, study):
            job = EvaluationJob(study, evaluation, learner, seed, places)
            if not job.done:
                continue
            report = job.report()
            for _, other in found[learner][:1]:  # seeds are averaged round by round
                ours, theirs = report.episodes_per_adaptation, other.episodes_per_adaptation
                if ours != theirs:
                    raise InvalidValueError(
                        f"{str(job.record)!r} has episodes_per_adaptation {ours}, other seeds of "
                        f"{learner.label!r} have {theirs}; move it away to evaluate again"
                    )
            found[learner].append((seed, report))
    return found
