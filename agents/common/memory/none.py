"""No memory: the control that separates a memory's work from its trainer's."""

import torch
from torch import nn

from metarl.agents.common.layers import tanh_layers
from metarl.agents.common.memory.contract import Memory, MemorySizes, State
from metarl.agents.training.config import Config


class NoMemory(Memory):
    """A tanh layer on the present observation; the state is empty.

    Last action, last reward and episode end are hidden from it: a policy that sees them remembers a
    step. What it earns is what the trainer and the network reach without adapting.
    """

    remembers = False
    steps_per_piece = 12_800

    def __init__(self, sizes: MemorySizes, config: Config, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        self.layer: nn.Module = tanh_layers(sizes.inputs, [sizes.hidden], generator)

    def initial_state(self, num_lanes: int) -> State:
        return ()

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        return self.layer(inputs), state
