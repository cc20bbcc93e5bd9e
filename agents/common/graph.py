"""A trained agent's step as a graph of tensors, from raw observations to raw actions."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from metarl.agents.common.actions import LOG_STD_MAX, LOG_STD_MIN
from metarl.spaces import Space, action_scale, is_bytes, is_image, leaves


class Input(NamedTuple):
    """An input of a graph, as it is at the start of a trial: zero.

    Attributes:
        name: Its name.
        start: Its first value.
        grows: Whether its first dimension grows.
    """

    name: str
    start: torch.Tensor
    grows: bool = False


class PolicyGraph(nn.Module):
    """One step of an agent in one environment, without a batch dimension.

    Inputs are an observation, for agents with a memory the last action, its reward and whether it
    ended an episode, and a state. All are zero at the start of a trial. Outputs are the most likely
    action, what its distribution is defined by, and the next state. Nested spaces have an input or
    output for each part.

    Args:
        observation_space: The space of observations.
        action_space: The space of actions.
        reads_history: Whether last actions, rewards and episode ends are inputs.
        state: The state at the start of a trial.
    """

    def __init__(
        self, observation_space: Space, action_space: Space, reads_history: bool, state: list[Input]
    ):
        super().__init__()
        self._spaces = observation_space, action_space
        self._reads_history = reads_history
        self.state = state

    @property
    def inputs(self) -> list[Input]:
        """The inputs in order, the state last."""
        found = [Input(name, _start(leaf)) for name, leaf in named("observation", self._spaces[0])]
        if self._reads_history:
            found += [
                Input(name, _start(leaf)) for name, leaf in named("last_action", self._spaces[1])
            ]
            found.append(Input("last_reward", torch.zeros(())))
            found.append(Input("last_episode_end", torch.zeros((), dtype=torch.bool)))
        return found + self.state

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs in order, the next state last."""
        found = []
        for name, leaf in named("", self._spaces[1]):
            parameters = ("mean", "std") if isinstance(leaf, spaces.Box) else ("logits",)
            found += [f"{each}{name}" for each in ("action", *parameters)]
        return found + [f"next_{each.name}" for each in self.state]

    @abstractmethod
    def choose(
        self,
        row: torch.Tensor,
        pixels: torch.Tensor,
        history: torch.Tensor,
        state: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor | None, Sequence[torch.Tensor]]:
        """Take a step.

        Args:
            row: The observation but for its images, of shape (size,).
            pixels: Its images, uint8, of shape (num_pixels,).
            history: Last action, reward and episode end, of shape (action_size + 2,); or empty.
            state: The state.

        Returns:
            The policy's outputs, of shape (num_outputs,), its log standard deviations, of shape
            (num_log_std,), and the next state.
        """

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the values of ``outputs`` from those of ``inputs``."""
        given = iter(values)
        rows, pixels = [], [torch.zeros(0, dtype=torch.uint8)]
        for _, leaf in leaves(self._spaces[0]):
            value = next(given)
            if is_image(leaf):
                pixels.append(value.reshape(-1))
            else:
                rows.append(_encoded(leaf, value))
        history = []
        if self._reads_history:
            history += [_encoded(leaf, next(given)) for _, leaf in leaves(self._spaces[1])]
            history += [next(given).reshape(1), next(given).reshape(1).float()]
        outputs, log_std, state = self.choose(
            _joined(rows), torch.cat(pixels), _joined(history), list(given)
        )
        return (*self._actions(outputs, log_std), *state)

    def _actions(
        self, outputs: torch.Tensor, log_std: torch.Tensor | None
    ) -> Iterator[torch.Tensor]:
        """Yield for each part of an action the most likely one, and its distribution."""
        start = start_std = 0
        for _, leaf in leaves(self._spaces[1]):
            size = spaces.flatdim(leaf)
            # Each operation takes time, as much as that of a matrix here: none without effect.
            own = outputs if size == len(outputs) else outputs[start : start + size]
            start += size
            if isinstance(leaf, spaces.Box):
                assert log_std is not None
                std = log_std[start_std : start_std + size].clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
                start_std += size
                yield from _stretched(leaf, own, std)
            else:
                yield _likely(leaf, own)
                yield own


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts or [torch.zeros(0)])


def named(name: str, space: Space) -> Iterator[tuple[str, Space]]:
    """Yield the parts of a space, named by the keys that lead to them, as ``NAME.key.0``."""
    for path, leaf in leaves(space):
        yield ".".join([name, *map(str, path)]), leaf


def _start(leaf: Space) -> torch.Tensor:
    return torch.from_numpy(np.zeros(leaf.shape or (), dtype=leaf.dtype))


def _encoded(leaf: Space, value: torch.Tensor) -> torch.Tensor:
    """Return a value of a plain space as :func:`metarl.spaces.flatten` does, of shape (size,)."""
    if isinstance(leaf, spaces.Discrete):
        return (value == torch.arange(int(leaf.n)) + int(leaf.start)).float()
    if isinstance(leaf, spaces.MultiDiscrete):
        parts = zip(value.reshape(-1).unbind(), leaf.nvec.ravel(), leaf.start.ravel())
        return torch.cat([(p == torch.arange(int(n)) + int(s)).float() for p, n, s in parts])
    row = value if len(leaf.shape or ()) == 1 else value.reshape(-1)
    row = row if row.dtype == torch.float32 else row.float()
    return row / 255 if is_bytes(leaf) else row


def _likely(leaf: Space, logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely value of a part that is no Box."""
    if isinstance(leaf, spaces.Discrete):
        return logits.argmax() + int(leaf.start)
    if isinstance(leaf, spaces.MultiDiscrete):
        parts = torch.split(logits, leaf.nvec.ravel().tolist())
        best = torch.stack([part.argmax() for part in parts])
        return (best + torch.as_tensor(leaf.start.ravel())).reshape(leaf.shape)
    return (logits > 0).to(_start(leaf).dtype).reshape(leaf.shape or ())


def _stretched(
    leaf: spaces.Box, outputs: torch.Tensor, std: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Yield action, mean and standard deviation in the units of a Box."""
    dtype = _start(leaf).dtype
    exact = dtype if dtype.is_floating_point else torch.float64
    center, half_range = (torch.from_numpy(part).to(exact) for part in action_scale(leaf))
    outputs = outputs if exact == torch.float32 else outputs.to(exact)
    outputs = outputs if len(leaf.shape) == 1 else outputs.reshape(leaf.shape)
    mean = center + half_range * outputs
    low, high = (torch.from_numpy(np.array(b)).to(exact) for b in (leaf.low, leaf.high))
    action = mean if dtype.is_floating_point else mean.round()
    clipped = torch.minimum(torch.maximum(action, low), high)
    yield clipped if dtype == exact else clipped.to(dtype)
    yield mean if exact == torch.float32 else mean.float()
    yield (half_range * std.to(exact).reshape(leaf.shape)).float()
