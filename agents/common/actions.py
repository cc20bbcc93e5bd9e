"""Action distributions: from a network's outputs to actions an environment takes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from metarl.agents.common.noise import ActionNoise
from metarl.spaces import action_scale, check_space, stretching

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class ActionHead(ABC):
    """Turns network outputs into action distributions, and samples into environment actions.

    Args:
        space: The action space.

    Attributes:
        num_outputs: How many outputs the network needs.
        has_log_std: Whether the distribution needs a log standard deviation besides.
    """

    has_log_std = False

    def __init__(self, space: spaces.Space[Any]):
        self.num_outputs = spaces.flatdim(space)

    @abstractmethod
    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        """Return the action distribution.

        Args:
            outputs: Network outputs, of shape (..., num_outputs).
            log_std: For Box actions, broadcastable to the outputs; clamped to [-5, 2], so that
                sampling, likelihood and divergence agree.
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
    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        """Return sampled actions as environment actions, of shape (n, *action_shape)."""


class BoxHead(ActionHead):
    """A diagonal Gaussian; log-probabilities are summed over action dimensions.

    A dimension with two bounds is stretched to them from the policy's range [-1, 1], any other is
    in the environment's own units (:func:`metarl.spaces.action_scale`). Actions are clipped on
    their way to the environment only, so the likelihood stays that of the unclipped sample.
    Integers are rounded.
    """

    has_log_std = True

    def __init__(self, space: spaces.Box):
        super().__init__(space)
        self._stretched = stretching(space)

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        assert log_std is not None
        normal = Normal(outputs, _std(log_std), validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        if noise is None:
            return outputs
        assert log_std is not None
        return torch.addcmul(outputs, _std(log_std), noise.normal(outputs.shape))

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        return self._stretched(actions.cpu().numpy())


class DiscreteHead(ActionHead):
    """A categorical distribution."""

    def __init__(self, space: spaces.Discrete):
        super().__init__(space)
        self._space = space

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        return Categorical(logits=outputs, validate_args=False)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        return _sample_categories(outputs, noise).clamp(max=self.num_outputs - 1)

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        return np.asarray(actions.cpu().numpy() + self._space.start)


class MultiDiscreteHead(ActionHead):
    """A categorical distribution for each part of the action, independent of each other."""

    def __init__(self, space: spaces.MultiDiscrete):
        super().__init__(space)
        self._space = space
        counts = torch.as_tensor(space.nvec.ravel())
        self._last = counts - 1
        # The parts' outputs lie side by side; each gets as many places as the largest needs.
        self._real = torch.arange(int(counts.max())) < counts[:, None]

    def _logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (..., parts, most); what a part does not have is impossible."""
        shape = (*outputs.shape[:-1], *self._real.shape)
        # Finite, as the gradient of a divergence of infinities is not a number.
        return outputs.new_full(shape, -1e8).masked_scatter(
            self._real.to(outputs.device).expand(shape), outputs
        )

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        parts = Categorical(logits=self._logits(outputs), validate_args=False)
        return Independent(parts, 1, validate_args=False)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        categories = _sample_categories(self._logits(outputs), noise)
        return torch.minimum(categories, self._last.to(outputs.device))

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        values = actions.cpu().numpy().reshape(-1, *self._space.shape)
        return np.asarray(values + self._space.start, dtype=self._space.dtype)


class MultiBinaryHead(ActionHead):
    """Switches that are on or off independently of each other."""

    def __init__(self, space: spaces.MultiBinary):
        super().__init__(space)
        self._space = space

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        switches = Bernoulli(logits=outputs, validate_args=False)
        return Independent(switches, 1, validate_args=False)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        if noise is None:
            return (outputs > 0).to(outputs.dtype)
        return (noise.uniform(outputs.shape) < outputs.sigmoid()).to(outputs.dtype)

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        values = actions.cpu().numpy().reshape(-1, *self._space.shape)
        return np.asarray(values, dtype=self._space.dtype)


_HEADS: dict[type, Callable[[Any], ActionHead]] = {
    spaces.Box: BoxHead,
    spaces.Discrete: DiscreteHead,
    spaces.MultiDiscrete: MultiDiscreteHead,
    spaces.MultiBinary: MultiBinaryHead,
}


def action_head(space: spaces.Space[Any]) -> ActionHead:
    """Return the head of an action space.

    Raises:
        ValueError: If agents do not support the space.
    """
    check_space("action", space)
    return next(head for kind, head in _HEADS.items() if isinstance(space, kind))(space)


def advice(space: spaces.Space[Any]) -> str | None:
    """Return a warning if an action space makes learning harder; otherwise None."""
    if not isinstance(space, spaces.Box):
        return None
    center, half_range = action_scale(space)
    lowest, highest = center - half_range, center + half_range
    if not (np.isclose(lowest, space.low) & np.isclose(highest, space.high)).all():
        return (
            f"the action space {space} lacks bounds: without two of them, actions are drawn around "
            "0 in the environment's own units; declare the range that matters with "
            "gymnasium.wrappers.TransformAction(env, lambda action: action, Box(low, high))"
        )
    if np.issubdtype(space.dtype, np.integer):
        return (
            f"the action space {space} holds integers: actions are drawn from a Gaussian and "
            "rounded; agents learn better with a Discrete or MultiDiscrete space"
        )
    return None


def _sample_categories(logits: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
    if noise is None:
        return logits.argmax(-1)
    draws = noise.uniform(logits.shape[:-1])
    # Inverse of the distribution function; rounding may leave its last value below 1, and the
    # result one too large.
    below = logits.softmax(-1).cumsum(-1) < draws.unsqueeze(-1)
    return below.sum(-1)


def _std(log_std: torch.Tensor) -> torch.Tensor:
    return log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()


def orthogonal_(
    layer: torch.nn.Linear | torch.nn.Conv2d, gain: float, generator: torch.Generator
) -> None:
    """Initialise a layer: orthogonal weights of the given gain, zero biases."""
    torch.nn.init.orthogonal_(layer.weight, gain, generator=generator)
    assert layer.bias is not None
    torch.nn.init.zeros_(layer.bias)


def uniform_(tensor: torch.Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as PyTorch does, from a generator."""
    bound = 1.0 / math.sqrt(fan_in)
    torch.nn.init.uniform_(tensor, -bound, bound, generator=generator)
