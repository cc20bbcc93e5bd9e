"""Memories of RL²'s network: what they have seen of a trial, as a tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import nn

from metarl.agents.actions import orthogonal_, uniform_


class Memory(nn.Module, ABC):
    """An encoder and a recurrent cell. Its state is one tensor, (num_slots, n, hidden_size).

    Args:
        input_size: The length of an input row.
        hidden_size: The number of units of the cell.
        encoder: The sizes of tanh layers before the cell.
        generator: The source of the initial weights.

    Attributes:
        cell_class: The recurrent cell of PyTorch, of one layer.
        num_slots: How many tensors of shape (n, hidden_size) the state is made of.
        steps_per_piece: How many steps, of all trials together, one thread takes at a time in an
            update: the most that stay in a core's cache.
    """

    cell_class: Callable[[int, int], nn.RNNBase]
    num_slots: int
    steps_per_piece: int

    def __init__(
        self, input_size: int, hidden_size: int, encoder: Sequence[int], generator: torch.Generator
    ):
        super().__init__()
        self.hidden_size = hidden_size
        layers: list[nn.Module] = []
        for size in encoder:
            linear = nn.Linear(input_size, size)
            orthogonal_(linear, 2.0**0.5, generator)
            layers += [linear, nn.Tanh()]
            input_size = size
        self.encoder = nn.Sequential(*layers)
        self.cell = type(self).cell_class(input_size, hidden_size)
        for weights in self.cell.parameters():
            uniform_(weights, hidden_size, generator)

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return the state at the start of a trial: zeros, (num_slots, n, hidden_size)."""
        weights = next(self.cell.parameters())
        return weights.new_zeros(self.num_slots, num_trials, self.hidden_size)

    @abstractmethod
    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue from a state.

        Args:
            inputs: Input rows, of shape (time, n, input_size).
            state: The state before the first row.

        Returns:
            Features of shape (time, n, hidden_size), and the state after the last row.
        """


class GRU(Memory):
    """A gated recurrent unit (Cho et al. 2014)."""

    cell_class = nn.GRU
    num_slots = 1
    steps_per_piece = 12_800

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, after = self.cell(self.encoder(inputs), state)
        return features, after


class LSTM(Memory):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): slots are hidden and cell state."""

    cell_class = nn.LSTM
    num_slots = 2
    steps_per_piece = 6_400

    def __init__(
        self, input_size: int, hidden_size: int, encoder: Sequence[int], generator: torch.Generator
    ):
        super().__init__(input_size, hidden_size, encoder, generator)
        with torch.no_grad():  # a memory that lasts from the start (Jozefowicz et al. 2015)
            self.cell.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] += 1.0

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.encoder(inputs)
        if len(inputs) == 1:  # acting: a sequence of one takes twice as long as a cell
            weights = self.cell.all_weights[0]
            after = torch.stack(torch.lstm_cell(encoded[0], tuple(state), *weights))
            return after[:1], after
        features, (hidden, cell) = self.cell(encoded, (state[:1], state[1:]))
        return features, torch.cat([hidden, cell])


MEMORIES: dict[str, type[GRU | LSTM]] = {"gru": GRU, "lstm": LSTM}
