"""The training of a run: checkpoints, signals and failures; and its other processes."""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from metarl import evaluate
from metarl.agents import EvaluationCallback, Learner, OfflineLearner, OnlineLearner
from metarl.agents.training.ranks import ALONE, Ranks
from metarl.errors import DivergedError, Interrupted, RankError, StorageError
from metarl.experiments.cli.terminal import handling, say
from metarl.experiments.runs.loading import agent_of, histories_of
from metarl.experiments.runs.run import Run

CHECKPOINT_SECONDS = 60.0
VALIDATION_TASKS = 40
"""The most tasks of an evaluation during training."""


class _Stopper(BaseCallback):
    """Stops a training after the current step once a signal has arrived."""

    stop = False

    def _on_step(self) -> bool:
        return not self.stop


class _Checkpointer(_Stopper):
    """Also saves the agent between iterations, once a minute."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run
        self._last = time.monotonic()

    def _on_rollout_start(self) -> None:
        if time.monotonic() - self._last >= CHECKPOINT_SECONDS:
            save(self._run, self.model, self._run.checkpoint)  # type: ignore[arg-type]
            self._last = time.monotonic()


def learn(run: Run, learner: Learner) -> Ranks:
    """Train up to the run's number of steps; save what was learned, however that ends.

    Returns:
        The processes that now evaluate the agent together.

    Raises:
        Interrupted: If a signal stopped it.
        ValueError: If it has diverged.
        RuntimeError: If another of the processes that train together has failed.
        OSError: If the run directory cannot be written to.
    """
    left = run.config["total_timesteps"] - learner.num_timesteps
    learner.ranks.broadcast(json.dumps(run.config if left > 0 else None).encode())
    if left <= 0:
        return ALONE
    train: Any
    if isinstance(learner, OfflineLearner):
        train = functools.partial(learner.learn, histories_of(run.config))
    else:
        assert isinstance(learner, OnlineLearner)
        train = learner.learn
    logger = run.logger(learner.num_timesteps)
    learner.set_logger(logger)
    checkpointer = _Checkpointer(run)
    callbacks: list[BaseCallback] = [checkpointer]
    if every := run.config.get("eval_every"):
        settings = run.config["evaluation"]
        num_tasks = min(settings["num_tasks"], VALIDATION_TASKS)
        episodes = settings["num_episodes"]
        callbacks.append(EvaluationCallback(every, num_tasks=num_tasks, num_episodes=episodes))
    started = time.monotonic()
    with _stopping(checkpointer), contextlib.closing(logger), learner:
        try:
            train(left, callbacks, reset_num_timesteps=False, progress_bar=True)
        except Exception as error:
            save(run, learner, run.checkpoint)
            reached = f"{learner.num_timesteps:,} {learner.unit}"
            saved = f"the last complete iteration, at {reached}, is saved"
            if isinstance(error, StorageError):
                raise StorageError(f"{error}; {saved}") from None
            advice = f"{saved}; continue with: {run.resume_command}"
            if isinstance(error, DivergedError):
                raise DivergedError(
                    f"{error} in {run.directory / 'config.json'}; {advice}"
                ) from None
            if isinstance(error, RankError):
                raise RankError(f"{error}; {advice}") from None
            say(f"\n{advice}", sys.stderr)
            raise
    save(run, learner, run.checkpoint)
    evaluation = None if checkpointer.stop else run.config["evaluation"]
    learner.ranks.broadcast(json.dumps(evaluation).encode())
    if checkpointer.stop:
        raise Interrupted(
            f"stopped at {learner.num_timesteps:,} {learner.unit} and saved; continue with: "
            f"{run.resume_command}"
        )
    seconds = time.monotonic() - started
    say(f"trained for {learner.num_timesteps:,} {learner.unit} in {seconds:.0f} s")
    return learner.ranks


def follow(ranks: Ranks) -> None:
    """Train and evaluate what the first process does along with it; write and print nothing."""
    config = json.loads(ranks.broadcast(b""))
    if config is None:  # nothing is left to train
        return
    learner = agent_of(config)
    assert isinstance(learner, OnlineLearner)  # others train in one process
    learner.set_logger(Logger(None, []))
    stopper = _Stopper()
    with _stopping(stopper), learner:
        learner.learn(1, stopper, reset_num_timesteps=False)  # up to where the first one goes
    settings = json.loads(ranks.broadcast(b""))
    if settings is not None:  # it was not stopped
        evaluate(learner, learner.tasks, **settings, ranks=ranks)


def save(run: Run, learner: Learner, path: Path) -> None:
    """Write the agent, unless somebody has removed the run meanwhile.

    Raises:
        OSError: If the run directory is gone, or cannot be written to.
    """
    run.check_there()
    learner.save(path)


@contextlib.contextmanager
def _stopping(stopper: _Stopper) -> Iterator[None]:
    """Let the first Ctrl-C (or its like) stop training after the step, the second at once."""

    def handle(signum: int, frame: Any) -> None:
        if stopper.stop:
            raise KeyboardInterrupt
        stopper.stop = True
        if isinstance(stopper, _Checkpointer):  # only the first process prints
            with contextlib.suppress(OSError):  # the terminal is gone
                print("\nstopping after this step; Ctrl-C again stops at once", file=sys.stderr)

    with handling(handle, "SIGINT", "SIGTERM", "SIGHUP"):
        yield
