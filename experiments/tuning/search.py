"""A search for hyperparameters with Optuna: ``metarl tune``.

The first trial is the preset; Optuna's TPE samples the others. **Trials are never scored on the
reported tasks**, but on those of the split ``validation``. Only if a family has no other tasks,
because it is reported on the few tasks it trains on, are these used; the search prints a note. The
score is the mean return of the last adaptation episode over these tasks (for MAML of
all episodes after the last inner step), with sampled actions. It is measured at several points of
the training, the rungs, and trials below the median there are pruned. All trials train with one
seed and are scored on the same tasks (common random numbers), so that they differ only by their
hyperparameters. The best of many is partly luck with that seed; retrain it with other seeds.

Trials are stored in a journal. A process holds a lock while it is alive: a trial marked as running
whose process holds no lock was killed. It is marked as failed and enqueued again.
"""

import json
import math
import multiprocessing
import os
import shlex
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from metarl.agents import AGENTS, OnlineLearner
from metarl.errors import (
    DivergedError,
    Interrupted,
    InvalidValueError,
    check_at_least,
    check_at_most,
)
from metarl.experiments.cli.terminal import say
from metarl.experiments.cli.trust import remember
from metarl.experiments.runs.run import MAX_WORKERS
from metarl.experiments.tuning.evaluator import NUM_RUNGS, Evaluator, OutOfTime, Rungs
from metarl.experiments.tuning.results import results, trial_line
from metarl.experiments.tuning.settings import Settings
from metarl.experiments.tuning.space import encoded, space_of, suggest, values_at, with_values
from metarl.experiments.tuning.storage import (
    import_optuna,
    open_journal,
    reading,
    waiting_for,
)
from metarl.files import check_no_link, locked, open_to_write
from metarl.seeding import stream_seed
from metarl.views import label

if TYPE_CHECKING:
    import optuna

USUAL_TRIALS = 30
_STARTUP_TRIALS = 4
"""The number of complete trials before any is pruned."""


class Search:
    """One process of a search.

    Args:
        settings: The settings of the search.
        trials: The total number of trials in the storage, including those of other processes; None
            sets no limit.
        minutes: The time limit of this process; None sets no limit.

    Raises:
        MissingPackageError: If Optuna is not installed.
        ValueError: If the family is unknown, or the storage holds another search.
    """

    def __init__(self, settings: Settings, trials: int | None, minutes: float | None):
        self._optuna = import_optuna()
        self.settings = settings
        self.trials = trials
        self.deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
        self.family = settings.tasks()
        remember(settings.family)
        self.base = dict(settings.preset.hyperparameters)
        self.evaluator = Evaluator.of(self.family, settings.preset, settings.seed)
        self.space = space_of(settings.agent, self.base)
        self._name = f"process-{uuid.uuid4().hex}"
        self._said: set[int] = set()
        check_no_link(settings.locks)
        settings.locks.mkdir(parents=True, exist_ok=True)
        self.study = self._open()

    def _open(self) -> "optuna.Study":
        """Open the study, or create it with the preset as its first trial."""
        settings = self.settings
        made_with = {
            "total_timesteps": settings.env_steps,
            "seed": settings.seed,
            "evaluated": self.evaluator.num_tasks,
            "preset": _plain(self.base),
        }
        storage = open_journal(settings.journal, settings.locks)
        with waiting_for(settings.locks / "claim"):
            with reading(settings.journal):
                study: optuna.Study = self._optuna.create_study(
                    storage=storage,
                    study_name=f"{settings.agent} {label(settings.family, settings.view)}",
                    load_if_exists=True,
                    direction="maximize",
                    pruner=self._optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=2),
                )
                # A kill may leave a study without settings or preset.
                found = study.user_attrs.get("made with", made_with)
                others = {n: found.get(n) for n, v in made_with.items() if found.get(n) != v}
            for name, value in others.items():
                raise InvalidValueError(
                    f"the trials in {str(settings.journal)!r} have {name}={value!r}, this search "
                    f"has {made_with[name]!r}; use the former value, or start another search with "
                    "--storage PATH"
                )
            study.set_user_attr("made with", made_with)
            if not study.get_trials(deepcopy=False):
                at_preset = encoded(values_at(settings.agent, self.base), self.space)
                study.enqueue_trial(at_preset, user_attrs={"preset": True})
        return study

    def run(self) -> None:
        """Make trials until there are enough, or the time limit is reached."""
        with locked(self.settings.locks / self._name):
            try:
                while time.monotonic() < self.deadline and (trial := self._claim()) is not None:
                    self._make(trial)
                    self.say_finished()
            except OutOfTime:
                pass
            finally:
                (self.settings.locks / self._name).unlink(missing_ok=True)

    def _claim(self) -> "optuna.Trial | None":
        """Take the next trial, or None if there are enough."""
        states, settings = self._optuna.trial.TrialState, self.settings
        with waiting_for(settings.locks / "claim"), reading(settings.journal):
            self._revive()
            present = self.study.get_trials(deepcopy=False)
            counted = (states.COMPLETE, states.PRUNED, states.RUNNING)
            made = sum(trial.state in counted for trial in present)
            if self.trials is not None and made >= self.trials:
                return None
            # Each trial has its own seed: processes draw different trials, and a search that was
            # killed draws the same trials as one that was not.
            seed = stream_seed(settings.seed, "search", len(present)) % 2**32
            self.study.sampler = self._optuna.samplers.TPESampler(n_startup_trials=8, seed=seed)
            trial = self.study.ask()
            trial.set_user_attr("process", self._name)
            return trial

    def _revive(self) -> None:
        """Enqueue the unfinished trials of dead processes again."""
        states = self._optuna.trial.TrialState
        present = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get("again") for trial in present}
        for trial in present:
            name = trial.user_attrs.get("process", "none")
            if trial.state != states.RUNNING or name == self._name:
                continue
            path = self.settings.locks / name
            with locked(path) as is_dead:
                if not is_dead:
                    continue
                path.unlink(missing_ok=True)
            if trial.number not in again:  # a kill may come between the two
                self.study.enqueue_trial(
                    {**trial.system_attrs.get("fixed_params", {}), **trial.params},
                    user_attrs={
                        "again": trial.number,
                        "preset": trial.user_attrs.get("preset", False),
                    },
                )
            self.study.tell(trial.number, state=states.FAIL)

    def _make(self, trial: "optuna.Trial") -> None:
        """Train and score; a diverged trial counts as pruned, so that similar ones are avoided."""
        states = self._optuna.trial.TrialState
        try:
            score = self._train(trial)
        except self._optuna.TrialPruned:
            self.study.tell(trial, state=states.PRUNED)
        except DivergedError as error:
            trial.set_user_attr("diverged", str(error))
            self.study.tell(trial, state=states.PRUNED)
        except OutOfTime:
            raise
        except Exception:
            self.study.tell(trial, state=states.FAIL)
            raise
        else:
            self.study.tell(trial, score)

    def _train(self, trial: "optuna.Trial") -> float:
        settings = self.settings
        values = suggest(trial, self.space)
        is_preset = trial.user_attrs.get("preset")
        hyperparameters = self.base if is_preset else with_values(self.base, values)
        trial.set_user_attr("hyperparameters", _plain(hyperparameters))
        learner = AGENTS[settings.agent](self.family, **hyperparameters, seed=settings.seed)
        assert isinstance(learner, OnlineLearner)
        with learner:
            learner.learn(settings.env_steps, callback=Rungs(self.evaluator, trial, self.deadline))
        score, error = self.evaluator.score(learner)
        trial.set_user_attr("standard error", error)
        trial.report(score, NUM_RUNGS)
        return score

    def say_finished(self) -> None:
        """Print a line for each trial that has ended since the last call."""
        with reading(self.settings.journal):
            for trial in self.study.get_trials(deepcopy=False):
                if trial.state.is_finished() and trial.number not in self._said:
                    self._said.add(trial.number)
                    say(trial_line(trial, self.settings))


def tune(
    settings: Settings, *, trials: int | None, minutes: float | None, processes: int = 1
) -> None:
    """Search for hyperparameters, then print the best trials and the best preset as code.

    Args:
        settings: The settings of the search.
        trials: The total number of trials in the storage, including those of earlier searches;
            None sets no limit if ``minutes`` is given, otherwise ``USUAL_TRIALS``.
        minutes: How long to search from now on; None sets no limit.
        processes: How many trials run in parallel.

    Raises:
        Interrupted: If the user stops it; the message has the command to continue.
        MissingPackageError: If Optuna is not installed.
        ValueError: If something is out of its range, the storage holds another search, a process
            has failed, or no trial is complete.
    """
    check_at_least(1, processes=processes)
    check_at_most(MAX_WORKERS, processes=processes)
    command = ["metarl", "tune", *settings.arguments()]
    for name, limit in (("trials", trials), ("minutes", minutes)):
        if limit is not None:
            check_at_least(1 if name == "trials" else 0.0, **{name: limit})
            command += [f"--{name}", f"{limit:g}" if name == "minutes" else str(limit)]
    if processes > 1:
        command += ["--processes", str(processes)]
    if trials is None and minutes is None:
        trials = USUAL_TRIALS
    search = Search(settings, trials, minutes)
    say(f"{search.evaluator.description}; trials are kept in {settings.journal}")
    try:
        search.say_finished()
        if processes == 1:
            search.run()
        else:
            _run_processes(search, minutes, processes)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; finished trials are kept; continue with: {shlex.join(command)}"
        ) from None
    say(results(search.study, settings))


def _run_processes(search: Search, minutes: float | None, processes: int) -> None:
    """Let processes make the trials, and print their results."""
    context = multiprocessing.get_context("spawn")
    logs = [search.settings.locks / f"{number}.txt" for number in range(processes)]
    of_search = (search.settings, search.trials, minutes)
    running = [context.Process(target=_work, args=(log, *of_search)) for log in logs]
    try:
        for process in running:
            process.start()
        while any(process.is_alive() for process in running):
            search.say_finished()
            time.sleep(0.5)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()
    search.say_finished()
    failed = [str(log) for log, process in zip(logs, running) if process.exitcode]
    if failed:
        raise InvalidValueError(f"{len(failed)} processes failed; their output: {failed}")


def _plain(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(hyperparameters))
    return plain


def _work(log: Path, settings: Settings, trials: int | None, minutes: float | None) -> None:
    """Make trials, in a process that :func:`tune` has started; what is printed goes to a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    with open_to_write(log, "wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    torch.set_num_threads(1)
    Search(settings, trials, minutes).run()
