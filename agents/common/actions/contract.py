"""What turns a network's outputs into the actions that an environment takes."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from gymnasium import spaces
from torch.distributions import Distribution

from metarl.agents.common.noise import ActionNoise
from metarl.spaces import Values

IMPOSSIBLE = -1e8
"""The logit of what cannot be chosen; finite, as the gradient of a divergence of infinities is not
a number."""


class ActionHead(ABC):
    """Turns network outputs into action distributions, and samples into environment actions.

    Args:
        space: The action space.
        masked: Whether actions may be forbidden (:meth:`forbid`).

    Attributes:
        num_outputs: How many outputs the network needs.
        num_log_std: How many log standard deviations the distribution needs besides.
        num_choices: How many of the outputs are logits of values that can be forbidden.
        action_shape: The shape of one sampled action.
    """

    num_log_std = 0
    num_choices = 0

    def __init__(self, space: spaces.Space[Any], masked: bool = False):
        self.num_outputs = spaces.flatdim(space)
        self.action_shape: tuple[int, ...] = (self.num_outputs,)
        self._masked = masked

    def forbid(self, outputs: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Return outputs with which forbidden values have no chance.

        Args:
            outputs: Network outputs, of shape (..., num_outputs).
            allowed: 1 where a value is allowed and 0 elsewhere, of shape (..., num_choices).
        """
        return outputs.masked_fill(allowed <= 0, IMPOSSIBLE)

    @abstractmethod
    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        """Return the action distribution.

        Args:
            outputs: Network outputs, of shape (..., num_outputs).
            log_std: Of shape (..., num_log_std), broadcastable to the outputs; clamped to [-5, 2],
                so that sampling, likelihood and divergence agree.
        """

    @abstractmethod
    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        """Draw actions from the distribution of these arguments, without building it.

        Args:
            outputs: As for :meth:`distribution`; lanes are along the first dimension.
            log_std: As for :meth:`distribution`.
            noise: What to draw with, a row for each lane; None takes the most likely actions.
        """

    @abstractmethod
    def to_env(self, actions: torch.Tensor) -> Values:
        """Return sampled actions, of shape (n, *action_shape), as the environment's."""

    @abstractmethod
    def from_env(self, actions: Any) -> torch.Tensor:
        """Return environment actions as samples: what :meth:`to_env` made them of."""
