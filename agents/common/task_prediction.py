"""A head that predicts the task from a memory, so that the memory learns to identify tasks."""

import torch
from torch import nn
from torch.nn import functional

from metarl.agents.common.initialization import orthogonal_
from metarl.agents.training.interface import TaskInterface


class TaskPrediction(nn.Module):
    """A linear prediction of the encoded task in each step (after Humplik et al. 2019).

    Args:
        interface: What is known of the family.
        input_size: The length of a memory's features.
        generator: The source of the initial weights.
    """

    def __init__(self, interface: TaskInterface, input_size: int, generator: torch.Generator):
        super().__init__()
        self._sizes = [size for size, _ in interface.features.values()]
        self._one_hot_sizes = [one_hot for _, one_hot in interface.features.values()]
        self.layer = nn.Linear(input_size, interface.task_size)
        orthogonal_(self.layer, 0.01, generator)

    def forward(self, features: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the loss in each step, the mean over the parameters of the task.

        It is the squared error of numbers, the cross-entropy of one-hot features and of signs; the
        mean over the features, or one-hot blocks, of a parameter.

        Args:
            features: Of shape (time, n, input_size).
            task: The encoded tasks, of shape (n, task_size).

        Returns:
            A tensor of shape (time, n).
        """
        predicted = self._predicted(features)
        targets = torch.split(task.expand(len(features), -1, -1), self._sizes, dim=-1)
        parts = zip(predicted, targets, self._one_hot_sizes)
        return torch.stack([_loss(*part) for part in parts]).mean(0)

    def expected(self, features: torch.Tensor) -> torch.Tensor:
        """Return the encoded task that is expected from features (..., input_size).

        Numbers are predictions, one-hot features are probabilities, and signs their mean.
        """
        parts = zip(self._predicted(features), self._one_hot_sizes)
        return torch.cat([_expected(*part) for part in parts], dim=-1)

    def _predicted(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs for each parameter, of shape (..., size)."""
        return torch.split(self.layer(features), self._sizes, dim=-1)


def _loss(predicted: torch.Tensor, target: torch.Tensor, one_hot_size: int | None) -> torch.Tensor:
    """Return the loss of one parameter: (time, n, size) twice to (time, n)."""
    if one_hot_size is None:
        return (predicted - target).square().mean(-1)
    if one_hot_size == 1:
        return functional.softplus(-target * predicted).mean(-1)
    # (time, n, size) to (time, n, blocks, one_hot_size)
    blocks = (*target.shape[:-1], -1, one_hot_size)
    log_probs = predicted.reshape(blocks).log_softmax(-1)
    return -(target.reshape(blocks) * log_probs).sum(-1).mean(-1)


def _expected(predicted: torch.Tensor, one_hot_size: int | None) -> torch.Tensor:
    """Return the expected features of one parameter of its outputs (..., size)."""
    if one_hot_size is None:
        return predicted
    if one_hot_size == 1:
        return (0.5 * predicted).tanh()
    # (..., size) to (..., blocks, one_hot_size), and back
    blocks = predicted.reshape(*predicted.shape[:-1], -1, one_hot_size)
    return blocks.softmax(-1).reshape(predicted.shape)
