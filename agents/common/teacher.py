"""What a teacher gives: action distributions of an agent that observes the task, as labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.distributions import Distribution

from metarl.agents.common.actions import ActionHead
from metarl.agents.common.trials import Trials
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError
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


def oracle_rows(trials: Trials, observation: slice) -> torch.Tensor:
    """Return the input rows that an agent of the oracle view would have had in the same trials.

    Args:
        trials: The recorded trials.
        observation: Which part of their rows is the observation; it comes first.

    Returns:
        The rows, with the task after the observation: (time, n, row_size + task_size).
    """
    task = trials.task.expand(len(trials.rows), -1, -1)  # (time, n, task_size)
    seen, rest = trials.rows.tensor_split([observation.stop], -1)
    return torch.cat([seen, task, rest], -1)


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
