"""Action distributions: from a network's outputs to actions an environment takes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    kl_divergence,
    register_kl,
)

from metarl.agents.common.noise import ActionNoise
from metarl.batches import nest
from metarl.spaces import Values, action_scale, check_space, leaf_values, leaves, stretching

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
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


class CompositeHead(ActionHead):
    """The heads of the parts of a Dict or Tuple space, which are drawn independently.

    The parts of outputs, log standard deviations and sampled actions lie side by side, in the order
    of :func:`metarl.spaces.leaves`.
    """

    def __init__(self, space: spaces.Space[Any], masked: bool = False):
        super().__init__(space, masked)
        self._space = space
        self._heads = [_head(part, masked) for _, part in leaves(space)]
        self.num_log_std = sum(head.num_log_std for head in self._heads)
        self.num_choices = sum(head.num_choices for head in self._heads)
        self.action_shape = (sum(math.prod(head.action_shape) for head in self._heads),)

    def forbid(self, outputs: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        choices = torch.split(allowed, [head.num_choices for head in self._heads], dim=-1)
        parts = zip(self._heads, self._split(outputs), choices)
        return torch.cat(
            [head.forbid(own, part) if head.num_choices else own for head, own, part in parts], -1
        )

    def distribution(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None = None
    ) -> Distribution:
        parts = zip(self._heads, self._split(outputs), self._stds(log_std))
        shapes = [head.action_shape for head in self._heads]
        return SideBySide([head.distribution(own, std) for head, own, std in parts], shapes)

    def sample(
        self,
        outputs: torch.Tensor,
        log_std: torch.Tensor | None,
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        parts = zip(self._heads, self._split(outputs), self._stds(log_std))
        sampled = [head.sample(own, std, noise) for head, own, std in parts]
        lead = outputs.shape[:-1]
        return torch.cat([part.reshape(*lead, -1).to(outputs.dtype) for part in sampled], dim=-1)

    def to_env(self, actions: torch.Tensor) -> Values:
        shapes = [head.action_shape for head in self._heads]
        parts = zip(self._heads, _split_actions(actions, shapes))
        return nest(self._space, (head.to_env(part) for head, part in parts))

    def from_env(self, actions: Values) -> torch.Tensor:
        parts = zip(self._heads, (part for _, part in leaf_values(self._space, actions)))
        sampled = [head.from_env(part) for head, part in parts]
        return torch.cat([part.reshape(len(part), -1).float() for part in sampled], dim=-1)

    def _split(self, outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.split(outputs, [head.num_outputs for head in self._heads], dim=-1)

    def _stds(self, log_std: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        if log_std is None:
            return (None,) * len(self._heads)
        return torch.split(log_std, [head.num_log_std for head in self._heads], dim=-1)


class SideBySide(Distribution):
    """Independent distributions, whose values lie side by side along the last dimension.

    Args:
        parts: The distributions, of one batch shape.
        shapes: The shape of a value of each.
    """

    def __init__(self, parts: Sequence[Distribution], shapes: Sequence[tuple[int, ...]]):
        self.parts, self.shapes = parts, shapes
        size = sum(map(math.prod, shapes))
        super().__init__(parts[0].batch_shape, torch.Size([size]), validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        values = _split_actions(value, self.shapes)
        return _sum(part.log_prob(own) for part, own in zip(self.parts, values))  # type: ignore[no-untyped-call]

    def entropy(self) -> torch.Tensor:
        return _sum(part.entropy() for part in self.parts)  # type: ignore[no-untyped-call]


@register_kl(SideBySide, SideBySide)  # type: ignore[no-untyped-call,untyped-decorator]
def _(p: SideBySide, q: SideBySide) -> torch.Tensor:
    return _sum(kl_divergence(own, other) for own, other in zip(p.parts, q.parts))


def _sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).sum(0)


def _split_actions(actions: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Cut actions of shape (..., size) into parts of shape (..., *shape)."""
    parts = torch.split(actions, [math.prod(shape) for shape in shapes], dim=-1)
    return [part.reshape(*part.shape[:-1], *shape) for part, shape in zip(parts, shapes)]


_HEADS: dict[type, Callable[[Any, bool], ActionHead]] = {
    spaces.Box: BoxHead,
    spaces.Discrete: DiscreteHead,
    spaces.MultiDiscrete: MultiDiscreteHead,
    spaces.MultiBinary: MultiBinaryHead,
    spaces.Dict: CompositeHead,
    spaces.Tuple: CompositeHead,
}


def action_head(space: spaces.Space[Any], masked: bool = False) -> ActionHead:
    """Return the head of an action space.

    Args:
        space: The action space.
        masked: Whether actions may be forbidden.

    Raises:
        ValueError: If agents do not support the space.
    """
    check_space("action", space)
    return _head(space, masked)


def _head(space: spaces.Space[Any], masked: bool) -> ActionHead:
    return next(head for kind, head in _HEADS.items() if isinstance(space, kind))(space, masked)


def advice(space: spaces.Space[Any]) -> str | None:
    """Return a warning if an action space makes learning harder; otherwise None."""
    for _, part in leaves(space):
        if isinstance(part, spaces.Box) and (advised := _box_advice(part)):
            return advised
    return None


def _box_advice(space: spaces.Box) -> str | None:
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


def _possible(categories: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return categories, with the most likely one for any to which rounding led, and no chance."""
    chosen = categories.unsqueeze(-1)
    likely = logits.argmax(-1, keepdim=True)
    return torch.where(logits.gather(-1, chosen) > IMPOSSIBLE, chosen, likely).squeeze(-1)


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
