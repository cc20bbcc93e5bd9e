"""Action distributions: from a network's outputs to actions an environment takes."""

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.distributions import Categorical, Distribution, Independent, Normal

from metarl.spaces import check_space

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class ActionHead:
    """Turns network outputs into action distributions, and samples into environment actions.

    Discrete actions are categorical. Box actions are diagonal Gaussian; log-probabilities are
    summed over action dimensions. In a bounded Box the policy's range [-1, 1] is stretched to
    the bounds, and what lies outside is clipped on its way to the environment only, so the
    likelihood stays that of the unclipped sample.

    Args:
        space: The action space, Box or Discrete.

    Attributes:
        num_outputs: How many outputs the network needs.
        has_log_std: Whether the distribution needs a log standard deviation besides.

    Raises:
        ValueError: If the space is of another kind.
    """

    def __init__(self, space: spaces.Space[Any]):
        check_space("action", space)
        self.space = space
        self.num_outputs = spaces.flatdim(space)
        self.has_log_std = isinstance(space, spaces.Box)
        if isinstance(space, spaces.Box):
            bounded = bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())
            self._center = 0.5 * (space.low + space.high) if bounded else 0.0
            self._half_range = 0.5 * (space.high - space.low) if bounded else 1.0

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        """Return the action distribution.

        Args:
            outputs: Network outputs, of shape (..., num_outputs).
            log_std: For Box actions, broadcastable to the outputs; clamped to [-5, 2], so that
                sampling, likelihood and divergence agree.
        """
        if log_std is None:
            return Categorical(logits=outputs, validate_args=False)
        normal = Normal(outputs, _std(log_std), validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        """Draw actions from the distribution of these arguments, without the cost of making it.

        Args:
            outputs: As for :meth:`distribution`.
            log_std: As for :meth:`distribution`.
            generator: A generator of our own; None takes the most likely actions.
        """
        if log_std is None:
            if generator is None:
                return outputs.argmax(-1)
            draws = torch.rand(outputs.shape[:-1], generator=generator, device=outputs.device)
            # Inverse of the distribution function; rounding may leave its last value below 1.
            below = outputs.softmax(-1).cumsum(-1) < draws.unsqueeze(-1)
            return below.sum(-1).clamp(max=self.num_outputs - 1)
        if generator is None:
            return outputs
        noise = torch.randn(outputs.shape, generator=generator, device=outputs.device)
        return torch.addcmul(outputs, _std(log_std), noise)

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        """Return sampled actions as the environment takes them, of shape (n, *action_shape)."""
        values = actions.cpu().numpy()
        if isinstance(self.space, spaces.Discrete):
            return np.asarray(values + self.space.start)
        assert isinstance(self.space, spaces.Box)
        values = values.reshape(-1, *self.space.shape)
        stretched = self._center + self._half_range * values
        clipped = np.minimum(np.maximum(stretched, self.space.low), self.space.high)
        return np.asarray(clipped, dtype=self.space.dtype)


def _std(log_std: torch.Tensor) -> torch.Tensor:
    return log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()


def orthogonal_(layer: torch.nn.Linear, gain: float, generator: torch.Generator) -> None:
    """Initialise a linear layer: orthogonal weights of the given gain, zero biases."""
    torch.nn.init.orthogonal_(layer.weight, gain, generator=generator)
    torch.nn.init.zeros_(layer.bias)


def uniform_(tensor: torch.Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's own law, from a generator."""
    bound = 1.0 / math.sqrt(fan_in)
    torch.nn.init.uniform_(tensor, -bound, bound, generator=generator)
