"""What a teacher gives: action distributions of an agent that observes the task, as labels."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch.distributions import Distribution

from metarl.agents.common.actions import ActionHead
from metarl.agents.common.trials import Trials
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError
from metarl.trial import TrialInput
from metarl.vector.changing import EARLIEST, LATEST
from metarl.views import View, label


@dataclass(frozen=True)
class ActionLabels:
    """The action distributions of a teacher in the steps of trials.

    Attributes:
        head: Makes distributions of outputs.
        outputs: What the head takes, of shape (time, n, num_outputs).
        log_std: For Box actions, of shape (num_outputs,).
    """

    head: ActionHead
    outputs: torch.Tensor
    log_std: torch.Tensor | None

    def distribution(self) -> Distribution:
        """Return the distributions, of batch shape (time, n)."""
        return self.head.distribution(self.outputs, self.log_std)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "ActionLabels":
        """Return them with a function applied to the outputs."""
        return replace(self, outputs=function(self.outputs))


@runtime_checkable
class Teacher(Protocol):
    """An agent that observes the task, and shows a student what it would do."""

    @property
    def tasks(self) -> TaskDistribution:
        """The oracle's view of a family."""

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        """Return what it would do in the steps of trials.

        Args:
            rows: The input rows that it would have had (:class:`metarl.trial.TrialInput`), of shape
                (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).
        """


class OracleRows:
    """Makes the input rows that an agent of the oracle view would have had in the same trials.

    Args:
        tasks: The student's family.
        trial_input: Where its rows hold the parts of a step.
    """

    def __init__(self, tasks: TaskDistribution, trial_input: TrialInput):
        with closing(tasks.make_vec(1)) as env:
            self._num_steps = tasks.episodes_per_trial * env.horizon
            self._at_once = env.changes_within_episodes
        self._tasks, self._input = tasks, trial_input

    def __call__(self, trials: Trials) -> torch.Tensor:
        """Return rows with the task after the observation: (time, n, row_size + task_size)."""
        seen, rest = trials.rows.tensor_split([self._input.observation.stop], -1)
        return torch.cat([seen, self._present(trials), rest], -1)

    def _present(self, trials: Trials) -> torch.Tensor:
        """Return the encoded task of each step: that of the moment, where tasks change."""
        task = trials.task.expand(len(trials.rows), -1, -1)  # (time, n, task_size)
        if self._tasks.still is None:
            return task
        size = self._tasks.still.task_size
        before, after, change_at = task.tensor_split([size, 2 * size], -1)
        share = EARLIEST + (LATEST - EARLIEST) * (change_at + 1.0) / 2.0
        time = torch.arange(len(task), device=task.device)[:, None, None]
        late = time - (share * self._num_steps).floor()
        # Within an episode, the first step of the new task is the first that shows it.
        changed = (late >= 0) & (trials.rows[..., self._input.episode_end] > 0.0)
        if self._at_once:
            changed = changed | (late > 0)
        return torch.where(changed.cummax(0).values, after, before)


def check_teacher(tasks: TaskDistribution, name: str | None, view: View) -> None:
    """Raise unless an agent of this family and view can teach one of ``tasks``.

    Args:
        tasks: The student's family.
        name: The name of the teacher's family.
        view: The teacher's view of it.

    Raises:
        ValueError: If it is of another family, or does not observe the task; or the student does.
    """
    if tasks.view.get("oracle"):
        raise InvalidValueError(
            f"a student must not observe the task, got {tasks.label}; leave out the oracle view"
        )
    if name != tasks.name or not view.get("oracle"):
        raise InvalidValueError(
            f"the teacher must have been trained on {tasks.oracle().label}, got one of "
            f"{label(str(name), view)}; train it with: metarl train multi-task {tasks.name} "
            "--oracle"
        )
