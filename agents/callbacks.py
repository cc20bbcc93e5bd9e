"""Callbacks of training: whatever ``learn`` takes, and the progress bar."""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback

from metarl.errors import check_types

MaybeCallback: TypeAlias = (
    BaseCallback | list[BaseCallback] | Callable[[dict[str, Any], dict[str, Any]], bool] | None
)


def as_callback(callback: MaybeCallback, progress_bar: bool) -> BaseCallback:
    """Return one SB3 callback that does what was given, with a progress bar if wanted."""
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


class ProgressBar(BaseCallback):
    """Shows env steps, speed, time left, and returns before and after adaptation.

    On a terminal it is a live bar; elsewhere one line for each tenth of the way.
    """

    def _on_training_start(self) -> None:
        self._total = int(self.locals["total_timesteps"])
        self._console = Console(file=sys.stderr)
        self._reported = self.num_timesteps * 10 // self._total
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(show_speed=False),
            TextColumn("{task.fields[steps]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[returns]}"),
            console=self._console,
            refresh_per_second=4,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task(
            "training", total=self._total, completed=self.num_timesteps, steps="", returns=""
        )
        self._progress.start()

    def _on_step(self) -> bool:
        steps = self.num_timesteps
        # The last iteration is completed, however far that goes beyond what was asked for.
        self._progress.update(self._bar, completed=steps, total=max(steps, self._total))
        tenth = min(steps * 10 // self._total, 10)
        if tenth > self._reported:
            self._reported = tenth
            if self._progress.disable:
                line = f"training {10 * self._reported}%: {steps:,} env steps{self._returns()}"
                self._console.print(line, highlight=False)
        return True

    def _on_rollout_start(self) -> None:
        speed = self._progress.tasks[self._bar].speed
        if speed is not None:
            self._progress.update(self._bar, steps=f"{speed:,.0f} env steps/s")
        self._progress.update(self._bar, returns=self._returns())

    def _returns(self) -> str:
        rollout = self.model.last_rollout  # type: ignore[attr-defined]
        if rollout is None:
            return ""
        first, last = rollout.returns[:, 0].mean(), rollout.returns[:, -1].mean()
        return f"  return, first episode {first:.3g}, last {last:.3g}"

    def _on_training_end(self) -> None:
        self._progress.stop()
