"""The recurrent actor-critic of RL²."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from metarl.agents.policies import ActionHead, orthogonal_, uniform_
from metarl.errors import check_at_least, check_names

_CELLS: dict[str, Callable[[int, int], nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentActorCritic(nn.Module):
    """A recurrent network with a policy head and a value head.

    Input rows pass an optional multilayer perceptron, then the cell, then linear heads. The
    memory is one tensor of shape (num_slots, n, hidden_size): a GRU has one slot, an LSTM two
    (hidden and cell state).

    Args:
        input_size: The length of an input row.
        action_space: The action space.
        generator: The source of the initial weights.
        hidden_size: The number of units of the cell.
        cell: ``"gru"`` or ``"lstm"``.
        encoder: The sizes of tanh layers before the cell.
        separate_critic: Whether the critic has an encoder and a cell of its own.
        log_std_init: The initial log standard deviation of Box actions, in units of half the
            action range.

    Raises:
        ValueError: If a size is below 1 or the cell is unknown.
    """

    def __init__(
        self,
        input_size: int,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        hidden_size: int = 128,
        cell: str = "gru",
        encoder: Sequence[int] = (),
        separate_critic: bool = False,
        log_std_init: float = -0.5,
    ):
        super().__init__()
        check_at_least(
            1, hidden_size=hidden_size, **{f"encoder[{i}]": n for i, n in enumerate(encoder)}
        )
        check_names([cell], _CELLS, "cell")
        self.cell = cell
        self.action_head = ActionHead(action_space)
        self.actor = _Memory(input_size, hidden_size, cell, encoder, generator)
        self.critic = (
            _Memory(input_size, hidden_size, cell, encoder, generator) if separate_critic else None
        )
        self.policy = nn.Linear(hidden_size, self.action_head.num_outputs)
        self.value = nn.Linear(hidden_size, 1)
        orthogonal_(self.policy, 0.01, generator)
        orthogonal_(self.value, 1.0, generator)
        self.log_std = (
            nn.Parameter(torch.full((self.action_head.num_outputs,), log_std_init))
            if self.action_head.has_log_std
            else None
        )

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return the actor's memory at the start of a trial: zeros, (num_slots, n, hidden)."""
        return self.actor.initial_state(num_trials)

    def act(self, inputs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Go on from a memory.

        Args:
            inputs: Input rows, of shape (time, n, input_size).
            state: The memory before the first row, of shape (num_slots, n, hidden_size).

        Returns:
            What :meth:`distribution` takes, of shape (time, n, num_outputs), and the memory after
            the last row.
        """
        features, after = self.actor(inputs, state)
        return self.policy(features), after

    def distribution(self, outputs: torch.Tensor) -> torch.distributions.Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.action_head.distribution(outputs, self.log_std)

    def sample(self, outputs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Draw actions from the policy's outputs; the most likely ones without a generator."""
        return self.action_head.sample(outputs, self.log_std, generator)

    def forward(
        self, inputs: torch.Tensor
    ) -> tuple[torch.distributions.Distribution, torch.Tensor]:
        """Run over whole trials, from an empty memory.

        Args:
            inputs: Input rows, of shape (time, n, input_size).

        Returns:
            The action distribution over (time, n), and the values of shape (time, n).
        """
        features, _ = self.actor(inputs, self.actor.initial_state(inputs.shape[1]))
        return self.distribution(self.policy(features)), self.values(inputs, features)

    def values(self, inputs: torch.Tensor, features: torch.Tensor | None = None) -> torch.Tensor:
        """Return the values alone, of shape (time, n).

        Args:
            inputs: Input rows of whole trials, of shape (time, n, input_size).
            features: The actor's outputs, if they are known.
        """
        if self.critic is not None:
            features, _ = self.critic(inputs, self.critic.initial_state(inputs.shape[1]))
        elif features is None:
            features, _ = self.actor(inputs, self.actor.initial_state(inputs.shape[1]))
        values: torch.Tensor = self.value(features)
        return values.squeeze(-1)


class _Memory(nn.Module):
    """Encoder and recurrent cell."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell: str,
        encoder: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_slots = 2 if cell == "lstm" else 1
        layers: list[nn.Module] = []
        for size in encoder:
            linear = nn.Linear(input_size, size)
            orthogonal_(linear, 2.0**0.5, generator)
            layers += [linear, nn.Tanh()]
            input_size = size
        self.encoder = nn.Sequential(*layers)
        self.cell = _CELLS[cell](input_size, hidden_size)
        for weights in self.cell.parameters():
            uniform_(weights, hidden_size, generator)
        if cell == "lstm":  # a memory that lasts from the start (Jozefowicz et al. 2015)
            with torch.no_grad():
                self.cell.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] += 1.0

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return zeros of shape (num_slots, n, hidden_size)."""
        weights = next(self.cell.parameters())
        return weights.new_zeros(self.num_slots, num_trials, self.hidden_size)

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.encoder(inputs)
        if self.num_slots == 1:
            features, after = self.cell(encoded, state)
            return features, after
        if len(inputs) == 1:  # a sequence of one takes twice as long as a cell
            weights = self.cell.all_weights[0]
            after = torch.stack(torch.lstm_cell(encoded[0], tuple(state), *weights))
            return after[:1], after
        features, (hidden, cell) = self.cell(encoded, (state[:1], state[1:]))
        return features, torch.cat([hidden, cell])
