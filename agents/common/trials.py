"""Whole trials as tensors: the training data of agents that are trained on trials."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.distributions import Distribution


@dataclass(frozen=True)
class Trials:
    """Recorded trials, of shapes (time, num_trials, ...), padded at the end.

    Attributes:
        rows: Input rows before normalisation.
        pixels: Their pixels, uint8.
        actions: As sampled.
        log_probs: Of the actions, when they were taken.
        episodes_left: How many episodes of the trial have not ended, the present one included;
            zero in the padding.
        steps_left: How many steps the trial still has at most, the present one included; zero in
            the padding.
        rewards: The rewards.
        mask: 1 where a step is real and 0 in the padding.
        task: The encoded task of each trial, of shape (num_trials, task_size): what training may
            use and the policy must not see.
    """

    rows: torch.Tensor
    pixels: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    episodes_left: torch.Tensor
    steps_left: torch.Tensor
    rewards: torch.Tensor
    mask: torch.Tensor
    task: torch.Tensor


class TrialOutputs(NamedTuple):
    """What a network makes of whole trials, of batch shape (time, n).

    Attributes:
        distribution: The action distributions.
        values: The critic's outputs.
        task_loss: How wrong the network's prediction of the task is, if it makes one.
    """

    distribution: Distribution
    values: torch.Tensor
    task_loss: torch.Tensor | None = None
