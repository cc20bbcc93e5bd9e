"""Recurrent cells: the state is a vector of fixed length."""

from collections.abc import Callable

import torch
from torch import nn

from metarl.agents.common.initialization import uniform_
from metarl.agents.common.memory.contract import Memory, MemorySizes, State
from metarl.agents.training.config import Config


def recurrent_cell(
    kind: Callable[[int, int], nn.RNNBase],
    input_size: int,
    hidden_size: int,
    generator: torch.Generator,
) -> nn.RNNBase:
    """Return a recurrent cell of one layer, with weights from the generator."""
    cell = kind(input_size, hidden_size)
    for weights in cell.parameters():
        uniform_(weights, hidden_size, generator)
    return cell


def run_gru(
    cell: nn.RNNBase, inputs: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features (T, n, hidden) of inputs, and the hidden vector (n, hidden) after."""
    if len(inputs) == 1:  # acting: the same numbers in less time
        hidden = torch.gru_cell(inputs[0], hidden, *cell.all_weights[0])
        return hidden[None], hidden
    features, after = cell(inputs, hidden[None])
    return features, after[0]


class GRU(Memory):
    """A gated recurrent unit (Cho et al. 2014). The state is its hidden vector, (n, hidden)."""

    steps_per_piece = 12_800

    def __init__(self, sizes: MemorySizes, config: Config, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        self.cell = recurrent_cell(nn.GRU, sizes.inputs, sizes.hidden, generator)

    def initial_state(self, num_lanes: int) -> State:
        return next(self.parameters()).new_zeros(num_lanes, self.sizes.hidden)

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        return run_gru(self.cell, inputs, state)


class LSTM(Memory):
    """Long short-term memory (Hochreiter and Schmidhuber 1997).

    The state is the hidden and the cell vector, (n, hidden) each.
    """

    def __init__(self, sizes: MemorySizes, config: Config, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        self.cell = recurrent_cell(nn.LSTM, sizes.inputs, sizes.hidden, generator)
        with torch.no_grad():  # a memory that lasts from the start (Jozefowicz et al. 2015)
            self.cell.get_parameter("bias_ih_l0")[sizes.hidden : 2 * sizes.hidden] += 1.0

    def initial_state(self, num_lanes: int) -> State:
        zeros = next(self.parameters()).new_zeros(num_lanes, self.sizes.hidden)
        return zeros, zeros

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        hidden, cell = state
        if len(inputs) == 1:  # acting: a sequence of one takes twice as long as a cell
            hidden, cell = torch.lstm_cell(inputs[0], (hidden, cell), *self.cell.all_weights[0])
            return hidden[None], (hidden, cell)
        features, (hidden, cell) = self.cell(inputs, (hidden[None], cell[None]))
        return features, (hidden[0], cell[0])
