"""Callbacks of training: whatever ``learn`` takes, evaluation, and the progress bar."""

import math
import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback

from metarl.agents.training.checkpoint import load_checkpoint, with_suffix
from metarl.errors import check_at_least, check_names, check_types
from metarl.evaluation.play import evaluate
from metarl.evaluation.report import Report
from metarl.evaluation.tables import number

MaybeCallback: TypeAlias = (
    BaseCallback | list[BaseCallback] | Callable[[dict[str, Any], dict[str, Any]], bool] | None
)


def as_callback(callback: MaybeCallback, progress_bar: bool) -> BaseCallback:
    """Return one SB3 callback made of the given ones, with a progress bar if wanted."""
    kinds = (BaseCallback, list, Callable, type(None))
    check_types(kinds, "a callback, a list of these, or a function", callback=callback)
    if callback is None:
        callbacks: list[BaseCallback] = []
    elif isinstance(callback, list):
        for each in callback:
            check_types(BaseCallback, "a list of callbacks", callback=each)
        callbacks = callback
    else:
        is_object = isinstance(callback, BaseCallback)
        callbacks = [callback if is_object else ConvertCallback(callback)]  # type: ignore[list-item, arg-type]
    return CallbackList([*callbacks, ProgressBar()] if progress_bar else callbacks)


class EvaluationCallback(BaseCallback):
    """Evaluates the agent on validation tasks at intervals, and keeps the best one.

    It is like :class:`~stable_baselines3.common.callbacks.EvalCallback`, for a family. The log gets
    ``validation/return_first_episode``, ``validation/return_last_episode`` and, if environments
    report success, ``validation/success_first_episode`` and ``..._last_episode``, for the
    parameters that collected the iteration. Training is not affected: the result is
    bit-for-bit the same with and without this callback.

    ::

        agent.learn(1_000_000, EvaluationCallback(every=20, num_tasks=40, best_path="best"))

    Args:
        every: How many iterations there are between two evaluations. The first is of the untrained
            agent; a complete training ends with one more, which is not in the log.
        split: The split to draw tasks from, which is also how the log calls it. An agent that was
            selected on the tasks of ``held_out`` must not be reported on them.
        num_tasks: How many tasks, the same each time.
        num_episodes: Adaptation episodes of each task; None takes the family's, but a round before
            and one after a step of an agent that adapts by rounds, as MAML.
        seed: The seed of tasks, episodes and actions.
        best_path: Where to save the agent whenever its last episodes are the best so far, or None.
            The file stores the score: a resumed training replaces it only by a better agent of the
            same kind, if both were evaluated in the same way.

    Attributes:
        report: The newest report.
        best: The best mean return of the last episodes.

    Raises:
        TypeError: If a number is no integer, or ``best_path`` no path.
        ValueError: If a number is below 1, or at the start of training if there is no such split.
    """

    def __init__(
        self,
        every: int = 10,
        *,
        split: str = "validation",
        num_tasks: int = 40,
        num_episodes: int | None = None,
        seed: int = 0,
        best_path: str | Path | None = None,
    ):
        super().__init__()
        given = {} if num_episodes is None else {"num_episodes": num_episodes}
        check_at_least(1, every=every, num_tasks=num_tasks, **given)
        kinds = (str, os.PathLike, type(None))
        check_types(kinds, "a path or None", best_path=best_path)
        self.every = every
        self.best_path = best_path
        self.report: Report | None = None
        self.best = -math.inf
        self._evaluated: int | None = None
        self.split, self.num_tasks, self.num_episodes = split, num_tasks, num_episodes
        self.seed = seed

    def _init_callback(self) -> None:
        tasks = self.model.tasks  # type: ignore[attr-defined]
        check_names([self.split], tasks.splits, f"split of {tasks.name!r}:")
        if self.best_path is not None:
            self.best = self._score_of(with_suffix(self.best_path))

    def _score_of(self, path: Path) -> float:
        """Return the score that a saved agent's file holds, if it was evaluated as this one is."""
        if not path.is_file():
            return -math.inf
        _, state = load_checkpoint(path)
        best = (state.get("notes") or {}).get("selected", {})
        alike = {**best, "return": None} == self._note(None)
        return float(best["return"]) if alike and best["return"] is not None else -math.inf

    def _note(self, score: float | None) -> dict[str, Any]:
        """Return the score in a saved agent's file, with everything it depends on."""
        return {
            "agent": type(self.model).__name__,
            "tasks": self.model.tasks.name,  # type: ignore[attr-defined]
            "view": dict(self.model.tasks.view),  # type: ignore[attr-defined]
            "split": self.split,
            "num_tasks": int(self.num_tasks),
            "num_episodes": None if self.num_episodes is None else int(self.num_episodes),
            "seed": int(self.seed),
            "return": score,
        }

    def _on_step(self) -> bool:
        return True

    def _on_training_start(self) -> None:
        self._total = int(self.locals["total_timesteps"])

    def _on_rollout_start(self) -> None:  # the agent as it would be saved now
        if self.model.iteration % self.every == 0:  # type: ignore[attr-defined]
            self._evaluate()

    def _on_training_end(self) -> None:
        # A training that was stopped is resumed: then there are more updates.
        agent: Any = self.model
        if agent.num_timesteps >= self._total and agent.iteration != self._evaluated:
            self._evaluate()

    def _evaluate(self) -> None:
        agent: Any = self.model
        self._evaluated = agent.iteration
        num_episodes, per_round = self.num_episodes, agent.episodes_per_adaptation
        if num_episodes is None and per_round > 1:
            num_episodes = 2 * per_round
        self.report = report = evaluate(
            agent,
            agent.tasks,
            split=self.split,
            num_tasks=self.num_tasks,
            num_episodes=num_episodes,
            seed=self.seed,
        )
        for name, values in (("first", report.first), ("last", report.last)):
            self.logger.record(f"{self.split}/return_{name}_episode", float(values.mean()))
        if report.successes is not None:
            per_round = report.episodes_per_adaptation
            first, last = report.successes[:, :per_round], report.successes[:, -per_round:]
            self.logger.record(f"{self.split}/success_first_episode", float(first.mean()))
            self.logger.record(f"{self.split}/success_last_episode", float(last.mean()))
        mean = float(report.last.mean())
        if mean > self.best:
            self.best = mean
            if self.best_path is not None:
                agent.save(self.best_path, notes={"selected": self._note(mean)})


class ProgressBar(BaseCallback):
    """Shows steps, speed, time left, and returns of the first and the last episode of tasks.

    On a terminal it is a live bar; elsewhere one line for each tenth of the way.
    """

    def _on_training_start(self) -> None:
        self._total = int(self.locals["total_timesteps"])
        self._console = Console(file=sys.stderr)
        self._reported = self.num_timesteps * 10 // self._total
        self._progress = Progress(
            # All of it is at most 80 characters wide: a narrower line would be cut.
            TextColumn("training"),
            BarColumn(bar_width=6),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[returns]}"),
            console=self._console,
            refresh_per_second=4,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task(
            "", total=self._total, completed=self.num_timesteps, left="", speed="", returns=""
        )
        self._before: tuple[float, int] | None = None
        self._progress.start()

    def _on_step(self) -> bool:
        steps = self.num_timesteps
        # The last iteration is completed, so more env steps than requested are possible.
        self._progress.update(self._bar, completed=steps, total=max(steps, self._total))
        tenth = min(steps * 10 // self._total, 10)
        if tenth > self._reported:
            self._reported = tenth
            if self._progress.disable:
                unit = self.model.unit  # type: ignore[attr-defined]
                line = f"training {10 * self._reported}%: {steps:,} {unit}{self._returns()}"
                self._console.print(line, highlight=False)
        return True

    def _on_rollout_start(self) -> None:
        now, steps = time.perf_counter(), self.num_timesteps
        # Over a whole iteration: steps come in bursts, with an update between.
        if self._before is not None and steps > self._before[1]:
            speed = (steps - self._before[1]) / (now - self._before[0])
            left_steps = max(0, self._total - steps)  # an integer of any size
            minutes, seconds = divmod(round(left_steps / Fraction(speed)), 60)
            left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"
            self._progress.update(self._bar, left=left, speed=f"{speed:,.0f} steps/s")
        self._before = (now, steps)
        if (rollout := self.model.last_rollout) is not None:  # type: ignore[attr-defined]
            first, last = (number(rollout.returns[:, i].mean()) for i in (0, -1))
            self._progress.update(self._bar, returns=f"return {first} -> {last}")

    def _returns(self) -> str:
        rollout = self.model.last_rollout  # type: ignore[attr-defined]
        if rollout is None:
            return ""
        if rollout.returns.shape[1] == 1:
            return f"  return {rollout.returns.mean():.3g}"
        first, last = rollout.returns[:, 0].mean(), rollout.returns[:, -1].mean()
        return f"  return, first episode {first:.3g}, last {last:.3g}"

    def _on_training_end(self) -> None:
        self._progress.stop()
