"""The engine of studies: it does the missing jobs, each in its own process.

A lock claims a job and a record completes it, so a study can be resumed after a kill at any moment,
and several engines can share one study.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import tyro

from metarl.errors import Interrupted, InvalidValueError, check_at_least, check_at_most
from metarl.evaluation.archive import SUFFIX
from metarl.evaluation.tables import plain_table
from metarl.experiments.cli.terminal import handling, say
from metarl.experiments.runs.records import load_evaluation, load_training, num_steps
from metarl.experiments.studies import find_study
from metarl.experiments.studies.jobs import (
    RUNNING_ELSEWHERE,
    EvaluationJob,
    Job,
    Places,
    TrainingJob,
    command_to_continue,
    find_job,
    jobs_of,
    perform,
    places_for,
)
from metarl.experiments.studies.study import Study
from metarl.files import open_to_write
from metarl.views import slug

NICENESS = 10
LOOK_AGAIN_SECONDS = 15.0
SAY_SECONDS = 60.0

_USUAL_RATE = 10_000.0  # env steps per second of agents without a record
_USUAL_GRADIENT_RATE = 5.0  # gradient steps per second of those that learn from histories
_USUAL_EVALUATION_SECONDS = 60.0


class Handle(Protocol):
    """The interface of a running job, here or on a cluster; see :class:`subprocess.Popen`."""

    returncode: Any

    def poll(self) -> int | None:
        """Return the exit status, or None while the job is under way."""

    def wait(self, timeout: float) -> Any:
        """Wait for the job to end."""

    def terminate(self) -> None:
        """Let the job save what it has learned, and end."""

    def kill(self) -> None:
        """End the job."""


@dataclass
class Process:
    """A running job."""

    job: Job
    process: Handle
    log: Path


@dataclass
class Engine:
    """Runs the missing jobs of a study.

    Attributes:
        study: The study, as ``find_study`` returns it: its processes find it by name.
        places: Where it reads and writes.
        processes: How many jobs run in parallel.
        start: Starts a job, whose output goes to a file; None starts a process of this machine.
    """

    study: Study
    places: Places
    processes: int
    start: Callable[[Job, Path], Handle] | None = None
    _running: list[Process] = field(default_factory=list)
    _failed: dict[str, Path] = field(default_factory=dict)
    _elsewhere: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = jobs_of(self.study, self.places)
        for job in self.jobs:
            if job.record.is_file():
                job.check()

    def missing(self) -> list[Job]:
        """Return the evaluations whose record is not there, after the trainings that they need."""
        needed: set[str] = set()
        for job in reversed(self.jobs):  # jobs come after those they need
            if not job.done and (isinstance(job, EvaluationJob) or job.key in needed):
                needed |= {job.key, *(other.key for other in job.needs)}
        return [job for job in self.jobs if not job.done and job.key in needed]

    def run(self) -> None:
        """Do the missing jobs.

        Raises:
            Interrupted: If the user stops it.
            ValueError: If jobs have failed; the others were done.
        """
        said = 0.0
        command = command_to_continue(self.study, self.places)
        with handling(_interrupt, "SIGTERM", "SIGHUP"):
            try:
                while self._step():
                    if time.monotonic() - said >= SAY_SECONDS:
                        self._say_progress()
                        said = time.monotonic()
                    time.sleep(0.5)
            except KeyboardInterrupt:
                self._stop()
                raise Interrupted(f"interrupted; continue with: {command}") from None
        if self._failed:
            logs = ", ".join(f"{key} ({path})" for key, path in self._failed.items())
            raise InvalidValueError(
                f"{len(self._failed)} jobs failed, and the jobs that need them wait: {logs}; fix "
                f"the errors, then continue with: {command}"
            )

    def _step(self) -> bool:
        """Record finished jobs and start new ones; return whether there is more to do."""
        for running in [each for each in self._running if each.process.poll() is not None]:
            self._running.remove(running)
            status, key = running.process.returncode, running.job.key
            if status == RUNNING_ELSEWHERE:
                self._elsewhere[key] = time.monotonic() + LOOK_AGAIN_SECONDS
            elif status:
                self._failed[key] = running.log
                say(f"failed: {key}; its output: {running.log}", sys.stderr)
            else:
                say(f"done: {key}")
        missing = self.missing()
        blocked = set(self._failed)
        for job in missing:  # jobs come after those they need
            if any(other.key in blocked for other in job.needs):
                blocked.add(job.key)
        for job in self._ready(missing, blocked):
            if len(self._running) >= self.processes:
                break
            self._running.append(self._start(job))
        return bool(self._running) or any(job.key not in blocked for job in missing)

    def _ready(self, missing: Sequence[Job], blocked: set[str]) -> Iterator[Job]:
        under_way = {running.job.key for running in self._running}
        for job in missing:
            if job.key in under_way or job.key in blocked:
                continue
            if self._elsewhere.get(job.key, 0.0) > time.monotonic():
                continue
            if all(other.done for other in job.needs):
                yield job

    def _start(self, job: Job) -> Process:
        log = self.places.work / "logs" / f"{job.file_name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Process(job, (self.start or self._start_here)(job, log), log)

    def _start_here(self, job: Job, log: Path) -> Handle:
        command = [sys.executable, "-m", __spec__.name, self.study.source, job.key]
        command += ["--budget", str(self.study.budget)]
        command += ["--results", str(self.places.results), "--work", str(self.places.work)]
        with open_to_write(log, "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # the engine passes Ctrl-C on
            )

    def _stop(self) -> None:
        """Let trainings save what they have learned, and end."""
        for running in self._running:
            running.process.terminate()
        for running in self._running:
            try:
                running.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                running.process.kill()

    # Missing jobs.

    def _say_progress(self) -> None:
        missing = self.missing()
        parts = []
        for running in self._running:
            job = running.job
            share = ""
            if isinstance(job, TrainingJob):
                share = f" {min(job.env_steps_done() / job.env_steps, 1.0):.0%}"
            parts.append(f"{job.key}{share}")
        left = sum(self.seconds_left(missing)) / max(1, min(self.processes, len(missing)))
        say(
            f"{len(self.jobs) - len(missing)} of {len(self.jobs)} jobs done, about "
            f"{_duration(left)} left: {'; '.join(parts) or 'waiting for another process'}"
        )

    def seconds_left(self, jobs: Iterable[Job]) -> list[float]:
        """Estimate how long jobs will take, from records of similar jobs if there are any."""
        rates = _rates(self.places)
        evaluations = [
            seconds
            for job in self.jobs
            if isinstance(job, EvaluationJob) and job.done
            if (seconds := load_evaluation(job.record).get("seconds"))  # early ones lack it
        ]
        evaluation = float(np.mean(evaluations)) if evaluations else _USUAL_EVALUATION_SECONDS

        def left(job: Job) -> float:
            if isinstance(job, EvaluationJob):
                return evaluation
            of_agent = rates.get(job.training.agent, {})
            usual = _USUAL_GRADIENT_RATE if job.training.data else _USUAL_RATE
            usual = float(np.mean(list(of_agent.values()))) if of_agent else usual
            rate = of_agent.get(slug(job.training.family, job.training.view), usual)
            return (job.env_steps - job.env_steps_done()) / rate

        return [left(job) for job in jobs]

    def plan(self) -> str:
        """Return a table of the missing jobs, with their estimated time."""
        missing = self.missing()
        rows, evaluations, total = [], [], 0.0
        for job, seconds in zip(missing, self.seconds_left(missing)):
            total += seconds
            if isinstance(job, TrainingJob):
                rows.append((job.training.name, _steps(job), _duration(seconds)))
            else:
                evaluations.append(seconds)
        rows.append((f"{len(evaluations)} evaluations", "", _duration(sum(evaluations))))
        return "\n".join(
            [
                f"{self.study.name}: {len(missing)} of {len(self.jobs)} jobs are missing",
                plain_table(("training", "env steps", "about"), rows, left=1),
                f"in all about {_duration(total)} of one core, "
                f"{_duration(total / self.processes)} with {self.processes} processes",
            ]
        )


def _rates(places: Places) -> dict[str, dict[str, float]]:
    """Return the env steps per second of published trainings, by agent and family."""
    rates: dict[str, dict[str, float]] = {}
    for path in sorted(places.trained.glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError, ValueError):  # they may be of other studies
            record = load_training(path)
            config = record["config"]
            of_agent = rates.setdefault(config["agent"], {})
            rate = num_steps(record) / max(record["training_seconds"], 1.0)
            of_agent[slug(config["tasks"], config.get("view", {}))] = rate
    return rates


def _steps(job: TrainingJob) -> str:
    if job.training.data is not None:
        return f"{job.env_steps:,} gradient steps"
    return f"{job.env_steps / 1e6:g}M"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def run_study(
    name: str,
    *,
    processes: int | None = None,
    budget: float = 1.0,
    dry_run: bool = False,
    results: Path | None = None,
    ray: str | None = None,
) -> None:
    """Run the missing jobs of a study, then write its tables, figures and page.

    Args:
        name: The study's name, or ``module:attribute`` of your own.
        processes: How many jobs run in parallel; None takes one per core.
        budget: A factor on the env steps of all trainings. Results with a reduced budget go to a
            separate folder.
        dry_run: Whether to print only the missing jobs and their estimated time.
        results: The folder of results; None takes ``experiments/results``, or with a part of the
            budget ``runs/studies/budget-B``.
        ray: The address of a Ray cluster to run the jobs on, or ``local``; None runs them here.

    Raises:
        ImportError: If Ray is asked for and not installed.
        Interrupted: If the user stops it.
        ValueError: If there is no such study, a number is out of its range, or jobs have failed.
    """
    from metarl.experiments.studies.results import write_results  # matplotlib is slow to import

    if processes is not None:
        check_at_least(1, processes=processes)
    check_at_least(0.0, budget=budget)
    check_at_most(1.0, budget=budget)
    places = places_for(budget, results)
    engine = Engine(find_study(name).scaled(budget), places, processes or os.cpu_count() or 1)
    if dry_run:
        say(engine.plan())
        return
    missing = len(engine.missing())
    say(f"{engine.study.name}: {len(engine.jobs) - missing} of {len(engine.jobs)} jobs are done")
    with _cluster(engine, ray, processes):
        engine.run()
    for path in write_results(engine.study, places):
        say(f"written: {path}")


@contextlib.contextmanager
def _cluster(engine: Engine, address: str | None, processes: int | None) -> Iterator[None]:
    """Let an engine start its jobs on a Ray cluster, one per core in parallel."""
    if address is None or not engine.missing():
        yield
        return
    from metarl.experiments.studies.on_ray import Cluster  # an extra

    cluster = Cluster(address, engine.study.source, engine.study.budget, engine.places)
    engine.start, engine.processes = cluster.start, processes or cluster.num_cores
    with contextlib.closing(cluster):
        yield


def _work(
    name: Annotated[str, tyro.conf.Positional],
    key: Annotated[str, tyro.conf.Positional],
    budget: float,
    results: Path,
    work: Path,
) -> int:
    """Do one job of a study: the entry point of the engine's processes."""
    os.nice(NICENESS)
    job = find_job(name, budget, key, Places(results, work, pages=results))
    return 0 if perform(job) else RUNNING_ELSEWHERE


if __name__ == "__main__":
    sys.exit(tyro.cli(_work))
