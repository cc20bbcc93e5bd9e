"""A head for each kind of space that has no parts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from metarl.agents.common.actions.contract import IMPOSSIBLE, ActionHead
from metarl.agents.common.noise import ActionNoise
from metarl.spaces import action_scale, stretching

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class BoxHead(ActionHead):
    """A diagonal Gaussian; log-probabilities are summed over action dimensions.

    A dimension with two bounds is stretched to them from the policy's range [-1, 1], any other is
    in the environment's own units (:func:`metarl.spaces.action_scale`). Actions are clipped on
    their way to the environment only, so the likelihood stays that of the unclipped sample.
    Integers are rounded.
    """

    def __init__(self, space: spaces.Box, masked: bool = False):
        super().__init__(space, masked)
        self.num_log_std = self.num_outputs
        self._stretched = stretching(space)
        self._center, self._half_range = action_scale(space)

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

    def from_env(self, actions: NDArray[Any]) -> torch.Tensor:
        unstretched = (actions - self._center) / self._half_range
        return torch.from_numpy(unstretched.reshape(len(actions), -1).astype(np.float32))


class DiscreteHead(ActionHead):
    """A categorical distribution."""

    def __init__(self, space: spaces.Discrete, masked: bool = False):
        super().__init__(space, masked)
        self.num_choices = self.num_outputs
        self.action_shape = ()
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
        categories = _sample_categories(outputs, noise).clamp(max=self.num_outputs - 1)
        return _possible(categories, outputs) if self._masked else categories

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        return np.asarray(actions.cpu().numpy() + self._space.start, dtype=self._space.dtype)

    def from_env(self, actions: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(actions.astype(np.int64) - self._space.start)


class MultiDiscreteHead(ActionHead):
    """A categorical distribution for each part of the action, independent of each other."""

    def __init__(self, space: spaces.MultiDiscrete, masked: bool = False):
        super().__init__(space, masked)
        self.num_choices = self.num_outputs
        self.action_shape = (space.nvec.size,)
        self._space = space
        counts = torch.as_tensor(space.nvec.ravel())
        self._last = counts - 1
        # The parts' outputs lie side by side; each gets as many places as the largest needs.
        self._real = torch.arange(int(counts.max())) < counts[:, None]

    def _logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (..., parts, most); what a part does not have is impossible."""
        shape = (*outputs.shape[:-1], *self._real.shape)
        return outputs.new_full(shape, IMPOSSIBLE).masked_scatter(
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
        logits = self._logits(outputs)
        categories = _sample_categories(logits, noise)
        categories = torch.minimum(categories, self._last.to(outputs.device))
        return _possible(categories, logits) if self._masked else categories

    def to_env(self, actions: torch.Tensor) -> NDArray[Any]:
        values = actions.cpu().numpy().reshape(-1, *self._space.shape)
        return np.asarray(values + self._space.start, dtype=self._space.dtype)

    def from_env(self, actions: NDArray[Any]) -> torch.Tensor:
        categories = actions.astype(np.int64) - self._space.start
        return torch.from_numpy(categories.reshape(len(actions), -1))


class MultiBinaryHead(ActionHead):
    """Switches that are on or off independently of each other."""

    def __init__(self, space: spaces.MultiBinary, masked: bool = False):
        super().__init__(space, masked)
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

    def from_env(self, actions: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(actions.reshape(len(actions), -1).astype(np.float32))


_HEADS: dict[type, Callable[[Any, bool], ActionHead]] = {
    spaces.Box: BoxHead,
    spaces.Discrete: DiscreteHead,
    spaces.MultiDiscrete: MultiDiscreteHead,
    spaces.MultiBinary: MultiBinaryHead,
}


def simple_head(space: spaces.Space[Any], masked: bool) -> ActionHead:
    """Return the head of a space that has no parts."""
    return next(head for kind, head in _HEADS.items() if isinstance(space, kind))(space, masked)


def _sample_categories(logits: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
    if noise is None:
        return logits.argmax(-1)
    draws = noise.uniform(logits.shape[:-1])
    # Inverse of the distribution function; rounding may leave its last value below 1, and the
    # result one too large.
    below = logits.softmax(-1).cumsum(-1) < draws.unsqueeze(-1)
    return below.sum(-1)


def _possible(categories: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return categories, with the most likely one for any to which rounding led, and no chance."""
    chosen = categories.unsqueeze(-1)
    likely = logits.argmax(-1, keepdim=True)
    return torch.where(logits.gather(-1, chosen) > IMPOSSIBLE, chosen, likely).squeeze(-1)


def _std(log_std: torch.Tensor) -> torch.Tensor:
    return log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
