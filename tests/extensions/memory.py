"""A memory of one's own: decaying sums."""

from dataclasses import dataclass

import torch
from torch import nn

from metarl.agents import Memory, register_memory
from metarl.agents.training.config import Config, Share


@dataclass(frozen=True)
class TracesConfig(Config):
    """The options of traces."""

    decay: Share = 0.9
    """How much of a trace is left after a step."""


class Traces(Memory):
    """Decaying sums of what was seen; the state is these sums, (n, hidden)."""

    config_class = TracesConfig

    def __init__(self, sizes, config, generator):
        super().__init__(sizes, config, generator)
        self.decay = config.decay
        self.new = nn.Linear(sizes.inputs, sizes.hidden)
        self.join = nn.Linear(sizes.inputs + sizes.hidden, sizes.hidden)

    def initial_state(self, num_lanes):
        return self.new.weight.new_zeros(num_lanes, self.sizes.hidden)

    def forward(self, inputs, state, time, starts):
        traces = []
        for new in torch.tanh(self.new(inputs)):  # step by step; each of shape (n, hidden)
            state = self.decay * state + new
            traces.append(state)
        joined = torch.cat([inputs, torch.stack(traces)], dim=-1)
        return torch.tanh(self.join(joined)), state


register_memory("traces", Traces)
