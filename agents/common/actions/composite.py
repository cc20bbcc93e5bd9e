"""Actions of several parts: the spaces Dict and Tuple."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch.distributions import Distribution, kl_divergence, register_kl

from metarl.agents.common.actions.contract import ActionHead
from metarl.agents.common.actions.heads import simple_head
from metarl.agents.common.noise import ActionNoise
from metarl.batches import nest
from metarl.spaces import Values, leaf_values, leaves


class CompositeHead(ActionHead):
    """The heads of the parts of a Dict or Tuple space, which are drawn independently.

    The parts of outputs, log standard deviations and sampled actions lie side by side, in the order
    of :func:`metarl.spaces.leaves`.
    """

    def __init__(self, space: spaces.Space[Any], masked: bool = False):
        super().__init__(space, masked)
        self._space = space
        self._heads = [simple_head(part, masked) for _, part in leaves(space)]
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
