"""What a memory is, and what can be done with the state of any."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import nn

from metarl.agents.training.config import Config

State: TypeAlias = Any
"""A tensor, or a tuple, named tuple, list or dictionary of states. Lanes are along dimension 0 of
every tensor. Dimension 1 may grow, as a list of past steps does: :func:`select` fills up with zeros
where one state is shorter than another."""


@dataclass(frozen=True)
class MemorySizes:
    """The sizes that a memory is built for.

    Attributes:
        inputs: The length of an input.
        row: How many of its first entries are the step itself: observation, last action, last
            reward, episode end. Features of images follow; after encoder layers, which mix
            both, it is the whole input.
        hidden: The length of the features that a memory returns.
    """

    inputs: int
    row: int
    hidden: int


@dataclass(frozen=True)
class NoOptions(Config):
    """The options of a memory that has none."""


class Memory(nn.Module, ABC):
    """A sequence model that reads a trial, step by step or all of it at once.

    Lanes are trials side by side. In every tensor of the state they are along dimension 0, so that
    a lane can be reset, or kept as it was while others took a step, whatever the state is.

    Args:
        sizes: The sizes it is built for.
        config: Its options, of its ``config_class``.
        generator: The source of the initial weights.

    Attributes:
        config_class: The dataclass of its options, the ``memory_kwargs``.
        steps_per_piece: How many steps, of all trials together, one thread takes at a time in an
            update: the most that stay in a core's cache.
        remembers: Whether features depend on earlier steps. Where they do not, the network shows it
            the observation alone.
    """

    config_class: ClassVar[type[Config]] = NoOptions
    steps_per_piece: int = 6_400
    remembers: ClassVar[bool] = True

    def __init__(self, sizes: MemorySizes, config: Config, generator: torch.Generator):
        super().__init__()
        self.sizes = sizes

    @abstractmethod
    def initial_state(self, num_lanes: int) -> State:
        """Return the state of lanes at the start of a trial."""

    def reset(self, state: State, where: torch.Tensor) -> State:
        """Return a state in which some lanes are at the start of a trial.

        Args:
            state: The state; it is not changed.
            where: Which lanes, of shape (n,).
        """
        return select(where, self.initial_state(len(where)), state)

    @abstractmethod
    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        """Read on from a state.

        Features of a step depend on inputs up to that step alone, and on those of their own lane.

        Args:
            inputs: The inputs of one or more successive steps, of shape (T, n, sizes.inputs).
            state: The state before the first of them; it must not be changed.
            time: The index of each step in its trial, of shape (T, n); int64.
            starts: Whether the step is the first of an episode, of shape (T, n).

        Returns:
            Features of shape (T, n, sizes.hidden), and the state after the last step.
        """


def in_export() -> bool:
    """Return whether a graph is being made of one step, without branches on shapes and times."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing


def map_state(function: Callable[..., torch.Tensor], state: State, *others: State) -> State:
    """Apply a function to each tensor of a state, and to those at the same place in others."""
    if isinstance(state, torch.Tensor):
        return function(state, *others)
    if isinstance(state, Mapping):
        return {key: map_state(function, state[key], *(o[key] for o in others)) for key in state}
    parts = [map_state(function, *parts) for parts in zip(state, *others)]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def tensors_of(state: State) -> list[torch.Tensor]:
    """Return the tensors of a state, in the order in which :func:`map_state` meets them."""
    tensors: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        tensors.append(tensor)
        return tensor

    map_state(keep, state)
    return tensors


def select(where: torch.Tensor, chosen: State, others: State) -> State:
    """Return a state that is ``chosen`` in some lanes and ``others`` in the rest.

    Args:
        where: Which lanes are chosen, of shape (n,).
        chosen: A state of n lanes.
        others: Another of the same kind. Where one is shorter along dimension 1, it is filled up
            with zeros at the end.
    """

    def pick(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if one.data_ptr() == other.data_ptr() and one.shape == other.shape:
            return one  # a cache that both share
        if one.shape != other.shape:
            length = max(one.shape[1], other.shape[1])
            one, other = _lengthened(one, length), _lengthened(other, length)
        return torch.where(where.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return map_state(pick, chosen, others)


def _lengthened(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Return a tensor of shape (n, k, ...) as one of shape (n, length, ...), zero from k on."""
    missing = length - tensor.shape[1]
    return nn.functional.pad(tensor, (*[0, 0] * (tensor.ndim - 2), 0, missing))
